"""A package index that a test serves to installers: what no real one should hold."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping

# An in-tree backend, so that nothing but the package itself is needed to build it.
_PYPROJECT = """
[build-system]
requires = []
build-backend = "setup"
backend-path = ["."]
"""
_BACKEND = """
import zipfile
{code}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.writestr("{name}.py", "HERE = 1")
        wheel.writestr("{name}-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        wheel.writestr("{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("{name}-1.0.dist-info/RECORD", "")
    return name
"""  # noqa: E501


def wheel(
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    files: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """Return a wheel's file name and bytes; `files` are added as they are called."""
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    extras = {one.partition("extra == ")[2].strip("'") for one in requires} - {""}
    needs += "".join(f"Provides-Extra: {one}\n" for one in sorted(extras))
    content = {
        f"{name}.py": f"VERSION = {version!r}\n",
        **(files or {}),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", out.getvalue()


def sdist(name: str, code: str) -> tuple[str, bytes]:
    """Return a source distribution whose `setup.py` runs code when it is built."""
    files = {
        "pyproject.toml": _PYPROJECT,
        "setup.py": _BACKEND.format(name=name, code=code),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            about = tarfile.TarInfo(f"{name}-1.0/{path}")
            about.size = len(text.encode())
            archive.addfile(about, io.BytesIO(text.encode()))
    return f"{name}-1.0.tar.gz", out.getvalue()


class PackageIndex:
    """Serves PEP 503's simple API on an address of this machine, to whoever has the password."""

    def __init__(self, address: str, credentials: str = "") -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if credentials and self.headers["Authorization"] != expected:
                    self._answer(401, b"")
                    return
                index.asked.append(self.path)
                self._answer(*index.page(self.path))

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}/simple/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, file: tuple[str, bytes]) -> None:
        """Serve a file; its name says of which project it is."""
        name, content = file
        self.files.setdefault(canonicalize_name(name.split("-")[0]), {})[name] = content

    def page(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a path."""
        _, kind, project, *rest = path.split("/")
        if project not in self.files:
            return 404, b"no such project"
        if kind == "files":
            return 200, self.files[project][rest[0]]
        links = (
            f'<a href="/files/{project}/{name}#sha256={hashlib.sha256(content).hexdigest()}">'
            f"{name}</a>"
            for name, content in self.files[project].items()
        )
        return 200, "\n".join(links).encode()

    def close(self) -> None:
        """Serve nothing any more."""
        self._server.shutdown()
        self._server.server_close()
