"""Count which modules of the standard library Python files import: `python -m bench.modules DIR…`.

The evidence for what `settings.env` names for PGEXEC_IDLE_IMPORTS (ADR 20). A file counts once for
each module, whatever the number of its imports. `from xml.etree import ElementTree` counts for
`xml.etree.ElementTree`, as far as this interpreter has such a module.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections import Counter
from functools import cache
from pathlib import Path


def main() -> int:
    """Print the modules, most imported first, each with its number of files."""
    counts: Counter[str] = Counter()
    for directory in sys.argv[1:]:
        for path in Path(directory).rglob("*.py"):
            counts.update(imported(path.read_text("utf-8", "replace")))
    for name, count in counts.most_common():
        print(f"{count:6} {name}")
    return 0


def imported(code: str) -> set[str]:
    """Return the modules of the standard library that some code imports; none if it is broken."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{one.name}" for one in node.names}
            modules = set(filter(_is_standard, inner))
            found.update(modules)
            if modules != inner:
                found.add(node.module)
    return set(filter(_is_standard, found))


@cache
def _is_standard(name: str) -> bool:
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    parent = name.rpartition(".")[0]
    try:
        package = importlib.util.find_spec(parent) if parent else None
        if package is not None and package.submodule_search_locations is None:
            return False  # to look into what is no package would import it
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main())
