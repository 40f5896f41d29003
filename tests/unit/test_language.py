"""What the server knows of the language of snippets."""

from __future__ import annotations

from pool.engine.spec import ContainerSpec, create_document
from pool.language import PYTHON


def test_commands_and_files_are_those_of_the_language() -> None:
    assert PYTHON.script("/home/code", "Main") == "/home/code/Main.py"
    assert PYTHON.run_file("/x.py") == ("python3", "/x.py")
    assert PYTHON.run_text("print(1)", "a", options=PYTHON.isolated) == (
        *("python3", "-I", "-c"),
        *("print(1)", "a"),
    )


def test_a_container_is_started_by_the_language() -> None:
    document = create_document(ContainerSpec("image", prepared=True), labels={}, sequence=0)
    assert document["Cmd"] == ["python3", "/home/code/Main.py"]
