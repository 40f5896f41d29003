"""The wire contract of sessions: what their requests and answers have beside those of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pgexec.contract import MAX_PATTERNS, Count, GivenFile, RunRequest, RunResult, Seconds


class OpenRequest(RunRequest):
    """The body of `POST /sessions`; all fields may be left out."""

    language: Annotated[
        str, Field(description="The language of the cells, or another name of it, in any case.")
    ] = "python"
    code: str = ""
    idle_timeout_s: Annotated[
        float | None,
        Field(
            description="After how many seconds without a cell the session ends; the server's "
            "limit by default.",
        ),
    ] = None


class CellRequest(RunRequest):
    """The body of `POST /sessions/{id}/run`: that of `/run` less what the session has."""

    language: str = ""
    files: Annotated[
        list[GivenFile],
        Field(
            description="Files to write into the session's directory before the cell, in place of "
            "those with their names: all of them or none."
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    collect: Annotated[
        list[str],
        Field(
            max_length=MAX_PATTERNS,
            description="Patterns of files to return, relative to the session's directory: *, ? "
            "and [abc] within a name, ** for any directories. All that match after the cell come, "
            "also those of earlier cells, but no input of this request as it was.",
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})


SESSION_FIELDS = frozenset({"language", "dependencies", "files", "env", "idle_timeout_s", "user"})
CELL_FIELDS = frozenset(RunRequest.model_fields) - {
    *("language", "dependencies", "fresh"),
    *("stdins", "expected", "compare", "stop_on"),
}


class RichForm(BaseModel):
    """What a cell shows: a figure, or a form of its last expression's value."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mime: Annotated[str, Field(description="Its MIME type, such as image/png or text/html.")]
    content: Annotated[str, Field(description="Its text; base64 where it has bytes.")]
    omitted: Annotated[str, Field(description="Why there is no content.")] = ""


class CellResult(RunResult):
    """How a cell ended, what it wrote and what it shows."""

    value: Annotated[
        str | None,
        Field(
            description="The repr of the last expression, if a notebook would show it; where it is "
            "longer than the limit on output, its beginning and an ellipsis, and truncated is true."
        ),
    ]
    displays: Annotated[
        list[RichForm],
        Field(
            description="At most 1000; where there were more, or too many that are omitted, "
            "truncated is true."
        ),
    ]
    truncated: Annotated[
        bool,
        Field(
            description="Whether the limit on output was reached, value is cut, or displays are "
            "missing."
        ),
    ]
    restarted: Annotated[
        bool,
        Field(
            description="Whether the interpreter is a new one, because the last one was killed or "
            "has ended. Names are gone then, files are not."
        ),
    ]


class OpenedSession(BaseModel):
    """A session that was opened."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    language: str
    expires_in_s: Annotated[Seconds, Field(description="It ends then if nothing runs in it.")]


class SessionState(OpenedSession):
    """A living session."""

    state: Annotated[Literal["idle", "busy"], Field(description="Whether a cell runs.")]
    age_s: Seconds
    runs: Annotated[Count, Field(description="How many cells it has run, or runs.")]


class SessionStates(BaseModel):
    """The caller's living sessions, the oldest first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sessions: list[SessionState]
