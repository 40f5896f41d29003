"""The imports with which a script begins, and nothing that is not certain."""

from __future__ import annotations

import ast
import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.inside.leading import leading_imports


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import numpy", ["import numpy"]),
        ("import os, numpy as np, a.b as c", ["import numpy", "import a.b"]),
        ("from a.b import (c as d,  # why\n  e,\n)\nprint(1)", ["from a.b import c, e"]),
        ("from a import(b)", ["from a import b"]),
        ("from a import *;import b; print(1); import c", ["from a import *", "import b"]),
        ("#!python\n\n# é\nimport a\n\timport b", ["import a"]),
        ('"""A text.\n\nimport z\n"""  # x\nfrom __future__ import annotations\nimport a', None),
        ("'''one'''\nimport a", None),
        ("import json\r\nimport a\rimport b", ["import a", "import b"]),
        ("\ufeffimport a", []),
        ("x = 1\nimport a", []),
        ("import warnings; warnings.simplefilter('ignore')\nimport a", []),
        ("import sys\nprint('a' in sys.modules)\nimport a", []),
        ("try:\n    import a\nexcept ImportError: pass", []),
        ("# \x0cimport a", []),
        ("import\x0ca", []),
        ("import \\\n  a", []),
        ('"""a\\"""\nimport a\n"""', []),
        ('"""a""" if x else 1\nimport a', []),
        ('r"""a"""\nimport a', []),
        ("from . import a", []),
        ("from .a import b", []),
        ("import a as b.c", []),
        ("from a import (b", []),
        ("from a import b.c", []),
        ("import é", []),
        ("  import a", []),
        ("import a, ", []),
        ("importa", []),
        ("", []),
    ],
)
def test_tells_what_is_certain(code: str, found: list[str] | None) -> None:
    assert leading_imports(code.encode()) == (["import a"] if found is None else found)


def test_a_line_that_may_be_cut_does_not_count() -> None:
    code = b"#" * 8180 + b"\nimport numpy"
    assert leading_imports(code) == []


def told_by_ast(code: str) -> list[str] | None:
    """Return what the parser of the interpreter makes of a script; None if it is none."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError):
        return None
    found = []
    for one in body:
        if isinstance(one, ast.Import):
            found += [f"import {name.name}" for name in one.names]
        elif isinstance(one, ast.ImportFrom) and not one.level and one.module:
            names = ", ".join(name.name for name in one.names)
            found.append(f"from {one.module} import {names}")
        elif not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)):
            break
    known = sys.stdlib_module_names
    return [one for one in found if one.split()[1].partition(".")[0] not in known]


PIECES = (
    *("import ", "from ", " as ", "a", "b.c", "os", "*", ",", "(", ")", ";", "\n", "\r", " ", "\t"),
    *("#", '"""', "'''", "\\", "\x0c", "\x1c", "\x85", "\xa0", "é", "=", "1", "if ", ":", "."),
)


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_agrees_with_the_parser(code: str) -> None:
    with contextlib.suppress(RecursionError):
        truth = told_by_ast(code)
        if truth is not None:
            told = leading_imports(code.encode())
            assert told == truth[: len(told)]
