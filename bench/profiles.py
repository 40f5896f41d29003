"""What `import numpy; import pandas` costs where a profile has imported them before the fork."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.dependencies import time_runs
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed

PACKAGES = ["numpy", "pandas"]
LANGUAGE = "python-data"
PROFILES = {
    LANGUAGE: {
        "dependencies": PACKAGES,
        "preimport": PACKAGES,
        "min_idle": 2,
        "max_containers": 2,
        "memory_limit": "512MiB",
    }
}
ROUNDS, COLD_RUNS, WARM_UP_RUNS = 30, 3, 20
WANTED_MS = 5.0
IMPORTS = "import numpy; import pandas"
TIMED = f"""
import time
began = time.perf_counter()
{IMPORTS}
print(time.perf_counter() - began)
"""


async def measure(bed: Bed) -> Section:
    """Measure requests to a profile and to the default language in turns."""
    section = Section(f"Profiles: {IMPORTS}, imported before the fork, one request at a time")
    volume = f"pgexec-bench-{secrets.token_hex(8)}"
    try:
        async with serving(dependency_volume=volume, profiles=json.dumps(PROFILES)) as server:
            connection = await ClientConnection.open(server.port)
            requests = {
                "python: print(1)": post_run("print(1)"),
                f"{LANGUAGE}: print(1)": post_run("print(1)", language=LANGUAGE),
                f"{LANGUAGE}: {IMPORTS}": post_run(IMPORTS, language=LANGUAGE),
            }
            took: dict[str, list[float]] = {label: [] for label in requests}
            for request in requests.values():
                await time_runs(connection, request, WARM_UP_RUNS)
            for _ in range(ROUNDS):
                for label, request in requests.items():
                    await server.settled()
                    took[label].extend(await time_runs(connection, request, 1))
            cold = post_run(IMPORTS, dependencies=PACKAGES)
            await time_runs(connection, cold, 1)  # installs
            took[f"python with dependencies: {IMPORTS}"] = await time_runs(
                connection, cold, COLD_RUNS
            )
            inside = []
            for _ in range(WARM_UP_RUNS):
                _, body = await connection.ask(post_run(TIMED, language=LANGUAGE))
                inside.append(float(json.loads(body)["data"]))
            connection.close()
    finally:
        await bed.remove_volume(volume)
    for label, times in took.items():
        section.row(label, **milliseconds(times))
    section.row("the imports alone, timed in the snippet", **milliseconds(inside))
    _, plain, importing, _ = (median(times) * 1000 for times in took.values())
    section.want_at_most("imports, timed in the snippet, p50 ms", median(inside) * 1000, WANTED_MS)
    section.want_at_most("with less without imports, p50 ms", importing - plain, WANTED_MS)
    return section
