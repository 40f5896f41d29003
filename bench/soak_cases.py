"""What the soak sends: snippets that print a nonce, and how each must end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

NONCE = "NONCE"
"""Stands in a snippet for the text that has to come back."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of run; `statuses` are the verdicts that are right for it."""

    name: str
    code: str
    statuses: frozenset[str] = frozenset({"ok"})
    fields: Mapping[str, object] = field(default_factory=dict)
    exit_code: int | None = None


def _case(name: str, status: str, code: str, exit_code: int | None, **fields: object) -> Case:
    return Case(name, code, frozenset(status.split()), fields, exit_code)


# Whatever an earlier run left behind would bring its nonce into a later one's answer.
HARMLESS = (
    _case("print", "ok", "print('NONCE')", 0),
    _case("stdin", "ok", "import sys\nprint(sys.stdin.read())", 0, stdin=NONCE),
    _case("stderr", "error", "import sys\nprint('NONCE', file=sys.stderr)\nsys.exit(3)", 3),
    _case("traceback", "error", "raise ValueError('NONCE')", 1),
    _case(
        "files",
        "ok",
        "import os\n"
        "for place in ('/tmp', '/dev/shm', '/home/code'):\n"
        "    print(os.listdir(place), [open(f'{place}/{n}').read() for n in os.listdir(place)])\n"
        "    open(f'{place}/NONCE', 'w').write('NONCE')\n",
        0,
    ),
    _case(
        "state",
        "ok",
        "import builtins, os, sys\n"
        "print(vars(builtins).get('left'), os.environ.get('LEFT'), sys.argv, 'NONCE')\n"
        "builtins.left = os.environ['LEFT'] = 'NONCE'\n",
        0,
    ),
    _case(
        "process left behind",
        "ok",
        "import os, time\n"
        "print('NONCE', flush=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    while True:\n"
        "        time.sleep(0.001); print('NONCE', flush=True)\n",
        0,
    ),
    _case("compute", "ok", "print(sum(range(300_000)), 'NONCE')", 0),
    _case("20 KiB of output", "ok", "print('x' * 20_000)\nprint('NONCE')", 0),
    _case("import", "ok", "import argparse, decimal\nprint('NONCE')", 0),
    _case("fresh", "ok", "print('NONCE')", 0, fresh=True),
)
FRESH_SHARE = 0.01

HOSTILE = (
    _case(
        "endless loop",
        "timeout",
        "print('NONCE', flush=True)\nwhile True: pass",
        None,
        timeout_s=0.3,
    ),
    _case(
        "sleep, SIGTERM ignored",
        "timeout",
        "import signal, time\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "print('NONCE', flush=True)\n"
        "time.sleep(60)\n",
        None,
        timeout_s=0.3,
    ),
    _case(
        "memory",
        "memory_limit",
        "print('NONCE', flush=True)\n"
        "hoard = []\n"
        "while True: hoard.append(bytearray(b'x' * (8 << 20)))\n",
        None,
    ),
    _case(
        "output flood",
        "output_limit",
        "import os\nprint('NONCE', flush=True)\nwhile True: os.write(1, b'x' * 65536)",
        None,
    ),
    _case(
        "fork bomb",
        "timeout",
        "import os\n"
        "print('NONCE', flush=True)\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: pass\n",
        None,
        timeout_s=0.5,
    ),
    _case(
        "killed",
        "killed",
        "import os\nprint('NONCE', flush=True)\nos.kill(os.getpid(), 9)",
        None,
    ),
    _case(
        "killing everybody",
        "killed error ok timeout",
        "import os\nprint('NONCE', flush=True)\nos.kill(-1, 9)",
        None,
        timeout_s=2,
    ),
    _case(
        "full disk",
        "error",
        "print('NONCE', flush=True)\n"
        "with open('/tmp/full', 'wb', 0) as file:\n"
        "    while True: assert file.write(b'x' * (1 << 20)) == 1 << 20\n",
        1,
    ),
)
HOSTILE_SHARE = 0.05
HANG_UP = _case("hang-up", "", "import time\nprint('NONCE', flush=True)\ntime.sleep(20)", None)
HANG_UP_SHARE = 0.01


def choose(chance: random.Random) -> Case:
    """Draw the next run."""
    draw = chance.random()
    if draw < HOSTILE_SHARE:
        return chance.choice(HOSTILE)
    if draw < HOSTILE_SHARE + HANG_UP_SHARE:
        return HANG_UP
    if draw < HOSTILE_SHARE + HANG_UP_SHARE + FRESH_SHARE:
        return HARMLESS[-1]
    return chance.choice(HARMLESS[:-1])
