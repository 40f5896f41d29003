"""Write what the checks of a ground have found into docs/engines.md.

`python -m tests.grounds.table` asks the engine of DOCKER_HOST for its versions, and prints them;
`python -m tests.grounds.table GROUND FOLDER [LEFT_OUT]` reads them from `FOLDER/engine.found`, and
the checks' output from `FOLDER/CHECK.found`. It renews those cells of the ground's row, and what
did not hold in those checks; what other checks have found before stays.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from deploy.setup import engine_api

DOCUMENT = Path(__file__).parents[2] / "docs/engines.md"
CHECKS = ("doctor", "battery", "leftovers", "limits", "escape", "latency")
BEGIN, END = "<!-- by make ground -->\n", "<!-- until here -->\n"
HEAD = f"| ground | engine | {' | '.join(CHECKS)} | date |\n|{'---|' * (len(CHECKS) + 3)}\n"
WIDTH = 116


def main(ground: str, folder: Path, left_out: str = "") -> None:
    """Renew the row and the item of one ground, and leave those of others."""
    document = DOCUMENT.read_text(encoding="utf-8")
    cells, fails = known(document, ground)
    for check in CHECKS:
        file = folder / f"{check}.found"
        if file.exists():
            text = file.read_text(encoding="utf-8", errors="replace")
            cells[check], fails[check] = read(check, text)
    versions = (folder / "engine.found").read_text(encoding="utf-8").strip()
    row = [ground, versions, *cells.values(), time.strftime("%F")]
    renewed = renew(document, ground, row, item(fails, left_out))
    DOCUMENT.write_text(renewed, encoding="utf-8")


def known(document: str, ground: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the ground's cells by check, and what failed in each, as the document has them."""
    cells = dict.fromkeys(CHECKS, "not tried")
    if row := re.search(rf"^\| {re.escape(ground)} \|(.*)\|$", document, re.MULTILINE):
        cells.update(zip(CHECKS, (one.strip() for one in row[1].split("|")[1:-1]), strict=True))
    listed = re.search(rf"^- \*\*{re.escape(ground)}\*\*: (.*(?:\n  .*)*)$", document, re.MULTILINE)
    text = " ".join(listed[1].split()) if listed else ""
    fails = {}
    for check in CHECKS:
        part = re.search(rf"(?:^|; ){check}: ((?:`[^`]*`(?:, )?)+)", text)
        fails[check] = re.findall(r"`([^`]*)`", part[1]) if part else []
    return cells, fails


def ask(path: str) -> Any:
    """Return what the engine answers to a GET."""
    connection = engine_api.connect(engine_api.find_engine(), engine_api.STALL_TIMEOUT_S)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def engine(version: dict[str, Any], info: dict[str, Any]) -> str:
    """Return the engine's name and version, with those of what it starts containers by."""
    parts = {one["Name"]: one["Version"] for one in version.get("Components") or ()}
    podman = parts.get("Podman Engine")
    name = "Podman" if podman else "Docker"
    chosen = os.environ.get("PGEXEC_RUNTIME")
    runtime = str(chosen or info.get("DefaultRuntime") or info.get("OCIRuntime") or "")
    of_runtime = re.search(r"\d+\.[\d.]+", str(parts.get(f"OCI Runtime ({runtime})") or ""))
    number = of_runtime[0] if of_runtime else parts.get(runtime, "")
    security = str(info.get("SecurityOptions"))
    modules = [one for one in ("AppArmor", "SELinux") if f"name={one.lower()}" in security]
    return ", ".join(
        (
            f"{name} {podman or version.get('Version')}".partition("+")[0],
            f"{runtime} {number}".partition("+")[0].strip(),
            str(info.get("Driver")),
            f"cgroup v{info.get('CgroupVersion', 1)}",
            *modules,
        )
    )


def read(check: str, text: str) -> tuple[str, list[str]]:
    """Return what goes into a check's cell, and the names of what failed."""
    if not text:
        return "not tried", []
    if check == "doctor":
        levels = re.findall(r"^(ok|warn|fail|skip)\s+(.*?)(?:\s{2,}|$)", text, re.MULTILINE)
        counts = {level: sum(one == level for one, _ in levels) for level, _ in levels}
        found = [name for level, name in levels if level == "fail"]
        return ", ".join(f"{number} {level}" for level, number in counts.items()), found
    if check == "battery":
        failed = re.findall(r"^FAIL (.*?):", text, re.MULTILINE)
        passed = len(re.findall(r"^ok ", text, re.MULTILINE))
        return (f"{passed} of {passed + len(failed)}", failed) if passed else ("not ready", [])
    if check == "latency":
        ratios = dict(re.findall(r"^  (.*?) / run, p50: ([\d.e+]+),", text, re.MULTILINE))
        cell = ", ".join(f"{float(ratio):.0f} x {what}" for what, ratio in ratios.items())
        return cell or "not measured", []
    failed = re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+(?:\[.*?\])?)(?: - |$)", text, re.MULTILINE)
    # Objects that an interpreter finds unclosed at its end are told after pytest's last line.
    ends = re.findall(r"^.*\d .* in [\d.]+s.*$", text, re.MULTILINE)
    last = ends[-1] if ends else ""
    tally = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    passed = tally.get("passed", 0)
    return f"{passed} of {sum(tally.values())}", failed


def item(fails: dict[str, list[str]], left_out: str) -> str:
    """Return in one paragraph what failed in each check, and what was left out of all."""
    parts = [
        f"{check}: {', '.join(f'`{one}`' for one in found)}"
        for check, found in fails.items()
        if found
    ]
    if left_out:
        parts.append(f"left out {left_out}")
    return "; ".join(parts)


def renew(document: str, ground: str, row: list[str], fails: str) -> str:
    """Return the document with the ground's row and item replaced, added or taken out."""
    before, rest = document.split(BEGIN)
    part, after = rest.split(END)
    rows = dict(re.findall(r"^\| ([\w.-]+) (\| .*\|)$", part, re.MULTILINE))
    rows.pop("ground", None)
    rows[ground] = f"| {' | '.join(row[1:])} |"
    items = dict(re.findall(r"^- \*\*([\w.-]+)\*\*: (.*(?:\n  .*)*)$", part, re.MULTILINE))
    items[ground] = fails
    table = "".join(f"| {name} {cells}\n" for name, cells in sorted(rows.items()))
    listed = "".join(
        textwrap.fill(
            f"- **{name}**: {' '.join(text.split())}",
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
        for name, text in sorted(items.items())
        if text
    )
    body = f"{HEAD}{table}\nWhat failed there, by the checks' and tests' own names:\n\n{listed}"
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        print(engine(ask("/version"), ask("/info")))  # noqa: T201
