"""Files of a request: their names, their contents, and bodies too long to be parsed in one go."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgexec.http import excerpt
from pgexec.http.errors import RequestError
from pgexec.http.excerpt import LONG_BYTES, parse_body
from pgexec.http.limits import RequestLimits
from pgexec.http.parsing import parse_run
from pool.job import OutputFile
from tests import sse
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.unit.http.rig import Running

LIMITS = RequestLimits(("python",), 30, 1 << 20, 1 << 20, 1 << 28, 1 << 20)
BASE64 = {"encoding": "base64"}


def file(name: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "content": content, **more}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def body(*files: Any, ascii_only: bool = True, **more: Any) -> bytearray:
    whole = {"language": "python", "code": "1", "files": list(files), **more}
    return bytearray(json.dumps(whole, ensure_ascii=ascii_only).encode())


def contents(data: bytearray) -> dict[str, bytes]:
    """Return the files of a request, by name, however long its body is."""
    request = asyncio.run(parse_body(data, LIMITS))
    return {one.name: bytes(one.data) for one in request.files}


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        ("x", "invalid_field", "field 'files' must be a list of objects with a name and a content"),
        (["x"], "invalid_field", "and a content, not a list with a string in it"),
        ([{"name": "a"}], "missing_field", "file 1 of field 'files' has no 'content'"),
        (
            [file("a", 1)],
            "invalid_field",
            "file 1 of field 'files' must have a string as its",
        ),
        (
            [file("a"), file("b", None)],
            "invalid_field",
            "file 2 of field 'files' must have",
        ),
        ([file("a", encoding="hex")], "invalid_field", "'utf8' or 'base64' as its 'encoding', not"),
        (
            [file("a", mode=7)],
            "unknown_field",
            "has a field 'mode', which is unknown; there",
        ),
        ([file(str(n)) for n in range(101)], "invalid_field", "'files' may have at most 100 items"),
        ([file("/etc/passwd")], "invalid_file", "file '/etc/passwd' must have a relative path"),
        (
            [file("../a")],
            "invalid_file",
            "file '../a' must not have a part '.' or '..' in its path",
        ),
        ([file("a/../b")], "invalid_file", "must not have a part '.' or '..'"),
        ([file("./a")], "invalid_file", "must not have a part '.' or '..'"),
        ([file("a/..")], "invalid_file", "must not have a part '.' or '..'"),
        ([file("")], "invalid_file", "file '' must not have an empty part in its path"),
        ([file("a//b")], "invalid_file", "must not have an empty part"),
        ([file("a/")], "invalid_file", "must not have an empty part"),
        ([file("a\0")], "invalid_file", "must not have a NUL character in its name"),
        ([file("é" * 128)], "invalid_file", "a part of more than 255 bytes in its path"),
        ([file("/".join(["abc"] * 257))], "invalid_file", "must have a path of at most 1024 bytes"),
        ([file("Main.py")], "invalid_file", "file 'Main.py' has the name of the script"),
        ([file("Main.py/a")], "invalid_file", "needs a directory where 'Main.py' is a file"),
        ([file("a"), file("a")], "invalid_file", "file 'a' comes twice"),
        (
            [file("a/b/c"), file("a/b")],
            "invalid_file",
            "'a/b/c' needs a directory where 'a/b'",
        ),
        ([file("a", "eA", **BASE64)], "invalid_file", "file 'a' is not base64, with padding and"),
        ([file("a", "eA==\n", **BASE64)], "invalid_file", "file 'a' is not base64"),
        ([file("a", "eA==eA==", **BASE64)], "invalid_file", "file 'a' is not base64"),
        ([file("a", "é", **BASE64)], "invalid_file", "file 'a' is not base64"),
    ],
)
def test_each_mistake_has_its_word_and_its_sentence(files: Any, code: str, sentence: str) -> None:
    data = body()
    data[-3:] = json.dumps(files).encode() + b"}"
    with pytest.raises(RequestError) as caught:
        parse_run(data, LIMITS)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (400, code)
    assert sentence in problem.sentence
    assert problem.sentence.isprintable()


def test_names_that_only_look_alike_are_different_files() -> None:
    names = [
        "A",
        "a",
        "\u00e9",
        "e\u0301",
        "a b",
        "-rf",
        "~",
        "a\\b",
        ".x",
        "..x",
        "x" * 255,
        "d/a",
    ]
    assert list(contents(body(*map(file, names)))) == names


def test_a_long_base64_passes_as_a_short_one_does() -> None:
    for size in (0, 1, 2, 3, 100, 12_287, 12_288, 12_289, 98_304, 300_000, 300_001):
        data = os.urandom(size)
        given = [file("a", encoded(data), **BASE64), file("b", "é\n")]
        long = body(*given, stdin=" " * LONG_BYTES)
        assert contents(body(*given)) == contents(long) == {"a": data, "b": "é\n".encode()}


ALPHABET = st.sampled_from(
    ['"', "\\", "/", "\n", "\0", "a", "é", "\u20ac", "\U0001f600", "\\u", ","]
)


@given(
    text=st.lists(ALPHABET, max_size=40).map("".join),
    ascii_only=st.booleans(),
    piece=st.integers(1, 30),
)
def test_text_of_any_content_passes_unharmed_however_it_is_cut(
    text: str, *, ascii_only: bool, piece: int
) -> None:
    """With pieces so small that every cut is tried; only an escape is never cut."""
    whole = text * (6_000 // max(1, len(text))) if text else ""
    data = body(file("a", whole[:300]), file("b", whole), ascii_only=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(excerpt, "LONG_BYTES", 0)
        patch.setattr(excerpt, "_TAKEN_BYTES", 100)
        patch.setattr(excerpt, "PIECE_BYTES", 12 + piece)
        assert contents(body(file("a", whole[:300]), ascii_only=ascii_only))["a"] == (
            whole[:300].encode()
        )
        patch.setattr(excerpt, "PIECE_BYTES", 2048 + piece)
        assert contents(data)["b"] == whole.encode()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\\ud800" + b"x" * 20_000, "invalid_json"),
        (b"x" * 20_000 + b"\\udc00", "invalid_json"),
        (b"x" * 20_000 + b"\xff", "invalid_json"),
        (b"x" * 20_000 + b"\n", "invalid_json"),
        (b"x" * 20_000 + b"\\x", "invalid_json"),
        (b"x" * 20_000 + b"\\u00", "invalid_json"),
        (b"x" * 20_000 + b"\xc3", "invalid_json"),
        (b'x", "encoding": "base64", "content": "' + b"eA==" * 60_000, "invalid_file"),
        (b'x", "encoding": "base64", "content": "' + b"eAAA" * 60_000 + b"=", "invalid_file"),
        (b'x", "encoding": "base64", "content": "' + b"!" * 60_000, "invalid_file"),
    ],
)
def test_a_long_content_that_is_wrong_is_refused_in_one_sentence(content: bytes, code: str) -> None:
    whole = body(file("a", "MARK"), stdin=" " * LONG_BYTES)
    with pytest.raises(RequestError) as caught:
        contents(bytearray(whole.replace(b"MARK", content)))
    assert caught.value.problem.code == code
    assert caught.value.problem.sentence.isprintable()


def test_slashes_may_be_escaped_in_base64_as_some_clients_do() -> None:
    data = b"\xff" * 30_000
    text = json.dumps(encoded(data)).replace("/", "\\/").encode()
    whole = body(file("a", "MARK", **BASE64), stdin=" " * LONG_BYTES)
    assert contents(bytearray(whole.replace(b'"MARK"', text))) == {"a": data}


def test_of_contents_that_come_twice_the_last_one_counts() -> None:
    one, two = b'"content": "' + b"1" * 20_000, b'", "content": "' + b"2" * 30_000
    whole = body(file("a", "MARK"), stdin=" " * LONG_BYTES)
    data = bytearray(whole.replace(b'"content": "MARK', one + two))
    assert contents(data) == {"a": b"2" * 30_000}


def test_what_looks_like_a_content_elsewhere_is_no_content() -> None:
    long = "x" * 20_000
    data = body(file("a"), stdin='"content": "' + long, env={"content": "e"}, args=['"content": "'])
    request = asyncio.run(parse_body(data + b" " * LONG_BYTES, LIMITS))
    assert request.stdin == '"content": "' + long
    assert (request.args, request.env) == (['"content": "'], {"content": "e"})
    data = body(file("a"), env={"content": "é" + long}) + b" " * LONG_BYTES
    assert asyncio.run(parse_body(data, LIMITS)).env == {"content": "é" + long}
    with pytest.raises(RequestError) as caught:
        contents(body(file("a"), env={"content": "x" * (1 << 17)}) + b" " * LONG_BYTES)
    assert caught.value.problem.code == "env_too_large"


@pytest.mark.parametrize("encoding", ["utf8", "base64"])
@pytest.mark.slow
def test_the_limit_counts_all_files_together_and_includes_its_end(encoding: str) -> None:
    half = encoded(bytes(8 << 20)) if encoding == "base64" else "x" * (8 << 20)
    files = [file(name, half, encoding=encoding) for name in "ab"]
    assert sum(map(len, contents(body(*files)).values())) == 16 << 20
    with pytest.raises(RequestError) as caught:
        contents(body(*files, file("c", "x")))
    problem = caught.value.problem
    assert (problem.status, problem.code) == (413, "files_too_large")
    assert problem.sentence == "the files are over the limit of 16 MiB together"


def test_without_files_a_body_may_not_be_longer_than_before() -> None:
    limits = RequestLimits(("python",), 30, 100, 100, 1, 1, plain_body_bytes=LONG_BYTES)
    for data in (b" " * LONG_BYTES + b"{}", body(file("a")) + b" " * LONG_BYTES):
        with pytest.raises(RequestError) as caught:
            asyncio.run(parse_body(bytearray(data), limits))
        assert caught.value.problem.code == "body_too_large"


PNG = b"\x89PNG\r\n" + bytes(range(256)) * 300
LEFT = [
    OutputFile("big", 1 << 40, None, "the files together are over the limit"),
    OutputFile("é.txt", 5, 'é\n"\u20ac'.encode()),
    OutputFile("plot.png", len(PNG), PNG),
    OutputFile("zeros", 100_000, bytes(100_000)),
    OutputFile("empty", 0, b""),
]
ASKED = {"language": "python", "code": "1", "collect": ["*"]}


def decoded(entry: dict[str, Any]) -> bytes:
    text = entry["content"]
    return base64.b64decode(text) if entry["encoding"] == "base64" else str(text).encode()


async def test_the_answer_has_each_file_as_text_or_as_base64(server: Running) -> None:
    server.service.result = make_result(files=LEFT, files_omitted="2 more matched")
    answer = (await server.post(ASKED)).json
    assert (answer["data"], answer["files_omitted"]) == ("1\n", "2 more matched")
    assert [one["name"] for one in answer["files"]] == [file.name for file in LEFT]
    assert answer["files"][0] == {
        "name": "big",
        "size_bytes": 1 << 40,
        "omitted": "the files together are over the limit",
    }
    assert [one["encoding"] for one in answer["files"][1:]] == ["utf8", "base64", "base64", "utf8"]
    assert [decoded(one) for one in answer["files"][1:]] == [file.content for file in LEFT[1:]]
    assert "files" not in (await server.post({"language": "python", "code": "1"})).json
    server.service.result = make_result()
    assert (await server.post(ASKED)).json["files"] == []


async def test_in_a_stream_files_come_before_the_result_which_only_lists_them(
    server: Running,
) -> None:
    server.service.result = make_result(files=LEFT)
    events = list(sse.parse((await server.post(ASKED, **sse.ASK)).body))
    assert [name for name, _ in events] == ["file"] * 5 + ["result"]
    assert [decoded(data) for _, data in events[1:5]] == [file.content for file in LEFT[1:]]
    listed = events[-1][1]["files"]
    assert [(one["name"], one["size_bytes"]) for one in listed] == [
        (file.name, file.size_bytes) for file in LEFT
    ]
    assert not any("content" in one for one in listed)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("/tmp/*", "must have a relative path"),
        ("../*", "must not have a part '.' or '..' in its path"),
        ("a/../../b", "must not have a part '.' or '..' in its path"),
        ("", "must not have an empty part in its path"),
        ("out/", "must not have an empty part in its path"),
        ("a\0", "must not have a NUL character in its name"),
        ("[z-a]", "has a set that cannot be: bad character range z-a"),
    ],
)
def test_a_pattern_that_could_match_nothing_below_is_refused(pattern: str, fault: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_run(body(collect=[pattern]), LIMITS)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (400, "invalid_field")
    assert problem.sentence.endswith(f"of field 'collect' {fault}")


class Steps:
    """Counts how much each step of the loop works on, between two turns."""

    def __init__(self, patch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> None:
        self.sizes = [0]
        self._turn = module.turn
        patch.setattr(module, "turn", self.turn)
        for name in names:
            patch.setattr(module, name, self.counted(getattr(module, name)))

    async def turn(self) -> None:
        self.sizes.append(0)
        await self._turn()

    def counted(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(piece: Any) -> Any:
            self.sizes[-1] += len(piece)
            return work(piece)

        return count


TEXT = '0,é,\u20ac,"x"\n' * (1 << 18)


@pytest.mark.parametrize(
    "data",
    [
        body(file("a", encoded(os.urandom(4 << 20)), **BASE64)),
        body(file("a", TEXT), ascii_only=False),
        body(file("a", TEXT)),
        body(code="#" + "\x01" * ((1 << 20) - 1), stdin="\x01" * (1 << 20)),
        body(stdins=["\x01" * (1 << 19)] * 4, expected=["é" * (1 << 18)] * 4),
    ],
)
def test_no_step_of_the_loop_decodes_more_than_a_piece_of_a_long_body(data: bytearray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, excerpt, "from_json", "_from_base64")
        asyncio.run(parse_body(data, LIMITS))
    assert sum(steps.sizes) > len(data) - 1000  # all of it was counted
    assert max(steps.sizes) <= 2 * excerpt.PIECE_BYTES + 10


@given(
    text=st.lists(ALPHABET, max_size=40).map("".join),
    ascii_only=st.booleans(),
    piece=st.integers(13, 2000),
)
def test_long_code_and_stdin_are_the_same_however_they_are_cut(
    text: str, *, ascii_only: bool, piece: int
) -> None:
    whole = "#" + text.replace("\0", "") * (3_000 // max(1, len(text)))
    given = {"expected": ["", whole], "compare": "exact"}
    data = body(code=whole, stdins=[whole + "\0", "x"], **given, ascii_only=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(excerpt, "LONG_BYTES", 0)
        patch.setattr(excerpt, "_TAKEN_BYTES", 100)
        patch.setattr(excerpt, "PIECE_BYTES", piece)
        assert asyncio.run(parse_body(data, LIMITS)) == parse_run(data, LIMITS)


@pytest.mark.parametrize("ends", [b'"}', b""])
@pytest.mark.parametrize(
    "wrong",
    [
        b"\\ud800",
        b"\\ud800x",
        b"\\udc00",
        b"\\ud83d\\u0041",
        b"\\x",
        b"\\u12",
        b"\\",
        b"\n",
        b"\xff",
    ],
)
@pytest.mark.parametrize("field", [b"code", b"stdin"])
def test_what_is_wrong_with_a_long_text_is_said_as_of_a_short_one(
    field: bytes, wrong: bytes, ends: bytes
) -> None:
    start = b'{"language": "python",\n "code": "1", "%b": "' % field
    if wrong == b"\xff":
        ends = b'"}'  # without an end, the parser does not come to its bytes
    data = start + b"x" * LONG_BYTES + wrong + b"yyyyyyyyyyyyyyyy" + ends
    with pytest.raises(RequestError) as in_pieces:
        asyncio.run(parse_body(bytearray(data), LIMITS))
    with pytest.raises(RequestError) as at_once:
        parse_run(data, LIMITS)
    assert in_pieces.value.problem == at_once.value.problem


def test_a_long_text_is_held_to_the_limits_of_its_field() -> None:
    limits = RequestLimits(("python",), 30, 300_000, 300_000, 1, 1)
    for data, code in (
        (body(code=" " * 300_000), "empty_code"),
        (body(code="\0" * 200_000), "invalid_code"),
        (body(code="é" * 150_001), "code_too_large"),
        (body(stdin="é" * 150_001), "stdin_too_large"),
    ):
        with pytest.raises(RequestError) as caught:
            asyncio.run(parse_body(data, limits))
        assert caught.value.problem.code == code
    request = asyncio.run(parse_body(body(code="é" * 150_000, env={"stdin": "x" * 20_000}), limits))
    assert (request.code, request.env) == ("é" * 150_000, {"stdin": "x" * 20_000})


def test_patterns_may_have_so_many_wildcards_together() -> None:
    most = ["*" * 8] * 64
    assert parse_run(body(collect=most), LIMITS).collect == most
    with pytest.raises(RequestError) as caught:
        parse_run(body(collect=["?*[a]" + "*" * 6, *most[1:]]), LIMITS)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (400, "invalid_field")
    assert problem.sentence == "field 'collect' may have at most 512 of *, ? and [ in all"


def test_the_search_for_long_texts_takes_a_turn_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else some hundred of 50 kB, each too short for a turn of its own, would hold up the loop."""
    turns = 0
    before_parsing: list[int] = []

    async def turn() -> None:
        nonlocal turns
        turns += 1

    def parse(*args: Any) -> Any:
        before_parsing.append(turns)
        return parse_run(*args)

    monkeypatch.setattr(excerpt, "turn", turn)
    monkeypatch.setattr(excerpt, "parse_run", parse)
    data = body(stdins=["\n" * 25_000] * 40)
    assert len(asyncio.run(parse_body(data, LIMITS)).stdins or ()) == 40
    assert before_parsing[0] >= 40
