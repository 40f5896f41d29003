"""Why no build of a package fits an image: the sentence names what helps, and nothing else."""

from __future__ import annotations

import json

import pytest
from packaging.requirements import Requirement

from pool.dependencies.unfit import MAX_BUILDS, unfit_builds

GLIBC = "x-2.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


def said(*files: str, wanted: str = "x", reason: str = "tags", **told: object) -> str | None:
    interpreter = {"python": "3.13", "libc": "musl", "machine": "x86_64"}
    answer = {"builds": [(file, reason) for file in files], **interpreter, **told}
    return unfit_builds(Requirement(wanted), json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("files", "reason", "helps"),
    [
        ([GLIBC], "tags", "an image with glibc, such as python:slim"),
        (["x-2.0-cp39-abi3-manylinux_2_17_x86_64.whl"], "tags", "an image with glibc"),
        ([GLIBC, "x-2.0-cp39-cp39-win_amd64.whl"], "tags", "an image with glibc"),
        (["x-2.0-cp39-cp39-musllinux_1_2_x86_64.whl"], "tags", "another Python"),
        (["x-2.0-cp39-cp39-manylinux2014_x86_64.whl"], "tags", "another Python"),
        (["x-2.0-py2-none-any.whl"], "tags", "another Python"),
        (["x-2.0-py3-none-any.whl", "x-2.0.tar.gz"], "python", "another Python"),
        (["x-2.0-cp313-cp313-win_amd64.whl"], "tags", "other systems than Linux"),
        (["x-2.0-cp313-cp313-macosx_11_0_arm64.whl"], "tags", "other systems than Linux"),
        (["x-2.0-cp313-cp313-musllinux_1_2_aarch64.whl"], "tags", "other processors than x86_64"),
        (["x-2.0.tar.gz", "x-1.0.zip"], "source", "PGEXEC_DEPENDENCY_BINARY_ONLY"),
    ],
)
def test_what_helps_follows_from_what_the_builds_are_for(
    files: list[str], reason: str, helps: str
) -> None:
    sentence = said(*files, reason=reason) or ""
    assert sentence.startswith(f"x exists, but none of its {len(files)} builds is for Python 3.13")
    assert helps in sentence
    assert "\n" not in sentence


def test_only_builds_of_the_versions_that_are_wanted_count() -> None:
    assert "x>=2 exists, but none of its 1 builds" in (
        said(GLIBC, "x-1.0-cp313-cp313-win_amd64.whl", wanted="x>=2") or ""
    )
    assert said(GLIBC, wanted="x>=3") == "x exists, but no version of it matches x>=3"


def test_on_glibc_an_image_with_musl_is_what_helps() -> None:
    sentence = said("x-2.0-cp313-cp313-musllinux_1_2_x86_64.whl", libc="glibc") or ""
    assert "an image with musl, such as python:alpine" in sentence


def test_an_answer_of_another_form_does_not_count() -> None:
    assert said() is None
    assert said("nonsense", "x-1-2-3-4-5-6-7.whl") is None
    assert said(GLIBC, python="<b>") is None
    assert said(GLIBC, machine="<b>") is None
    assert said(GLIBC, libc=1) is None
    assert said(GLIBC, builds=1) is None
    for answer in (b"[]", b"{}", b"Traceback"):
        assert unfit_builds(Requirement("x"), answer) is None


def test_file_names_with_tags_without_end_are_not_expanded() -> None:
    """A name stands for each interpreter with each ABI on each platform: here for 125 million."""
    tags = "-".join(".".join(f"{kind}{one}" for one in range(500)) for kind in "abp")
    assert said(f"x-2.0-{tags}.whl") is None


def test_builds_without_end_are_read_up_to_a_bound() -> None:
    sentence = said(*[f"x-{version}.0.tar.gz" for version in range(MAX_BUILDS + 1)]) or ""
    assert f"none of its {MAX_BUILDS} builds" in sentence


@pytest.mark.parametrize(
    "answer", [b"[" * 100_000, b'{"builds": ' * 20_000, b'{"python": ' + b"9" * 5000 + b"}"]
)
def test_an_answer_that_foreign_code_wrote_is_no_answer(answer: bytes) -> None:
    assert unfit_builds(Requirement("x"), answer) is None


def test_a_version_with_more_digits_than_a_number_may_have_is_no_version() -> None:
    assert said(f"x-{'9' * 5000}.tar.gz", f"x-{'9' * 5000}-py3-none-any.whl") is None
