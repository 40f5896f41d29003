"""From the result of a run to what a model reads: texts of bounded length, images, and a record."""

from __future__ import annotations

import base64
import mimetypes
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from mcp_types import (
    Annotations,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
)
from pydantic import BaseModel, Field

from pgexec.client import RunRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgexec.client import CompletedRun, PgexecError, ReturnedFile

MAX_CHARS = 20_000
"""Of one text: a model reads some 5,000 tokens."""
MAX_IMAGES = 10
MAX_IMAGE_BYTES = 3_750_000
"""5 MB as base64, the most that the APIs of models take."""
MAX_BINARY_BYTES = 1 << 20
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_RESTARTED = "[the interpreter was restarted: variables and imports of earlier calls are gone]"


class FileRecord(BaseModel):
    """A file that the run left."""

    name: str
    size_bytes: int
    omitted: str | None = Field(default=None, description="why its content is not there")


class RunRecord(BaseModel):
    """The structured result of a run; `stdout` and `stderr` are shortened as the text is."""

    status: str = Field(
        description="ok, error, timeout, memory_limit, output_limit, cpu_time or killed"
    )
    error: str | None = Field(
        description="null if the code ended well, else one line that says why"
    )
    stdout: str
    stderr: str
    exit_code: int | None
    signal: int | None
    duration_s: float
    cpu_s: float
    peak_memory_bytes: int
    truncated: bool = Field(description="whether a part of the output is left out")
    files: list[FileRecord]


class CellRecord(RunRecord):
    """The structured result of a run in a session."""

    session_id: str = Field(description="to pass in the next call")
    value: str | None = Field(description="the repr of the last expression, if it has a value")
    restarted: bool = Field(description="whether variables of earlier calls are gone")


def answer_of(result: CompletedRun, session_id: str = "") -> CallToolResult:
    """Return what a model is told of a run, whatever the code did: output, error, files, images.

    With `session_id` it was a run in a session.
    """
    blocks, kept_back = _displays(result)
    records = []
    for file in result.files.values():
        blocks_of_file, omitted = content_of(file, _images(blocks))
        blocks += blocks_of_file
        records.append(FileRecord(name=file.name, size_bytes=file.size_bytes, omitted=omitted))
    texts = [shorten(result.data, "output"), *_remarks(result, records, session_id)]
    if result.value is not None:
        texts.insert(1, f"value: {shorten(result.value, 'value')}")
    texts += kept_back
    if session_id:
        texts.append(f"[session_id: {session_id}]")
    text = "\n".join(part.rstrip("\n") for part in texts if part)
    record = _record(result, records).model_dump()
    if session_id:
        value = result.value and shorten(result.value, "value")
        record |= {"session_id": session_id, "value": value, "restarted": result.restarted}
    return CallToolResult(content=[TextContent(text=text), *blocks], structured_content=record)


def _record(result: CompletedRun, files: list[FileRecord]) -> RunRecord:
    return RunRecord(
        status=result.status,
        error=result.error,
        stdout=shorten(result.stdout, "stdout"),
        stderr=shorten(result.stderr, "stderr"),
        exit_code=result.exit_code,
        signal=result.signal,
        duration_s=result.duration_s,
        cpu_s=result.cpu_s,
        peak_memory_bytes=result.peak_memory_bytes,
        truncated=result.truncated or len(result.data) > MAX_CHARS,
        files=files,
    )


def news_of(result: CompletedRun) -> list[str]:
    """Return what a run that does nothing says all the same: output, and of a new interpreter."""
    output = [f"output meanwhile:\n{shorten(result.data, 'output')}"] if result.data else []
    return output + [_RESTARTED] * result.restarted


def part_of(file: ReturnedFile, offset: int) -> CallToolResult:
    """Return a file of a session: of a text, the part that begins after `offset` characters."""
    if file.content is None:
        return refusal(
            f"The file has {file.size_bytes:,} bytes and is not given: {file.omitted}. "
            "run_in_session can open it and print a part of it."
        )
    blocks, omitted = content_of(file, 0, offset)
    if not blocks:
        return refusal(f"The file is not shown: {omitted}.")
    return CallToolResult(content=blocks)


def failure_of(error: PgexecError, session_id: str = "") -> CallToolResult:
    """Return what a model is told if there is no result: whether anything ran, and why.

    `session_id` is that of the session which was asked.
    """
    beginning = "Nothing ran" if isinstance(error, RunRefused) else "The result is lost"
    sentence = f"{beginning}: {error}."
    if error.status == HTTPStatus.UNAUTHORIZED:
        sentence += " The key is the one in PGEXEC_API_KEY, or of the request's Authorization."
    if session_id and error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        sentence += " Its variables and files are gone; leave out session_id to begin a new one."
    if error.retry_after_s:
        sentence += f" Try again in {error.retry_after_s} s."
    return refusal(sentence)


