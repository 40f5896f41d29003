"""The pool as a package: what it names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pool
from pool import errors
from pool.engine.sources import runner_files
from pool.engine.spec import RUNNER_DIR

ROOT = Path(pool.__file__).parent.parent


def test_every_error_of_the_pool_can_be_caught_by_a_public_name() -> None:
    raised = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, pool.PoolError)
    }
    assert raised <= set(pool.__all__)


def test_importing_the_pool_imports_no_library_of_others() -> None:
    code = "import sys, pool; print({name.partition('.')[0] for name in sys.modules})"
    tell = [sys.executable, "-c", f"{code[:-1]} - sys.stdlib_module_names - {{'__main__'}})"]
    told = subprocess.run(tell, capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"aiodocker", "aiohttp", "pydantic", "yarl"} & set(eval(told.stdout))


def test_in_a_container_the_package_is_empty() -> None:
    assert runner_files()[f"{RUNNER_DIR}/pool/__init__.py"] == ""


def test_both_packages_tell_type_checkers_that_they_have_types() -> None:
    assert (ROOT / "pool/py.typed").exists()
    assert (ROOT / "pgexec/py.typed").exists()


def test_what_the_example_imports_is_there() -> None:
    """The example itself runs against a real engine, in tests/integration."""
    assert pool.__doc__ is not None
    imports = [line for line in pool.__doc__.splitlines() if line.startswith("    from pool")]
    assert imports
    for line in imports:
        exec(line.strip(), {})
