"""The arguments of the tools: their schemas for the model, and the sentence for a wrong one."""

from __future__ import annotations

import base64
import binascii
import posixpath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema, SkipJsonSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from pgexec.client.wire import CellOptions, RunOptions

IMAGES = ("**/*.png", "**/*.jpg", "**/*.jpeg", "**/*.gif", "**/*.webp")
"""Collected in any case: what plots leave, in the formats that models can see."""

MAX_FAULTS = 3


class ArgumentError(Exception):
    """An argument is wrong; the text says which one and why, for a model to correct it."""


class _Code(BaseModel):
    """What a program and a cell have in common."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(description="The Python code.")]
    files: Annotated[
        dict[str, str],
        Field(
            description="Text files to write into the working directory before the run: content "
            'by name, such as {"data/in.csv": "day,sum\\nmon,3\\n"}.',
        ),
    ] = {}
    files_base64: Annotated[
        dict[str, str],
        Field(description="The same for files that are no text: base64 by name."),
    ] = {}
    timeout_s: Annotated[
        float | SkipJsonSchema[None],
        Field(
            gt=0,
            validation_alias=AliasChoices("timeout_s", "timeout"),
            description="Seconds that the code may take; by default, and at most, what the server "
            "allows (30 unless it says otherwise).",
        ),
    ] = None

    def _fill(self, options: CellOptions, collect: list[str]) -> None:
        options["files"] = self._contents()
        options["collect"] = collect
        if self.timeout_s is not None:
            options["timeout_s"] = self.timeout_s

    def _contents(self) -> dict[str, str | bytes]:
        files: dict[str, str | bytes] = {**self.files}
        for name, text in self.files_base64.items():
            if name in files:
                raise ArgumentError(f"{name!r} is in `files` and in `files_base64`")
            try:
                files[name] = base64.b64decode("".join(text.split()), validate=True)
            except (binascii.Error, ValueError):
                raise ArgumentError(f"`files_base64`: what {name!r} has is not base64") from None
        return files


class RunPython(_Code):
    """Of `run_python`."""

    dependencies: Annotated[
        list[str],
        Field(
            description="Packages to install before the run, as pip takes them, such as "
            '["pandas", "matplotlib==3.10.0"]: what the code imports and is not installed.',
        ),
    ] = []
    collect: Annotated[
        list[str],
        Field(
            description="Names or patterns of files to give back after the run, such as "
            '["report.csv", "out/**"]. Images (png, jpg, gif, webp) come back without it.',
        ),
    ] = []

    def options(self, language: str) -> RunOptions:
        """Return the options of the run. Raises `ArgumentError` for what is no base64."""
        collect = list(dict.fromkeys([*self.collect, *IMAGES]))
        options: RunOptions = {"language": language, "dependencies": self.dependencies}
        self._fill(options, collect)
        return options


class RunInSession(_Code):
    """Of `run_in_session`."""

    session_id: Annotated[
        str,
        Field(
            description="The session to go on with, as an earlier result said it. Leave it out to "
            "begin a new one.",
        ),
    ] = ""
    dependencies: Annotated[
        list[str],
        Field(
            description="Packages to install when a session begins, as pip takes them, such as "
            '["pandas", "matplotlib==3.10.0"]. Only without session_id.',
        ),
    ] = []
    collect: Annotated[
        list[str],
        Field(
            description="Names or patterns of files to give back after the run, such as "
            '["report.csv", "out/**"].',
        ),
    ] = []

    def options(self) -> CellOptions:
        """Return the options of the run. Raises `ArgumentError` for what does not go together."""
        if self.session_id and self.dependencies:
            raise ArgumentError(
                "`dependencies` are for the call that begins a session: leave out session_id to "
                "begin a new one"
            )
        options: CellOptions = {}
        self._fill(options, self.collect)
        return options


class ReadFile(BaseModel):
    """Of `read_file`."""

    model_config = ConfigDict(extra="forbid")

    session_id: Annotated[str, Field(min_length=1, description="The session that has the file.")]
    name: Annotated[
        str,
        Field(
            min_length=1,
            description="Its path in the directory in which the session began, such as out/a.csv.",
        ),
    ]
    offset: Annotated[
        int, Field(ge=0, description="Of a text: how many characters to leave out before the part.")
    ] = 0

    def pattern(self) -> str:
        """Return the pattern of `collect` for this file only. Raises `ArgumentError`."""
        name = posixpath.normpath(self.name)
        if name.startswith(("/", "../")) or name in {".", ".."}:
            raise ArgumentError(
                "`name` is a path in the directory in which the session began, such as out/a.csv, "
                f"not {self.name!r}"
            )
        return "".join(f"[{char}]" if char in "*?[" else char for char in name)


class EndSession(BaseModel):
    """Of `end_session`."""

    model_config = ConfigDict(extra="forbid")

    session_id: Annotated[str, Field(min_length=1, description="The session to end.")]


Arguments = TypeVar("Arguments", bound=BaseModel)


class _Plain(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Leave out the titles, which only repeat the names."""
        return False


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model, without titles and names of our classes."""
    schema = model.model_json_schema(by_alias=False, schema_generator=_Plain)
    del schema["title"], schema["description"]
    for field in schema["properties"].values():
        if field.get("default", ...) is None:
            del field["default"]
    return schema


def arguments_of(
    model: type[Arguments], tool: str, arguments: Mapping[str, Any] | None
) -> Arguments:
    """Return the arguments of a call. Raises `ArgumentError` that names the first three faults."""
    try:
        # What a model leaves out, it sometimes sends as null.
        given = {name: value for name, value in (arguments or {}).items() if value is not None}
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)[:MAX_FAULTS]
        sentences = (_sentence(model, tool, fault) for fault in faults)
        raise ArgumentError("; ".join(sentences)) from None


def _sentence(model: type[BaseModel], tool: str, fault: ErrorDetails) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "missing":
            return f"the argument `{name}` is missing"
        case "extra_forbidden":
            known = ", ".join(model.model_fields)
            return f"there is no argument `{name}`: {tool} takes {known}"
        case _:
            return f"the argument `{name}` is wrong: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
