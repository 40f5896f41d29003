"""What a model reads of a run."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp_types import CallToolResult, EmbeddedResource, ImageContent, TextContent

from pgexec.client import CompletedRun, Display, ReturnedFile, RunLost, RunRefused
from pgexec.mcp.answers import (
    MAX_BINARY_BYTES,
    MAX_CHARS,
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    answer_of,
    failure_of,
    shorten,
)


def run(*files: ReturnedFile, data: str = "", **fields: Any) -> CompletedRun:
    values = {
        "error": None,
        "status": "ok",
        "stdout": data,
        "stderr": "",
        "exit_code": 0,
        "signal": None,
        "duration_s": 0.1,
        "cpu_s": 0.1,
        "peak_memory_bytes": 1,
        "truncated": False,
        **fields,
    }
    return CompletedRun(data=data, files={file.name: file for file in files}, **values)


def file(name: str, content: bytes) -> ReturnedFile:
    return ReturnedFile(name, len(content), content)


def texts(answer: CallToolResult) -> list[str]:
    return [block.text for block in answer.content if isinstance(block, TextContent)]


def test_output_and_error_are_text_and_the_code_s_failure_is_no_error_of_the_tool() -> None:
    answer = answer_of(run(data="6\n", status="error", error="ValueError: no", exit_code=1))
    assert texts(answer) == ["6\n[error: ValueError: no]"]
    assert not answer.is_error
    assert answer.structured_content["error"] == "ValueError: no"
    assert answer.structured_content["stdout"] == "6\n"


def test_silence_and_a_cut_output_are_said() -> None:
    assert "only what the code prints" in texts(answer_of(run()))[0]
    assert texts(answer_of(run(), "s")) == ["[no output and no value]\n[session_id: s]"]
    assert texts(answer_of(run(data="x", files_omitted="9 more matched"))) == [
        "x\n[not all files came back: 9 more matched]"
    ]
    assert "the rest is lost" in texts(answer_of(run(data="x", truncated=True)))[0]


def test_long_text_keeps_its_beginning_and_end_and_says_what_is_left_out() -> None:
    long = "a" * MAX_CHARS + "b" * 1000
    short = shorten(long, "output")
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert "1,000 characters of the output are left out" in short
    assert len(short) < MAX_CHARS + 200
    assert shorten("a" * MAX_CHARS, "output") == "a" * MAX_CHARS


def test_the_record_is_as_short_as_the_text_and_says_so() -> None:
    answer = answer_of(run(data="a" * 5 * MAX_CHARS))
    assert len(texts(answer)[0]) < MAX_CHARS + 200
    assert len(answer.structured_content["stdout"]) < MAX_CHARS + 200
    assert answer.structured_content["truncated"] is True
    assert answer_of(run(data="a")).structured_content["truncated"] is False


def test_images_are_shown_texts_are_read_and_the_rest_is_for_the_user() -> None:
    answer = answer_of(
        run(file("a.png", b"\x89PNG"), file("b.csv", b"x,y\n"), file("c d.xlsx", b"PK\xff"))
    )
    image, resource = answer.content[1], answer.content[3]
    assert isinstance(image, ImageContent)
    assert (image.mime_type, base64.b64decode(image.data)) == ("image/png", b"\x89PNG")
    assert texts(answer)[1] == "b.csv:\nx,y\n"
    assert isinstance(resource, EmbeddedResource)
    assert str(resource.resource.uri) == "pgexec:///c%20d.xlsx"
    assert resource.annotations is not None
    assert resource.annotations.audience == ["user"]
    assert [entry["omitted"] for entry in answer.structured_content["files"]] == [None] * 3


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (file("a.png", bytes(MAX_IMAGE_BYTES + 1)), "lower dpi"),
        (file("a.bin", b"\xff" * (MAX_BINARY_BYTES + 1)), "no text"),
        (ReturnedFile("a.txt", 9, None, "over the limit"), "over the limit"),
    ],
)
def test_a_file_too_large_to_show_is_named_with_the_reason(given: ReturnedFile, why: str) -> None:
    answer = answer_of(run(given))
    assert len(answer.content) == 1
    assert why in texts(answer)[0]
    assert why in answer.structured_content["files"][0]["omitted"]


def test_images_have_a_bound() -> None:
    answer = answer_of(run(*(file(f"{n:02}.png", b"x") for n in range(MAX_IMAGES + 1))))
    assert sum(isinstance(block, ImageContent) for block in answer.content) == MAX_IMAGES
    assert f"file {MAX_IMAGES}.png, 1 bytes, not shown" in texts(answer)[0]


def test_a_failure_says_whether_anything_ran() -> None:
    refused = failure_of(RunRefused("full", code="saturated", status=503, retry_after_s=2))
    assert texts(refused) == ["Nothing ran: full. Try again in 2 s."]
    assert refused.is_error
    assert texts(failure_of(RunLost("gone", code="cut"))) == ["The result is lost: gone."]
    wrong_key = failure_of(RunRefused("no", code="unauthorized", status=401))
    assert "PGEXEC_API_KEY" in texts(wrong_key)[0]


def test_displays_that_are_no_image_or_none_at_all_are_said() -> None:
    displays = (
        Display("image/png", "AQ\nID"),
        Display("image/png", "?"),
        Display("image/jpeg", None, "too large"),
        Display("text/html", "<b>"),
    )
    answer = answer_of(run(displays=displays), "s")
    (image,) = (block for block in answer.content if isinstance(block, ImageContent))
    assert image.data == "AQID"
    (text,) = texts(answer)
    assert "no output" not in text
    for why in ("image/png is not shown: it is not", "too large", "text/html is not shown"):
        assert why in text
    assert "text/html" not in texts(answer_of(run(displays=displays, value="1"), "s"))[0]


def test_a_value_is_as_short_as_output() -> None:
    answer = answer_of(run(value="a" * 5 * MAX_CHARS), "s")
    assert len(answer.structured_content["value"]) < MAX_CHARS + 200
    assert len(texts(answer)[0]) < MAX_CHARS + 400
