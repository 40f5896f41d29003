"""What of a request has to be installed, given what its language's containers have."""

from __future__ import annotations

import pytest

from pool.dependencies.stock import Stock
from pool.errors import InstallError, InstallFailure

RUNNER = {"python": "3.13.1", "implementation": "cpython", "machine": "x86_64"}
INSTALLED = [
    "numpy==2.1.0",
    "python_dateutil==2.9.0.post0",
    "Pillow==11.0rc1",
    "odd==not-a-version",
]


def lacks(*requirements: str) -> tuple[str, ...]:
    return Stock.of({**RUNNER, "installed": INSTALLED}).lacks(requirements)


def test_what_is_there_in_a_version_that_fits_drops_out() -> None:
    assert lacks("numpy", "numpy>=2,<3", "python-dateutil==2.9.0.post0", "pillow>=10") == ()
    assert lacks("numpy", "six") == ("six",)


def test_what_contradicts_is_refused_by_its_own_name() -> None:
    with pytest.raises(
        InstallError, match=r"could not install numpy<2: .* has numpy 2\.1\.0"
    ) as it:
        lacks("six", "numpy<2")
    assert it.value.failure is InstallFailure.CONFLICT


def test_extras_have_to_be_installed() -> None:
    assert lacks("pillow[xmp]") == ("pillow[xmp]",)
    with pytest.raises(InstallError):
        lacks("pillow[xmp]<10")


@pytest.mark.parametrize(
    "marker",
    [
        "python_version < '3'",
        "python_full_version == '3.13.0'",
        "sys_platform == 'win32'",
        "os_name == 'nt'",
        "platform_machine == 'riscv'",
        "platform_system != 'Linux'",
        "implementation_name == 'pypy'",
        "platform_python_implementation == 'PyPy'",
        "extra == 'never'",
    ],
)
def test_a_marker_that_is_false_leaves_nothing_to_install(marker: str) -> None:
    assert lacks(f"six; {marker}") == ()


def test_a_marker_that_is_true_makes_no_other_set() -> None:
    assert lacks("six; python_version >= '3'", "six") == ("six",)
    assert lacks("numpy<2; python_version < '3'") == ()


def test_versions_become_pins() -> None:
    pins = Stock.of({**RUNNER, "installed": INSTALLED}).pins
    assert pins == ("numpy==2.1.0", "pillow==11.0rc1", "python-dateutil==2.9.0.post0")
    assert Stock.of(RUNNER).pins == ()


def test_what_is_known_of_extras_is_kept_by_the_canonical_name() -> None:
    lines = ["Provides-Extra: xmp", "Requires-Dist: defusedxml; extra == 'xmp'"]
    told = {"Pillow==11.0rc1": lines, "other==1": lines, "odd==not-a-version": lines}
    stock = Stock.of({**RUNNER, "installed": INSTALLED, "extras": told})
    assert stock.extras == {"pillow": lines}
    assert Stock.of(RUNNER).extras == {}
