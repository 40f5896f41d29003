"""The result of a run, and the files that it gave back."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import mimetypes
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SHOWN_IN_NOTEBOOKS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""No HTML and no SVG: these could run script of the snippet's in the page of the notebook."""


@dataclass(frozen=True, slots=True)
class ReturnedFile:
    """A file that `collect` asked for; `content` is `None` if the server left it out.

    `omitted` then says why.
    """

    name: str
    size_bytes: int
    content: bytes | None = field(repr=False)
    omitted: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ReturnedFile:
        """Return the file in an item of the server's list `files`."""
        text = document.get("content")
        if text is None:
            content = None
        elif document.get("encoding") == "base64":
            content = base64.b64decode(text)
        else:
            content = text.encode()
        return cls(document["name"], document["size_bytes"], content, document.get("omitted"))

    @property
    def text(self) -> str:
        """The content as UTF-8."""
        return self._content().decode()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the content to `path`, and return this. Raises `OSError`, as `open` does."""
        target = Path(path)
        target.write_bytes(self._content())
        return target

    def save_in(self, directory: str | os.PathLike[str]) -> Path:
        """Write the content below a directory, by the file's own name; return where that is.

        Folders of the name are made. Raises `ValueError` if the name would lead out of the
        directory, and `OSError`.
        """
        name = PurePosixPath(self.name)
        bad = name.is_absolute() or ".." in name.parts or "\\" in self.name or "\0" in self.name
        target = Path(directory, *name.parts)
        if bad or not target.resolve().is_relative_to(Path(directory).resolve()):
            raise ValueError(f"the file {self.name!r} would not be inside {str(directory)!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return self.save(target)

    def _content(self) -> bytes:
        if self.content is None:
            raise ValueError(f"the content of {self.name!r} was not sent: {self.omitted}")
        return self.content

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show an image as one in a notebook, and every other file by its name and size."""
        shown = {"text/plain": repr(self)}
        kind, _encoding = mimetypes.guess_type(self.name)
        if kind in SHOWN_IN_NOTEBOOKS and self.content is not None:
            shown[kind] = base64.b64encode(self.content).decode()
        return shown


@dataclass(frozen=True, slots=True)
class Display:
    """A rich form that a run in a session shows, of its value or of a figure.

    `content` is text, for an image base64; `None` if the server left it out, and `omitted` says
    why.
    """

    mime: str
    content: str | None = field(repr=False)
    omitted: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Display:
        """Return the form in an item of the server's list `displays`."""
        omitted = document.get("omitted") or None
        return cls(document["mime"], None if omitted else document.get("content"), omitted)


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """How a snippet ended and what it wrote; the fields are those of the answer to `POST /run`.

    Only a run in a session has `value`, the `repr` of its last expression or `None`, `displays`,
    and `restarted`, which is true if the state of earlier runs was lost. `files_omitted` says why
    there are more files than those in `files`; `""` if there are not.
    """

    data: str
    error: str | None
    status: str
    stdout: str
    stderr: str
    exit_code: int | None
    signal: int | None
    duration_s: float
    cpu_s: float
    peak_memory_bytes: int
    truncated: bool
    files: dict[str, ReturnedFile] = field(default_factory=dict)
    value: str | None = None
    displays: tuple[Display, ...] = ()
    restarted: bool = False
    files_omitted: str = ""

    @classmethod
    def of(
        cls, document: Mapping[str, Any], files: Mapping[str, ReturnedFile] | None = None
    ) -> CompletedRun:
        """Return the result in a document. Fields that are not known here are left out.

        `files` have come before it, as events.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        listed = [ReturnedFile.of(item) for item in document.get("files", ())]
        values["displays"] = tuple(map(Display.of, document.get("displays") or ()))
        values["files"] = {item.name: (files or {}).get(item.name, item) for item in listed}
        return cls(**values)

    @property
    def ok(self) -> bool:
        """True if the snippet exited with 0."""
        return self.status == "ok"

    def _ipython_display_(self) -> None:
        """Show output, error and files in a notebook."""
        display = importlib.import_module("IPython.display").display
        print(self.data, end="")  # noqa: T201  # into the cell
        if self.error is not None:
            print(self.error)  # noqa: T201
        if self.value is not None:
            print(self.value)  # noqa: T201
        for shown in self.displays:
            if shown.mime in SHOWN_IN_NOTEBOOKS and shown.content is not None:
                display({shown.mime: shown.content}, raw=True)
        for item in self.files.values():
            display(item)
