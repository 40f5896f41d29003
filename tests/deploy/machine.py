"""A machine to install on: this one, but what is written there is gone when it closes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Self

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_MOUNTS = """
mount -t tmpfs tmpfs "$1"
mkdir "$1"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for place in proc sys dev run; do mount --rbind "/$place" "$1/root/$place"; done
exec chroot "$1/root" sh -c 'echo up; exec cat'
"""
# Not the interpreter of the tests, which another user may not be able to read.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nobody manages units there, so they are enabled, and `Unit` starts them.
_STAND_INS = """
set -euo pipefail
systemctl() { SYSTEMD_OFFLINE=1 command systemctl "${@/#--now/--no-reload}"; }
docker() { [[ $1 == pull ]] || command docker "$@"; }
"""


class Machine:
    """Has a root of its own over this machine's; `directory` is an empty one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        private = ("unshare", "--mount", "--propagation", "private")
        self._holder = subprocess.Popen(
            [*private, "bash", "-euc", _MOUNTS, "bash", self._directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._holder is not None
        self._holder.communicate()

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command there."""
        assert self._holder is not None
        return ["nsenter", "-t", str(self._holder.pid), "--mount", "--root", "--", *command]

    def sh(self, text: str) -> str:
        """Run commands there, from the checkout, as root; return what they print."""
        done = subprocess.run(
            self.inside("bash", "-c", f"{_STAND_INS}\ncd {ROOT}\n{text}"),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": _PATH},
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Unit:
    """A service that was enabled on a machine, started as its unit says."""

    def __init__(self, machine: Machine, name: str) -> None:
        state = machine.sh(f"systemctl is-enabled {name}").strip()
        assert state == "enabled", f"{name}: {state}"
        self._machine = machine
        file, _, instance = name.partition("@")
        text = machine.sh(f"cat /etc/systemd/system/{file}{'@' * ('@' in name)}.service")
        text = text.replace("%i", instance).replace("%l", "host")
        self._fields = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program with the unit's user, directory and variables, without privileges."""
        of = self._fields
        user = f"--reuid={of['User']} --regid={of['User']} --init-groups"
        bare = "--no-new-privs --bounding-set=-all --inh-caps=-all"
        command = f"setpriv {user} {bare} env -i {of['Environment']} {of['ExecStart']}"
        script = f"cd {of['WorkingDirectory']} && exec {command}"
        self._process = subprocess.Popen(
            self._machine.inside("bash", "-c", script),
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> int:
        """Stop it as systemd does; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
