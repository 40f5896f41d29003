"""Grade a submission: one request runs it on every test, and says which outputs differ.

    python examples/grader.py solution.py tests/

The folder has a `NAME.in` for each test, and a `NAME.out` with what is to come. White space at the
end of lines is no difference. The exit status is 0 if all tests passed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pgexec.client import BatchRun, Client


def verdict(run: BatchRun) -> str:
    """Return the verdict on one test, in a judge's words."""
    if run.result is None:
        return f"not judged: {run.error}"
    if not run.result.ok:
        return f"{run.result.status}: {run.result.error}"
    return "accepted" if run.matches else "wrong answer"


def main() -> int:
    """Print a line for each test."""
    solution, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tests = sorted(folder.glob("*.in"))
    with Client() as client:
        batch = client.run_many(
            solution.read_text(),
            [test.read_text() for test in tests],
            expected=[test.with_suffix(".out").read_text() for test in tests],
            compare="ignore_trailing_space",
            timeout_s=2,
            memory_limit_bytes=64 << 20,
        )
    for test, run in zip(tests, batch, strict=True):
        print(f"{test.stem}: {verdict(run)}")
    print(f"{batch.passed} of {len(batch)} passed")
    return 0 if batch.first_failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
