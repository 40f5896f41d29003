"""What is in `deploy/`, started for real; `make deployments` runs what takes more than a moment."""

from __future__ import annotations

import os

import pytest

from tests.integration.conftest import first_image, start

__all__ = ["first_image", "start"]

SWITCH = "PGEXEC_TEST_DEPLOYMENTS"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deployment: starts the real parts; for make deployments")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get(SWITCH):
        for item in items:
            if item.get_closest_marker("deployment"):
                item.add_marker(pytest.mark.skip(reason=f"{SWITCH} is not set: make deployments"))