def refusal(sentence: str) -> CallToolResult:
    """Return a tool's error."""
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)


def shorten(text: str, what: str) -> str:
    """Return a text of at most `MAX_CHARS` characters and a line that says what is left out.

    Beginning and end stay, in equal parts. Example of the line: `[… 70,000 characters of the
    output are left out here …]`.
    """
    left_out = len(text) - MAX_CHARS
    if left_out <= 0:
        return text
    half = MAX_CHARS // 2
    return (
        f"{text[:half]}\n[… {left_out:,} characters of the {what} are left out here: print less, "
        f"or write it to a file and look at parts of it …]\n{text[-half:]}"
    )


def _remarks(result: CompletedRun, files: Iterable[FileRecord], session_id: str) -> list[str]:
    remarks = []
    if result.error is not None:
        remarks.append(f"[{result.status}: {result.error}]")
    elif not result.data and result.value is None and not result.displays:
        what = " and no value" if session_id else ": only what the code prints comes back"
        remarks.append(f"[no output{what}]")
    if result.restarted:
        remarks.append(_RESTARTED)
    if result.truncated:
        remarks.append("[output, value or displays reached the server's limit; the rest is lost]")
    for file in files:
        why = f", not shown: {file.omitted}" if file.omitted else ""
        remarks.append(f"[file {file.name}, {file.size_bytes:,} bytes{why}]")
    if result.files_omitted:
        remarks.append(f"[not all files came back: {result.files_omitted}]")
    return remarks


def _displays(result: CompletedRun) -> tuple[list[ContentBlock], list[str]]:
    """Return the images that a cell shows, and remarks on what it shows and a model cannot see."""
    blocks: list[ContentBlock] = []
    remarks = []
    for shown in result.displays:
        why = shown.omitted
        if why is None and shown.mime in IMAGE_TYPES:
            image, why = _image(_bytes_of(shown.content or ""), shown.mime, len(blocks))
            blocks += image
        elif why is None and result.value is None:
            why = "it is for notebooks"
        if why is not None:
            remarks.append(f"[a display of {shown.mime} is not shown: {why}]")
    return blocks, remarks


def _images(blocks: Iterable[ContentBlock]) -> int:
    return sum(isinstance(block, ImageContent) for block in blocks)


def content_of(
    file: ReturnedFile, images: int, offset: int | None = None
) -> tuple[list[ContentBlock], str | None]:
    """Return the blocks that show a file, or why there are none.

    `images` are shown already. Of a text, the part after `offset` characters is shown; without one,
    beginning and end.
    """
    if file.content is None:
        return [], file.omitted or "the server did not send it"
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind in IMAGE_TYPES:
        return _image(file.content, kind, images)
    try:
        text = file.content.decode()
    except UnicodeDecodeError:
        return _binary(file.name, file.content, kind)
    if offset is None:
        shown = f"{file.name}:\n{shorten(text, f'file {file.name}')}"
    else:
        shown = _part(text, offset)
    return [TextContent(text=shown)], None


def _part(text: str, offset: int) -> str:
    if offset and offset >= len(text):
        return f"[the text ends before offset {offset:,}: it has {len(text):,} characters]"
    end = min(offset + MAX_CHARS, len(text))
    if offset == 0 and end == len(text):
        return text
    after = f"; the next part: offset {end}" if end < len(text) else ""
    return f"{text[offset:end]}\n[characters {offset:,} to {end:,} of {len(text):,}{after}]"


def _image(content: bytes | None, kind: str, images: int) -> tuple[list[ContentBlock], str | None]:
    if content is None:
        return [], "it is not base64"
    if images >= MAX_IMAGES:
        return [], f"only {MAX_IMAGES} images are"
    if len(content) > MAX_IMAGE_BYTES:
        return [], f"an image may have {MAX_IMAGE_BYTES:,} bytes; save it with a lower dpi"
    return [ImageContent(data=_base64(content), mime_type=kind)], None


def _bytes_of(text: str) -> bytes | None:
    """Return the bytes of an image, or `None`: the code may have given any text for one."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return None


def _binary(name: str, content: bytes, kind: str) -> tuple[list[ContentBlock], str | None]:
    """Return a file for the user: a model cannot read it."""
    if len(content) > MAX_BINARY_BYTES:
        return [], f"a file that is no text may have {MAX_BINARY_BYTES:,} bytes"
    contents = BlobResourceContents(
        uri=f"pgexec:///{quote(name)}", mime_type=kind, blob=_base64(content)
    )
    return [EmbeddedResource(resource=contents, annotations=Annotations(audience=["user"]))], None


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
