#!/usr/bin/env bash
# numpy 2.4.0 (its wheel for Linux, with OpenBLAS), two processors or more: the threads of a process that forks.
# Expected: the child alone loses them, as POSIX has it.
# Seen: OpenBLAS ends its threads in the parent, too, just before the fork, and starts them again at the next
# matrix product. A count of threads after the import is therefore no reason not to fork.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install numpy==2.4.0
cd "$work"
timeout 60 "$work/venv/bin/python" - <<'PY'
import os
import sys

if len(os.sched_getaffinity(0)) < 2:
    sys.exit("needs two processors")
os.environ["OPENBLAS_NUM_THREADS"] = "2"


def threads():
    return len(os.listdir("/proc/self/task"))


import numpy

imported = threads()
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
forked = threads()
square = numpy.ones((500, 500))
square @ square
used = threads()
print("numpy", numpy.__version__, "threads of the parent: imported", imported, "after a fork", forked, "after use", used)
assert (imported, forked, used) == (2, 1, 2)
PY
