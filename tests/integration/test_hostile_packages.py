"""Packages whose set-up code attacks: it finds nothing to steal, nothing to poison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.package_index import sdist, wheel
from tests.integration.test_layers import (
    A,
    index,
    layers_on,
    listing,
    mill,
    settings_of,
    shared_volume,
    volume,
)

if TYPE_CHECKING:
    from tests.integration.package_index import PackageIndex
    from tests.integration.server import Server, StartServer

__all__ = ["index", "mill", "shared_volume", "volume"]

PROBE = """
import os, json
found = {}
try:
    found["mounts"] = [line.split()[4] for line in open("/proc/self/mountinfo") if "volumes" in line]
    found["layers"] = os.listdir("/opt/layers")
    found["own"] = os.environ["PYTHONUSERBASE"].rpartition("/")[2]
    found["environment"] = sorted(name for name in os.environ if name.startswith("PGEXEC"))
    found["user"] = os.getuid()
    found["capabilities"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
    for path in ("/opt/pgexec/pool/inside/runner.py", "/usr/evil", "/etc/evil", "/proc/1/mem"):
        try:
            open(path, "r+b" if path.startswith("/proc") else "wb").close()
            found.setdefault("written", []).append(path)
        except OSError:
            pass
finally:
    raise SystemExit("FOUND" + json.dumps(found))
"""  # noqa: E501
FILL_THE_LAYER = """
import os
base = os.environ["PYTHONUSERBASE"]
os.makedirs(base, exist_ok=True)
with open(base + "/x", "wb") as file:
    while True: file.write(bytes(1 << 20))
"""
PLANT = """
import os
base = os.environ["PYTHONUSERBASE"] + "/lib"
os.makedirs(base, exist_ok=True)
try:
    {plant}
except FileExistsError:
    pass
"""


async def test_set_up_code_finds_no_volume_no_secret_and_no_power(
    mill: Server, index: PackageIndex
) -> None:
    index.add(sdist("prober", PROBE))
    answer = await mill.run("pass", key=A, dependencies=["prober"])
    assert answer.status == 422
    (line,) = [line for line in answer.error.splitlines() if "FOUND" in line]
    assert '"mounts": []' in line
    assert '"environment": []' in line
    assert '"user": 9999' in line
    assert '"capabilities": ["0000000000000000"]' in line
    assert "written" not in line
    own = line.partition('"own": "')[2][:32]
    assert f'"layers": ["{own}"]' in line


@pytest.mark.parametrize(
    ("name", "plant", "sentence"),
    [
        ("linker", 'os.symlink("/etc/passwd", base + "/p")', "leads out of the layer"),
        ("climber", 'os.symlink("../../../.owners", base + "/p")', "leads out of the layer"),
        ("plumber", 'os.mkfifo(base + "/p")', "is neither a file"),
    ],
)
async def test_what_leads_out_of_a_layer_is_not_published(
    mill: Server,
    index: PackageIndex,
    first_image: str,
    shared_volume: str,
    name: str,
    plant: str,
    sentence: str,
) -> None:
    index.add(sdist(name, PLANT.format(plant=plant)))
    before = await listing(first_image, shared_volume)
    answer = await mill.run("pass", key=A, dependencies=[name])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert answer.error.startswith(f"{name} cannot be used: ")
    assert sentence in answer.error
    assert await listing(first_image, shared_volume) == before


@pytest.mark.parametrize("path", ["../../../../../evil.py", "/opt/layers/evil.py"])
async def test_a_wheel_that_climbs_is_refused(
    mill: Server, index: PackageIndex, first_image: str, shared_volume: str, path: str
) -> None:
    name = "absolutewheel" if path.startswith("/") else "climbingwheel"
    index.add(wheel(name, files={path: "print('evil')"}))
    answer = await mill.run("pass", key=A, dependencies=[name])
    assert answer.status == 422
    assert not [one for one in await listing(first_image, shared_volume) if "evil" in one]


async def test_names_without_end_are_refused_and_the_dependencies_of_others_go_on(
    volume: str, start: StartServer, index: PackageIndex
) -> None:
    """Each name is legal; what is known of all together took the memory of the volume's keeper."""
    files = {f"{number:05}{'漢' * 80}": "" for number in range(70_000)}
    index.add(wheel("manynames", files=files))
    settings = {**settings_of(index, volume), "INSTALL_TIMEOUT_S": "100"}
    server = await start(**settings)
    await server.output("import plain", dependencies=["plain"])
    answer = await server.run("pass", dependencies=["manynames"])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert answer.error.splitlines()[0].endswith("it has over 16 MiB of names")
    await server.output("import withpth", dependencies=["withpth"])
    await server.stop()
    again = await start(**settings)
    await again.sees("pgexec_dependency_sets", 2)
    index.asked.clear()
    await again.output("import plain", dependencies=["plain"])
    assert index.asked == []


@pytest.mark.parametrize(
    ("name", "code", "sentences"),
    [
        (
            "filler",
            "with open('/tmp/x', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
            ["it is larger than an installation may be"],
        ),
        (
            "layerfiller",
            FILL_THE_LAYER,
            ["it is larger than an installation may be"],
        ),
        (
            "bomber",
            "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
            ["it took more memory", "took over 20 s", "it cannot be built", "the installer"],
        ),
        (
            "hog",
            "kept = []\nwhile True: kept.append(bytes(8 << 20))",
            ["it took more memory", "it cannot be built"],
        ),
    ],
)
async def test_set_up_code_that_takes_all_it_can_ends_and_harms_nobody(
    mill: Server,
    index: PackageIndex,
    first_image: str,
    shared_volume: str,
    name: str,
    code: str,
    sentences: list[str],
) -> None:
    index.add(sdist(name, code))
    before = await layers_on(first_image, shared_volume)
    answer = await mill.run("pass", key=A, dependencies=[name])
    assert (answer.status, answer.code) == (422, "install_failed")
    assert any(sentence in answer.error for sentence in sentences), answer.error
    assert await layers_on(first_image, shared_volume) == before
    works = await mill.run("print(6 * 7)", key=A)
    assert works.json["data"] == "42\n"
