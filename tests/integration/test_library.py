"""The pool without the server, as its own docstring shows it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pool


def test_the_example_of_the_docstring_prints_what_it_says(first_image: str) -> None:
    assert pool.__doc__ is not None
    _, _, rest = pool.__doc__.partition("::\n")
    example = textwrap.dedent(rest[: rest.index("\nA snippet")])
    said = example.partition("# ")[2].partition("\n")[0]
    code = example.replace("python:alpine", first_image)
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{said}\n", "")
