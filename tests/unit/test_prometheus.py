"""The scrape and the files in deploy/prometheus, as promtool judges them."""

from __future__ import annotations

import re

import pytest

from pgexec.telemetry.metrics import Metrics
from tests.prometheus import RULES, promtool

_NAMED = re.compile(r"(?:alert|record): (\S+)")


def test_the_names_and_types_are_as_prometheus_wants_them() -> None:
    metrics = Metrics()
    metrics.pool("python")
    metrics.answered("/run", 200, 0.1)
    assert promtool("check", "metrics", text=metrics.render().decode()) == ""


def test_the_scrape_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", RULES / "prometheus.yml")


@pytest.mark.slow
def test_the_rules_record_and_alert_as_their_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULES / "tests.yml")


def test_every_rule_and_every_alert_has_a_test() -> None:
    tests = (RULES / "tests.yml").read_text()
    names = [
        name
        for file in ("rules", "alerts")
        for name in _NAMED.findall((RULES / f"{file}.yml").read_text())
    ]
    assert len(names) >= 10
    assert [name for name in names if name not in tests] == []
