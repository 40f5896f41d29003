"""Files that a run has left: which patterns match, and what a runner may say of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.collected import Collected
from pool.inside.patterns import matcher
from pool.inside.protocol import FOUND, Found, FrameError
from pool.job import InputFile, Job, OutputFile


@pytest.mark.parametrize(
    ("pattern", "matches", "does_not"),
    [
        (
            "*.png",
            ["a.png", "a b.png", "a\nb.png"],
            ["d/a.png", ".png", ".a.png", "a.pngx", "a.PNG"],
        ),
        ("out/**", ["out/a", "out/b/c"], ["out", "a", "out/.a", "out/.b/c", "xout/a"]),
        ("**", ["a", "b/c/d"], [".a", ".b/c", "b/.c"]),
        ("**/*.png", ["a.png", "b/c/d.png"], ["b/.d.png", ".b/a.png", "a.pn"]),
        ("a/**/b/**/c", ["a/b/c", "a/x/y/b/z/c"], ["a/c", "a/b/.z/c"]),
        (".cache/**", [".cache/a"], ["cache/a", ".cache/.b"]),
        (".*", [".a"], ["a"]),
        ("?[ab]?", ["xax", "ybz"], ["xcx", ".ax", "xa", "x/x"]),
        ("[!a]x", ["bx"], ["ax", "/x", ".x"]),
        ("[a-c]", ["b"], ["d"]),
        ("[]]", ["]"], ["a"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("a[", ["a["], ["a"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("a.b+(c)|d\\", ["a.b+(c)|d\\"], ["axb+(c)|d"]),
        ("[\\d]", ["d", "\\"], ["1"]),
    ],
)
def test_patterns_have_the_rules_of_a_shell(
    pattern: str, matches: list[str], does_not: list[str]
) -> None:
    assert [one for one in matches + does_not if matcher([pattern]).fullmatch(one)] == matches


def fits(pattern: list[str], path: list[str]) -> bool:
    """Say by the plainest rules, one way after the other, if the parts of a path match."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**" and not rest:
        return bool(path) and not any(part.startswith(".") for part in path)
    if first == "**":
        most = next((at for at, part in enumerate(path) if part.startswith(".")), len(path))
        return any(fits(rest, path[at:]) for at in range(most + 1))
    hidden = bool(path) and path[0].startswith(".") and first[0] in "*?["
    return bool(path) and not hidden and fits_part(first, path[0]) and fits(rest, path[1:])


def fits_part(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(fits_part(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and fits_part(pattern[1:], name[1:])


part = st.text("ab.", min_size=1, max_size=4)
wild = st.text("ab.*?", min_size=1, max_size=5).filter(lambda text: text.strip("*"))


@given(
    st.lists(wild | st.sampled_from(["*", "**"]), min_size=1, max_size=5),
    st.lists(part, min_size=1, max_size=5),
)
def test_patterns_match_what_any_way_to_place_their_wildcards_would(
    pattern: list[str], path: list[str]
) -> None:
    found = matcher(["/".join(pattern)]).fullmatch("/".join(path))
    assert bool(found) == fits(pattern, path)


def test_no_pattern_takes_longer_than_some_steps_for_each_character() -> None:
    """Before, each of these would have taken longer than the universe."""
    assert not matcher(["*a" * 120 + "b"]).fullmatch("a" * 255)
    assert not matcher(["**/a/" * 60 + "b"]).fullmatch("a/" * 120 + "a")
    assert matcher(["*a" * 120 + "*"]).fullmatch("a" * 255)


def found(what: Found, name: bytes, size: int, content: bytes = b"") -> bytes:
    return FOUND.pack(what, len(name), size) + name + content


END = FOUND.pack(Found.END, 0, 0)
JOB = Job(
    b"", files=[InputFile("in", b"same")], collect=["**"], collect_limit_bytes=10, collect_max=3
)


def told(*said: bytes) -> tuple[list[OutputFile], str]:
    collected = Collected(JOB)
    for one in said:
        collected.add(one)
    return collected.result()


def test_files_come_sorted_and_inputs_only_with_another_content() -> None:
    said = (
        found(Found.CONTENT, b"z", 0),
        found(Found.CONTENT, b"in", 4, b"same"),
        found(Found.CONTENT, b"a\xff", 3, b"xyz"),
        END,
    )
    for cut in range(1, 30):
        whole = b"".join(said)
        files, omitted = told(*(whole[at : at + cut] for at in range(0, len(whole), cut)))
        names = [(file.name, bytes(file.content or b"")) for file in files]
        assert (names, omitted) == ([("a\\xff", b"xyz"), ("z", b"")], "")
    changed, _ = told(found(Found.CONTENT, b"in", 4, b"diff"), END)
    assert [file.name for file in changed] == ["in"]


def test_what_has_no_content_says_why() -> None:
    files, omitted = told(
        found(Found.OVER_LIMIT, b"big", 1 << 40),
        found(Found.UNREADABLE, b"shut", 0),
        FOUND.pack(Found.END, 0, 7),
    )
    assert [(file.name, file.size_bytes, file.content) for file in files] == [
        ("big", 1 << 40, None),
        ("shut", 0, None),
    ]
    assert [file.omitted for file in files] == [
        "the files together are over the limit",
        "the run itself may not read it",
    ]
    assert omitted == "7 more matched, but at most 3 are returned"


@pytest.mark.parametrize(
    "end", [found(Found.CONTENT, b"b", 9)[:9], FOUND.pack(Found.CUT_SHORT, 0, 0)]
)
def test_an_account_without_an_end_is_not_taken_for_a_whole_one(end: bytes) -> None:
    files, omitted = told(found(Found.CONTENT, b"a", 1, b"x"), end)
    assert [file.name for file in files] == ["a"]
    assert "could not all be read" in omitted


def test_files_that_no_process_could_read_are_omitted_with_the_cause() -> None:
    files, omitted = told(FOUND.pack(Found.NO_PROCESS, 0, 0))
    assert files == []
    assert omitted == "they could not be read: the session has too many processes or threads"


@pytest.mark.parametrize(
    "said",
    [
        found(Found.CONTENT, b"a", 11),
        found(Found.CONTENT, b"a", 6, b"123456") + found(Found.CONTENT, b"b", 5),
        found(Found.CONTENT, b"a" * 4097, 1),
        b"\x09" + found(Found.CONTENT, b"a", 1)[1:],
        END + END,
        found(Found.OVER_LIMIT, b"a", 1) * 5,
    ],
)
def test_a_runner_that_says_too_much_is_not_believed(said: bytes) -> None:
    with pytest.raises(FrameError):
        told(said)


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_are_an_account_or_an_error_and_are_bounded(data: bytes, cut: int) -> None:
    try:
        files, _ = told(*(data[at : at + cut] for at in range(0, len(data), cut)))
    except FrameError:
        return
    assert len(files) <= 4
    assert sum(len(file.content or b"") for file in files) <= 10
