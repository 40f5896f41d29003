"""The modules of the page's script, joined into the one script that the page carries.

Each is a module as browsers know it: imports of names at the top, one a line, then declarations,
some of which it exports. The page's policy names scripts by their hashes, which browsers do not
hold against what a module imports; so each module becomes a function that is called once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAIN: Final = "main"
_IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)


def join_scripts(directory: Path) -> str:
    """Return the modules that `main.js` imports, and those that they import, each after its own.

    Raises `ValueError` for an import in a circle, or of what is not exported.
    """
    sources: dict[str, str] = {}
    _collect(directory, MAIN, sources, ())
    return '"use strict";\n' + "".join(
        f"const ${module} = (() => {{\n{_IMPORT.sub(_take, _EXPORT.sub('', source))}"
        f"return {{ {', '.join(_EXPORT.findall(source))} }};\n}})();\n"
        for module, source in sources.items()
    )


def _take(imported: re.Match[str]) -> str:
    return f"const {{ {imported[1]} }} = ${imported[2]};\n"


def _collect(
    directory: Path, module: str, sources: dict[str, str], importers: tuple[str, ...]
) -> None:
    if module in importers:
        raise ValueError(f"{module}.js imports itself by way of {importers[-1]}.js")
    if module in sources:
        return
    source = (directory / f"{module}.js").read_text(encoding="utf-8")
    for names, other in _IMPORT.findall(source):
        _collect(directory, other, sources, (*importers, module))
        missing = set(names.split(", ")) - set(_EXPORT.findall(sources[other]))
        if missing:
            raise ValueError(f"{module}.js imports {sorted(missing)}, which {other}.js has not")
    sources[module] = source
