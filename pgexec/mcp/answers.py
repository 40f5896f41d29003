"""From the result of a run to what a model reads: texts of bounded length, images, and a record."""

from __future__ import annotations

import base64
import mimetypes
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
UNAUTHORIZED = 401


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


def answer_of(result: CompletedRun) -> CallToolResult:
    """Return what a model is told of a run, whatever the code did: output, error, files, images."""
    texts, blocks, records = [], [], []
    shown = 0
    for file in result.files.values():
        blocks_of_file, omitted = _content(file, shown)
        shown += any(isinstance(block, ImageContent) for block in blocks_of_file)
        blocks += blocks_of_file
        records.append(FileRecord(name=file.name, size_bytes=file.size_bytes, omitted=omitted))
    texts = [shorten(result.data, "output"), *_remarks(result, records)]
    text = "\n".join(part.rstrip("\n") for part in texts if part)
    record = RunRecord(
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
        files=records,
    )
    return CallToolResult(
        content=[TextContent(text=text), *blocks], structured_content=record.model_dump()
    )


def failure_of(error: PgexecError) -> CallToolResult:
    """Return what a model is told if there is no result: whether anything ran, and why."""
    beginning = "Nothing ran" if isinstance(error, RunRefused) else "The result is lost"
    sentence = f"{beginning}: {error}."
    if error.status == UNAUTHORIZED:
        sentence += " The key is the one in PGEXEC_API_KEY, or of the request's Authorization."
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


def _remarks(result: CompletedRun, files: Iterable[FileRecord]) -> list[str]:
    remarks = []
    if result.error is not None:
        remarks.append(f"[{result.status}: {result.error}]")
    elif not result.data:
        remarks.append("[no output: only what the code prints comes back]")
    if result.truncated:
        remarks.append("[the output reached the server's limit; the rest is lost]")
    for file in files:
        why = f", not shown: {file.omitted}" if file.omitted else ""
        remarks.append(f"[file {file.name}, {file.size_bytes:,} bytes{why}]")
    return remarks


def _content(file: ReturnedFile, images: int) -> tuple[list[ContentBlock], str | None]:
    """Return the blocks that show a file, or why there are none; `images` are shown already."""
    if file.content is None:
        return [], file.omitted or "the server did not send it"
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind in IMAGE_TYPES:
        return _image(file.content, kind, images)
    try:
        text = file.content.decode()
    except UnicodeDecodeError:
        return _binary(file.name, file.content, kind)
    return [TextContent(text=f"{file.name}:\n{shorten(text, f'file {file.name}')}")], None


def _image(content: bytes, kind: str, images: int) -> tuple[list[ContentBlock], str | None]:
    if images >= MAX_IMAGES:
        return [], f"only {MAX_IMAGES} images are"
    if len(content) > MAX_IMAGE_BYTES:
        return [], f"an image may have {MAX_IMAGE_BYTES:,} bytes; save it with a lower dpi"
    return [ImageContent(data=_base64(content), mime_type=kind)], None


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
