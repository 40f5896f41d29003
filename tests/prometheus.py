"""Prometheus and promtool for the tests, and what a scrape is made of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana/pgexec.json"
_NAME = re.compile(r"\b(?:pgexec|process)_[a-z0-9_]+")
_EXPRESSION = re.compile(
    r"^ +expr: (?:\|\n(?P<block>(?: {10,}.*\n)+)|(?P<line>.+)\n)", re.MULTILINE
)


def tool(name: str) -> str:
    """Return the path of `prometheus` or `promtool`, or skip the test where it is not there."""
    unpacked = ROOT / ".tools/prometheus" / name
    path = shutil.which(name) or (str(unpacked) if unpacked.exists() else None)
    if path is None:
        pytest.skip(f"{name} is not there: deploy/setup/prometheus.sh gets it on Debian and Ubuntu")
    return path


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Run promtool on files, or on a text, and return what it says; fail where it complains."""
    done = subprocess.run(
        [tool("promtool"), *arguments],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True, slots=True)
class Described:
    """What a scrape says of one family, apart from its values."""

    kind: str
    labels: frozenset[str]


def described(scrape: str) -> dict[str, Described]:
    """Return the families that are pgexec's own by name, counters with their `_total`."""
    families = {}
    for family in text_string_to_metric_families(scrape):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        if name.startswith("pgexec_"):
            families[name] = Described(family.type, frozenset(labels))
    return families


def sample_names(scrape: str) -> set[str]:
    """Return the names of the samples, as queries use them: `…_bucket`, `…_sum` and so on."""
    families = text_string_to_metric_families(scrape)
    return {sample.name for family in families for sample in family.samples}


def names_in(query: str) -> set[str]:
    """Return the metrics that a query asks for, without those that rules record."""
    words = re.sub(r'"[^"]*"', '""', query)
    words = re.sub(r"\w+:pgexec_\w+:\w+", "", words)
    return set(_NAME.findall(words))


def panel_queries() -> list[str]:
    """Return the queries of the dashboard's panels, for every server and pool."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    variables = {"$__rate_interval": "1m", "$instance": ".*", "$profile": ".*", "$job": ".*"}
    for name, value in variables.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def variable_queries() -> list[str]:
    """Return the queries by which the dashboard offers servers and pools."""
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    return [one["query"]["query"] for one in variables if one["type"] == "query"]


def expressions(rules: Path) -> list[str]:
    """Return the expressions of a file of rules."""
    found = _EXPRESSION.finditer(rules.read_text())
    return [one["block"] or one["line"] for one in found]
