"""The modules of the page's script become one script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgexec.http.page.scripts import join_scripts
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = ROOT / "pgexec/http/page/scripts"


def write(directory: Path, **modules: str) -> None:
    for name, source in modules.items():
        (directory / f"{name}.js").write_text(source)


def test_a_module_comes_after_those_that_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='import { one, two } from "./other.js";\n\none(two);\n',
        other="const mine = 1;\nexport const two = mine + 1;\nexport async function one() {}\n",
    )
    assert join_scripts(tmp_path) == (
        '"use strict";\n'
        "const $other = (() => {\n"
        "const mine = 1;\nconst two = mine + 1;\nasync function one() {}\n"
        "return { two, one };\n})();\n"
        "const $main = (() => {\n"
        "const { one, two } = $other;\n\none(two);\n"
        "return {  };\n})();\n"
    )


def test_a_module_is_there_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='import { a } from "./a.js";\nimport { b } from "./b.js";\n',
        a='import { b } from "./b.js";\nexport const a = b;\n',
        b="export const b = 1;\n",
    )
    assert join_scripts(tmp_path).count("const $b = ") == 1


def test_what_is_not_exported_cannot_be_imported(tmp_path: Path) -> None:
    write(tmp_path, main='import { a } from "./a.js";\n', a="const a = 1;\n")
    with pytest.raises(ValueError, match=r"main\.js imports \['a'\], which a\.js has not"):
        join_scripts(tmp_path)


def test_no_module_imports_itself_by_way_of_others(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='import { a } from "./a.js";\n',
        a='import { b } from "./b.js";\nexport const a = 1;\n',
        b='import { a } from "./a.js";\nexport const b = 1;\n',
    )
    with pytest.raises(ValueError, match=r"a\.js imports itself by way of b\.js"):
        join_scripts(tmp_path)


def test_every_module_is_in_the_page_and_none_is_long() -> None:
    script = join_scripts(SCRIPTS)
    for module in SCRIPTS.glob("*.js"):
        assert f"const ${module.stem} = " in script
        assert module.read_text().count("\n") <= 400
    assert "import " not in script.replace("// ", "")
    assert "\nexport " not in script
