"""Parse a request to run: from the bytes of its body to a `RunRequest` within the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ValidationError

from pgexec.contract import MAX_REQUIREMENT_CHARS, MAX_USER_CHARS, RunRequest
from pgexec.http.body import SMALL_BYTES, cut
from pgexec.http.errors import RequestError
from pgexec.http.files import Contents, check_names, check_patterns
from pgexec.http.inputs import check_inputs, check_size
from pgexec.http.refusals import BAD, bulk_refusal, quote, refusal, unknown_field
from pgexec.http.surroundings import check_arguments, check_variables
from pgexec.session_contract import CELL_FIELDS, SESSION_FIELDS, CellRequest, OpenRequest
from pgexec.settings.profiles import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from pgexec.http.limits import RequestLimits

_ARCHIVES = (
    *(".zip", ".whl", ".tar", ".tgz", ".tbz", ".txz", ".tlz"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lz", ".tar.lzma"),
)
"""pip takes names with these endings for files (its `utils/filetypes.py`)."""
ALIASES = {"py": DEFAULT, "python3": DEFAULT}
"""Other names of languages. A profile of such a name comes first."""


def _in_order(model: type[RunRequest], fields: Collection[str]) -> Collection[str]:
    return tuple(field for field in model.model_fields if field in fields)


@dataclass(frozen=True, slots=True)
class BodyForm:
    """What a body may have: the `fields` of a model. `language` is that of a session."""

    model: type[RunRequest]
    fields: Collection[str]
    language: str = ""
    with_code: bool = True

    def fill(self, request: RunRequest) -> RunRequest:
        """Return a request with the session's language. Raises `RequestError` 400."""
        for field in sorted(request.model_fields_set - set(self.fields)):
            raise unknown_field(field, self.fields)
        if not self.language:
            return request
        return request.model_copy(update={"language": self.language})


RUN = BodyForm(RunRequest, tuple(RunRequest.model_fields))
OPENING = BodyForm(OpenRequest, _in_order(OpenRequest, SESSION_FIELDS), with_code=False)


def cell_of(language: str) -> BodyForm:
    """Return the form of a body with a cell for a session of a language."""
    return BodyForm(CellRequest, _in_order(CellRequest, CELL_FIELDS), language)


def parse_run(
    body: bytes | bytearray,
    limits: RequestLimits,
    contents: Contents | None = None,
    taken: Container[object] = (),
    form: BodyForm | None = None,
) -> RunRequest:
    """Return the request in a JSON body, which is one to `/run` if it has no other `form`.

    Contents of files that are in `taken` stay as they are, all others are decoded by `contents`.

    Raises `RequestError`: 400 with a sentence about the first error, 413 for code or stdin over
    their limits.
    """
    if len(body) > SMALL_BYTES and (start := cut(body)) is not None:
        raise bulk_refusal(start)
    form = form or RUN
    try:
        request = form.model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        raise refusal(details, body, form.fields) from None
    if form is not RUN:
        request = form.fill(request)
    if request.language not in limits.languages:
        language = _language(request.language, limits)
        request = request.model_copy(update={"language": language})
    if form.with_code:
        check_code(request.code, limits)
    check_inputs(request, limits)
    limits.check(request)
    check_patterns(request.collect)
    check_arguments(request.args)
    check_variables(request.env)
    _check_user(request.user)
    for item in request.dependencies:
        check_requirement(item)
        if (reason := limits.packages.refuses(item)) is not None:
            raise RequestError(BAD, "bad_requirement", f"dependency {quote(item)} {reason}")
    return _with_files(request, limits, contents, taken) if request.files else request


def _with_files(
    request: RunRequest,
    limits: RequestLimits,
    contents: Contents | None,
    taken: Container[object],
) -> RunRequest:
    """Return the request with the bytes of its files for their contents."""
    in_session = isinstance(request, (OpenRequest, CellRequest))
    check_names(request.files, limits, "" if in_session else limits.script)
    contents = contents or Contents(limits.files_limit_bytes)
    files = [
        file
        if file.content in taken
        else file.model_copy(update={"content": contents.decode(file)})
        for file in request.files
    ]
    return request.model_copy(update={"files": files})


def _language(name: str, limits: RequestLimits) -> str:
    """Return the language that `name` stands for, in whatever case. Raises `RequestError` 400."""
    lower = name.lower()
    language = lower if lower in limits.languages else ALIASES.get(lower)
    if language is None:
        known = ", ".join(map(repr, limits.languages))
        sentence = f"language {quote(name)} is not supported, only {known}"
        raise RequestError(BAD, "unsupported_language", sentence)
    return language


def check_requirement(item: str) -> None:
    """Refuse, by `RequestError`, all but a plain name with extras, versions and markers.

    pip would also accept options, addresses and paths. By these a client could reach files and
    hosts that it must not reach.
    """
    sentence = None
    if len(item) > MAX_REQUIREMENT_CHARS:
        sentence = f"is longer than {MAX_REQUIREMENT_CHARS} characters"
    elif item.lstrip().startswith("-"):
        sentence = "is an option of the installer, not a package"
    elif not item.isascii() or not item.isprintable():
        sentence = "has characters that a requirement cannot have"
    else:
        try:
            requirement = Requirement(item)
            if _is_archive(requirement.name) or _is_archive(item.partition(";")[0]):
                sentence = "is a file's name; only packages of the index can be installed"
            elif requirement.url is not None:
                sentence = "names an address; only packages of the index can be installed"
        except InvalidRequirement:
            sentence = "is not a requirement such as 'requests' or 'numpy>=2,<3'"
    if sentence is not None:
        raise RequestError(BAD, "bad_requirement", f"dependency {quote(item)} {sentence}")


def check_code(code: str, limits: RequestLimits) -> None:
    """Refuse, by `RequestError`, code that is blank, too long, or has a NUL."""
    if not code or code.isspace():
        raise RequestError(BAD, "empty_code", "field 'code' must not be empty or blank")
    if "\0" in code:  # before 3.12, Python ignores all code after a NUL without an error
        raise RequestError(BAD, "invalid_code", "field 'code' must not hold a NUL character")
    check_size("code", code, limits.code_limit_bytes)


def _check_user(name: str | None) -> None:
    if name is None or (0 < len(name) <= MAX_USER_CHARS and name.isascii() and name.isprintable()):
        return
    sentence = f"field 'user' must have 1 to {MAX_USER_CHARS} printable ASCII characters"
    raise RequestError(BAD, "invalid_field", sentence)


def _is_archive(name: str) -> bool:
    return name.strip().lower().endswith(_ARCHIVES)
