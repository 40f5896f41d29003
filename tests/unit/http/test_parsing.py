"""What `/run` takes, and the sentence for what it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgexec.contract import RunRequest
from pgexec.http.answers import render_result
from pgexec.http.body import SMALL_BYTES
from pgexec.http.errors import RequestError
from pgexec.http.limits import RequestLimits
from pgexec.http.parsing import check_requirement, parse_run
from pgexec.settings.sizes import format_size, parse_size
from pool.job import Result, Status

if TYPE_CHECKING:
    from pgexec.http.errors import Problem

LIMITS = RequestLimits(
    languages=("python",),
    run_timeout_s=30,
    code_limit_bytes=1 << 20,
    stdin_limit_bytes=1 << 20,
    memory_limit_bytes=256 << 20,
    output_limit_bytes=1 << 20,
)


def body(**changes: Any) -> bytes:
    return json.dumps({"language": "python", "code": "print(1)", **changes}).encode()


def refusal(data: bytes) -> Problem:
    with pytest.raises(RequestError) as caught:
        parse_run(data, LIMITS)
    problem = caught.value.problem
    assert "\n" not in problem.sentence
    return problem


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """The document calls it an integer, of which JSON Schema says that 5.0 is one."""
    assert parse_run(body(output_limit_bytes=5.0), LIMITS).output_limit_bytes == 5


def test_language_and_code_are_enough() -> None:
    assert parse_run(body(), LIMITS) == RunRequest(language="python", code="print(1)")


@pytest.mark.parametrize("name", ["python", "python3", "py", "PYTHON", "Py", "pYthon3"])
def test_a_language_has_other_names_in_any_case(name: str) -> None:
    assert parse_run(body(language=name), LIMITS).language == "python"


@pytest.mark.parametrize(("name", "language"), [("py", "py"), ("Data", "data"), ("python3", None)])
def test_a_profile_goes_before_another_name(name: str, language: str | None) -> None:
    limits = replace(LIMITS, languages=("python", "data", "py"))
    assert parse_run(body(language=name), limits).language == (language or "python")


def test_arguments_and_variables_pass_up_to_their_limit() -> None:
    whole = {"args": ["x" * ((1 << 17) - 5), "é"], "env": {"_A1": "x" * ((1 << 17) - 5)}}
    request = parse_run(body(**whole), LIMITS)
    assert (request.args, request.env) == (whole["args"], whole["env"])


def test_of_a_field_that_comes_twice_the_last_one_counts() -> None:
    assert parse_run(b'{"language":"python","code":"1","code":"2"}', LIMITS).code == "2"


@pytest.mark.parametrize(
    ("data", "code", "part"),
    [
        (b"", "invalid_json", "the body is empty"),
        (b" \n", "invalid_json", "the body is empty"),
        (b"{", "invalid_json", "not valid JSON"),
        (b"{}x", "invalid_json", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "invalid_json", "not valid JSON"),
        (b'{"code": "\xff"}', "invalid_json", "not valid JSON"),
        (b'{"code": "\n"}', "invalid_json", "not valid JSON"),
        (b"[" * 100_000, "invalid_json", "recursion limit"),
        (b'{"a":' * 100_000, "invalid_json", "recursion limit"),
        (b"[]", "invalid_json", "must be a JSON object, not a list"),
        (b"null", "invalid_json", "must be a JSON object, not null"),
        (b"NaN", "invalid_json", "must be a JSON object"),
        (b'{"language":"python"}', "missing_field", "field 'code' is missing"),
        (b'{"code":"1"}', "missing_field", "field 'language' is missing"),
        (b'{"language":"python","code":"\\ud800"}', "invalid_json", "surrogate"),
        (b'{"language":"python","code":"\\udc00"}', "invalid_json", "half of a surrogate pair"),
        (b'{"language":"python","code":"1","stdin":"\\udfff"}', "invalid_json", "half of a"),
        (body(timeout_s=int("1" * 400)), "invalid_field", "not one of hundreds of digits"),
        (body(timeout_s=30.0000001), "invalid_field", "at most 30, not 30.0000001"),
        (b'{"language":"python","code":"1","timeout_s":NaN}', "invalid_field", "finite"),
        (b'{"language":"python","code":"1","timeout_s":Infinity}', "invalid_field", "finite"),
        (b'{"language":"python","code":"1","timeout_s":1e999}', "invalid_field", "finite"),
        (body(code="print(1)\0"), "invalid_code", "field 'code' must not hold a NUL character"),
        (body(code=""), "empty_code", "field 'code' must not be empty"),
        (body(code=" \n\t\u00a0"), "empty_code", "field 'code' must not be empty"),
        (body(code=None), "invalid_field", "field 'code' must be a string, not null"),
        (body(code=1), "invalid_field", "field 'code' must be a string, not a number"),
        (body(language=["python"]), "invalid_field", "field 'language' must be a string"),
        (body(language="Pythons"), "unsupported_language", "'Pythons' is not supported, only"),
        (body(language="x" * 10_000), "unsupported_language", "…"),
        (body(cod="1"), "unknown_field", "field 'cod' is unknown"),
        (body(**{"a\nb": 1}), "unknown_field", r"field 'a\nb' is unknown"),
        (body(stdin=5), "invalid_field", "'stdin'"),
        (body(fresh=1), "invalid_field", "field 'fresh' must be true or false, not a number"),
        (body(fresh="true"), "invalid_field", "field 'fresh' must be true or false"),
        (body(timeout_s="3"), "invalid_field", "not a string"),
        (body(timeout_s=True), "invalid_field", "not a boolean"),
        (body(timeout_s=0), "invalid_field", "above 0 and at most 30, not 0"),
        (body(timeout_s=-1), "invalid_field", "above 0 and at most 30, not -1"),
        (
            body(timeout_s=1e-320),
            "invalid_field",
            "at least 0.001, which is a millisecond, not 1e-320",
        ),
        (
            body(timeout_s=0.0009),
            "invalid_field",
            "at least 0.001, which is a millisecond, not 0.0009",
        ),
        (body(timeout_s=30.5), "invalid_field", "above 0 and at most 30, not 30.5"),
        (body(timeout_s=10**40), "invalid_field", "above 0 and at most 30, not 1e+40"),
        (body(dependencies="requests"), "invalid_field", "a list of strings, not a string"),
        (body(dependencies=None), "invalid_field", "a list of strings, not null"),
        (body(dependencies=[1]), "invalid_field", "not a list with a number in it"),
        (body(dependencies=["a"] * 65), "invalid_field", "at most 64 items"),
        (body(code="x" * (1 << 20) + "x"), "code_too_large", "over the limit of 1 MiB"),
        (body(stdin="é" * (1 << 19) + "x"), "stdin_too_large", "over the limit of 1 MiB"),
        (body(args="-x"), "invalid_field", "'args' must be a list of strings, not a string"),
        (body(args=["a", 1]), "invalid_field", "a list of strings, not a list with a number in"),
        (body(args=["a", "b\0"]), "invalid_field", "argument 2 of field 'args' must not hold a"),
        (body(args=["a"] * 501), "invalid_field", "field 'args' may have at most 500 items"),
        (body(args=["é" * (1 << 16)]), "args_too_large", "'args' is over the limit of 128 KiB"),
        (body(env=[]), "invalid_field", "'env' must be an object of strings, not a list"),
        (body(env={"A": 1}), "invalid_field", "of strings, not an object with a number in it"),
        (body(env={"A": None}), "invalid_field", "of strings, not an object with null in it"),
        (body(env={"1A": ""}), "invalid_field", "variable '1A' of field 'env' must have a name"),
        (body(env={"É": ""}), "invalid_field", "must have a name of letters"),
        (body(env={"A=B": ""}), "invalid_field", "must have a name of letters"),
        (body(env={"A\n": ""}), "invalid_field", r"variable 'A\n' of field"),
        (body(env={"": ""}), "invalid_field", "must have a name of letters"),
        (
            body(env={"A": "b\0"}),
            "invalid_field",
            "variable 'A' of field 'env' must not hold a NUL",
        ),
        (body(env={f"A{n}": "" for n in range(501)}), "invalid_field", "at most 500 items"),
        (body(env={"A": "x" * (1 << 17)}), "env_too_large", "'env' is over the limit of 128 KiB"),
        (
            body(cpu_time_s="1"),
            "invalid_field",
            "'cpu_time_s' must be a finite number above 0, not",
        ),
        (body(memory_limit_bytes=True), "invalid_field", "whole number above 0, not a boolean"),
        (body(output_limit_bytes=0), "invalid_field", "whole number from 1 to 1048576, not 0"),
        (body(output_limit_bytes=(1 << 20) + 1), "invalid_field", "from 1 to 1048576, not 1048577"),
        (body(output_limit_bytes=10**400), "invalid_field", "not one of hundreds of digits"),
        (body(output_limit_bytes=1.5), "invalid_field", "must be a whole number above 0, not a"),
        (body(output_limit_bytes="1"), "invalid_field", "a whole number above 0, not a string"),
    ],
)
def test_each_mistake_has_its_word_and_its_sentence(data: bytes, code: str, part: str) -> None:
    problem = refusal(data)
    assert problem.code == code
    assert part in problem.sentence
    assert problem.status == (413 if code.endswith("_too_large") else 400)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(RunRequest.model_fields, JSON)
    | {"language": st.just("python") | JSON, "code": st.text() | JSON},
)


def verdict(data: bytes) -> object:
    try:
        return parse_run(data, LIMITS)
    except RequestError as error:
        return error.problem


MILLIONS = 4_000_000


@pytest.mark.parametrize(
    ("data", "code", "part"),
    [
        (b'{"x":1' + b',"":0' * MILLIONS + b"}", "unknown_field", "field 'x' is unknown"),
        (b'{"x":[[]' + b",[]" * MILLIONS + b"]}", "unknown_field", "field 'x' is unknown"),
        (b'{"dependencies":[""' + b',""' * MILLIONS + b"]}", "invalid_field", "at most 64 items"),
        (b'{"code":[1' + b",1" * MILLIONS + b"]}", "invalid_field", "'code' must be a string"),
        (b'{"code":""' + b',"code":""' * MILLIONS + b"}", "invalid_json", "more fields than"),
        (b"[1" + b",1" * MILLIONS + b"]", "invalid_json", "not a list"),
        (b'{"code":"" 1' + b",1" * MILLIONS + b"]", "invalid_json", "more fields than"),
        (b'"' * MILLIONS, "invalid_json", "not valid JSON"),
        (b'{"code":"' + b"\\" * MILLIONS, "invalid_json", "not valid JSON"),
    ],
)
def test_a_body_of_millions_of_parts_is_refused_without_parsing_it_whole(
    monkeypatch: pytest.MonkeyPatch, data: bytes, code: str, part: str
) -> None:
    if part != "not valid JSON":  # at that the parser stops in time by itself
        monkeypatch.setattr(RunRequest, "model_validate_json", None)
    problem = refusal(data)
    assert problem.code == code
    assert part in problem.sentence


@pytest.mark.parametrize(
    "data", [body(), body(cod="1"), body(code=[1]), b"{}", b"[]", body(dependencies=["a"] * 65)]
)
def test_a_large_body_is_taken_like_a_small_one(data: bytes) -> None:
    assert verdict(data) == verdict(data + b" " * SMALL_BYTES)


def test_commas_in_code_are_no_parts() -> None:
    code = '",\\",' * 10_000
    names = ["a"] * 64
    assert parse_run(body(code=code, dependencies=names), LIMITS).code == code


@pytest.mark.parametrize("code", ["\U0001f600", "\r\n", "'\"`$\\", "\ufeff1", "\tif 1: pass"])
def test_code_of_any_content_passes_unharmed(code: str) -> None:
    if code.strip():
        assert parse_run(body(code=code), LIMITS).code == code


def test_limits_count_bytes_and_include_their_end() -> None:
    assert len(parse_run(body(code="é" * (1 << 19)), LIMITS).code) == 1 << 19
    assert refusal(body(code="é" * (1 << 19) + "é")).code == "code_too_large"


@pytest.mark.parametrize(
    "item",
    [
        "requests",
        "requests>=2,<3",
        "uvicorn[standard]==0.30.*",
        "a; python_version < '3.12'",
        "a_b",
    ],
)
def test_plain_requirements_are_taken(item: str) -> None:
    check_requirement(item)


@pytest.mark.parametrize(
    "item",
    [
        "",
        " ",
        "-r /etc/passwd",
        " -e .",
        "--index-url=http://evil",
        "a @ http://evil/a.whl",
        "a@file:///etc/passwd",
        "http://evil/a.whl",
        "git+https://evil/a",
        "a.whl",
        "a-1.0.tar.gz",
        "a.ZIP",
        "a.zip[b]",
        'a.tgz ; python_version > "3"',
        "a===1.zip",
        "./a",
        "/tmp/a.whl",
        "../a",
        "a;b",
        "a && b",
        "$(id)",
        "`id`",
        "a | b",
        "a\nb",
        "a\0",
        "a --global-option=x",
        "réquests",
        "a" * 257,
    ],
)
def test_what_else_pip_would_take_is_refused_by_name(item: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_requirement(item)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (400, "bad_requirement")
    assert problem.sentence.startswith("dependency '")
    assert "\n" not in problem.sentence


def parsed_or_refused(data: bytes) -> None:
    try:
        request = parse_run(data, LIMITS)
    except RequestError as error:
        problem = error.problem
    else:
        assert request.code.strip()
        request.code.encode()
        request.stdin.encode()
        return
    assert problem.status in (400, 413)
    assert problem.sentence.isprintable()
    assert problem.response().body


@given(FIELDS | JSON)
def test_any_json_is_a_request_or_is_refused(value: Any) -> None:
    parsed_or_refused(json.dumps(value).encode())


@given(st.binary())
def test_any_bytes_are_a_request_or_are_refused(data: bytes) -> None:
    parsed_or_refused(data)


@given(st.binary(), st.binary())
def test_any_output_makes_an_answer_in_json(stdout: bytes, stderr: bytes) -> None:
    result = Result(
        Status.OK, 0, None, stdout + stderr, stdout, stderr, 0.1, 0.1, 1, truncated=False
    )
    answer = json.loads(render_result(result, None))
    assert answer["stdout"] == stdout.decode("utf-8", "replace")
    assert answer["stderr"] == stderr.decode("utf-8", "replace")
    assert answer["data"] == (stdout + stderr).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1b", 1),
        ("64k", 65536),
        ("64 KiB", 65536),
        ("64kB", 64000),
        ("1.5MiB", 1572864),
        ("1G", 1 << 30),
        ("1gb", 10**9),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1e3", "1 TiB", "1 k b", "٣", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 50))
def test_sizes_are_written_so_that_they_can_be_read(size: int) -> None:
    text = format_size(size)
    assert parse_size(text.removesuffix("bytes") if text.endswith("bytes") else text) == size
