"""Arguments as models send them."""

from __future__ import annotations

import pytest

from pgexec.mcp.arguments import IMAGES, ArgumentError, ReadFile, RunPython, arguments_of, schema_of


def options(**arguments: object) -> object:
    return arguments_of(RunPython, "run_python", {"code": "1", **arguments}).options("python")


def test_files_are_text_or_base64_and_images_are_collected_in_any_case() -> None:
    assert options(
        files={"a.txt": "x"}, files_base64={"b": "/w\n=="}, collect=["*.csv"], timeout_s=2
    ) == {
        "language": "python",
        "dependencies": [],
        "files": {"a.txt": "x", "b": b"\xff"},
        "collect": ["*.csv", *IMAGES],
        "timeout_s": 2,
    }


def test_the_time_limit_may_be_named_without_its_unit_or_be_null() -> None:
    assert arguments_of(RunPython, "run_python", {"code": "", "timeout": 3}).timeout_s == 3
    assert arguments_of(RunPython, "run_python", {"code": "", "timeout_s": None}).timeout_s is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (None, "the argument `code` is missing"),
        ({"code": 1}, "the argument `code` is wrong: input should be a valid string"),
        ({"code": "", "timeout_s": 0}, "`timeout_s` is wrong: input should be greater than 0"),
        ({"code": "", "files": {"a": 1}}, "the argument `files.a` is wrong"),
        ({"code": "", "lang": "js"}, "there is no argument `lang`: run_python takes code, files"),
        ({"cod": ""}, "`code` is missing; there is no argument `cod`"),
        ({"code": "", "files_base64": {"a": "?"}}, "what 'a' has is not base64"),
        ({"code": "", "files_base64": {"a": "\u20ac"}}, "what 'a' has is not base64"),
        ({"code": "", "files": {"a": ""}, "files_base64": {"a": ""}}, "'a' is in `files` and"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        arguments_of(RunPython, "run_python", arguments).options("python")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_is_one_that_every_client_understands() -> None:
    schema = schema_of(RunPython)
    assert schema["required"] == ["code"]
    assert schema["additionalProperties"] is False
    assert "anyOf" not in str(schema)
    assert "$ref" not in str(schema)
    assert "title" not in str(schema)
    assert schema["properties"]["timeout_s"]["type"] == "number"
    assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize("name", ["/home/code/a.txt", "..", "a/../../b", ".", "a/.."])
def test_only_files_below_the_directory_can_be_read(name: str) -> None:
    wanted = arguments_of(ReadFile, "read_file", {"session_id": "s", "name": name})
    with pytest.raises(ArgumentError, match="is a path in the directory in which"):
        wanted.pattern()
