"""The limit on open files, seen from processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
TELL = """
import resource
from pgexec.process.limits import raise_open_files_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_open_files_limit())
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def told(soft: int, hard: int) -> list[str]:
    code = TELL.format(soft=soft, hard=hard)
    return subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()


@pytest.mark.skipif(HARD < 4096, reason="the hard limit is low")
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert told(256, 4096) == ["None", "4096 4096"]


def test_a_low_hard_limit_is_complained_of() -> None:
    complaint, limits = told(200, 300)
    assert limits == "300 300"
    assert complaint.startswith("only 300 files may be open at once")
