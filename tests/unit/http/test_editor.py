"""The bundled editor: that it is what its sources give, and how it is sent."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from pgexec.http.page.asset import takes_gzip
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.http.rig import Running, Serve

EDITOR = ROOT / "editor"
PAGE = ROOT / "pgexec/http/page"
BUNDLE = ("codemirror.js", "codemirror.LICENSES.txt")
INPUTS = ("package.json", "package-lock.json", "entry.js", "build.js")


def test_the_bundle_is_of_the_sources_that_are_here() -> None:
    """If not, `make page` bundles it again."""
    digest = sha256(b"".join((EDITOR / name).read_bytes() for name in INPUTS)).hexdigest()
    assert f"(sha256 of its files: {digest})" in (PAGE / BUNDLE[0]).read_text()[:300]


@pytest.mark.slow
def test_the_sources_give_the_bundle_byte_for_byte(tmp_path: Path) -> None:
    if not (EDITOR / "node_modules/esbuild").exists() or shutil.which("node") is None:
        pytest.skip("the sources are not there: deploy/setup/editor.sh fetches them")
    subprocess.run(["node", EDITOR / "build.js", tmp_path], check=True, timeout=120)
    for name in BUNDLE:
        assert (tmp_path / name).read_bytes() == (PAGE / name).read_bytes()


def test_every_part_of_the_bundle_has_its_licence_beside_it() -> None:
    lock = json.loads((EDITOR / "package-lock.json").read_text())["packages"]
    shipped = {
        f"{path.removeprefix('node_modules/')} {entry['version']}"
        for path, entry in lock.items()
        if path and not entry.get("dev") and not entry.get("optional")
    }
    text = (PAGE / BUNDLE[1]).read_text()
    named = set(re.findall(r"^(\S+ \d\S*) \(MIT\)$", text, re.MULTILINE))
    assert named
    assert named <= shipped
    assert text.count("Permission is hereby granted") == len(named)
    assert {name.split()[0] for name in shipped - named} == set()


def test_the_lock_has_a_hash_of_each_part_and_names_no_host() -> None:
    text = (EDITOR / "package-lock.json").read_text()
    packages = [entry for path, entry in json.loads(text)["packages"].items() if path]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages)
    assert "resolved" not in text


async def test_the_editor_is_fetched_once_and_packed(server: Running) -> None:
    page = (await server.get("/")).body.decode()
    (path, digest) = re.findall(r'<script src="(/editor\.js\?\w+)" integrity="(\S+)">', page)[0]
    answer = await server.get(path)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) < 140_000
    assert answer.body == (PAGE / BUNDLE[0]).read_bytes()
    assert path.endswith(sha256(answer.body).hexdigest()[:16])
    assert f"'{digest}'" in (await server.get("/")).headers["Content-Security-Policy"]


async def test_who_takes_no_gzip_gets_it_plain(server: Running) -> None:
    for path in ("/", "/editor.js"):
        plain = await server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        packed = await server.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br, gzip\r\n\r\n".encode()
        )
        assert "Content-Encoding" not in plain.headers
        assert gzip.decompress(packed.body) == plain.body
        assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"


async def test_who_has_the_page_is_told_so(server: Running) -> None:
    tag = (await server.get("/")).headers["Etag"]
    for known in (tag, f'"other", W/{tag}'):
        answer = await server.get("/", **{"If-None-Match": known})
        assert (answer.status, answer.body) == (304, b"")
        assert "Content-Security-Policy" in answer.headers
    assert (await server.get("/", **{"If-None-Match": '"other"'})).status == 200


async def test_another_page_has_another_tag(serve: Serve) -> None:
    pages = [await serve(), await serve(api_keys="alice:one"), await serve(playground=False)]
    assert len({(await one.get("/")).headers["Etag"] for one in pages}) == len(pages)


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
        ("xgzip", False),
    ],
)
def test_gzip_is_for_who_names_it(accepted: str, *, takes: bool) -> None:
    assert takes_gzip(accepted) is takes
