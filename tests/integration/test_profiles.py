"""Profiles on the real engine: numpy and pandas imported before the fork, and what is refused."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.package_index import PackageIndex, wheel
from tests.integration.server import EngineClient, until
from tests.integration.test_dependencies import running_with_index

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.server import Server, StartServer

INSTALLED_WITHIN_S = 240
DATA = {
    "dependencies": ["numpy", "pandas"],
    "preimport": ["numpy", "pandas"],
    "min_idle": 1,
    "max_containers": 1,
    "memory_limit": "512MiB",
    "cpus": 2,
}


@pytest.fixture(scope="module")
def mixed(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server with a profile for data, where there is a way to the package index."""
    settings = {
        "IMAGE": first_image,
        "NETWORK": "none",
        "DEPENDENCY_NETWORK": "egress",
        "POOL_MIN_IDLE": "1",
        "POOL_MAX_CONTAINERS": "1",
        "PROFILES": json.dumps({"python-data": DATA}),
    }
    directory = tmp_path_factory.mktemp("mixed")
    with running_with_index(directory, settings, within_s=INSTALLED_WITHIN_S) as server:
        yield server


async def of_data(server: Server, code: str, **fields: object) -> str:
    """Run in the profile what must end well, and return what it printed."""
    return await server.output(code, language="python-data", **fields)


async def test_imports_of_what_was_imported_before_open_nothing(mixed: Server) -> None:
    code = """
import sys
looked = []
sys.addaudithook(lambda event, args: looked.append((event, args[0]))
                 if event in ("open", "os.listdir", "os.scandir", "import") else None)
import numpy; import pandas
print(looked, int(numpy.arange(4).sum()), pandas.Series([1, 2]).mean())
"""
    assert await of_data(mixed, code) == "[] 6 1.5\n"


async def test_the_default_language_has_none_of_it(mixed: Server) -> None:
    answer = await mixed.run("import numpy")
    assert "No module named 'numpy'" in answer.json["stderr"]
    names = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "JE_ARROW_MALLOC_CONF")
    code = f"import os; print(*map(os.environ.get, {names}))"
    assert await mixed.output(code) == "1 1 None\n"
    assert await of_data(mixed, code) == "2 2 background_thread:false\n"


async def test_containers_carry_the_name_of_their_profile(mixed: Server) -> None:
    container = await mixed.container_of(await mixed.run("pass", language="python-data"))
    _, about = await mixed.engine.call("GET", f"/containers/{container}/json")
    assert about["Config"]["Labels"]["pgexec.profile"] == "python-data"
    assert about["HostConfig"]["Memory"] == 512 << 20


async def test_numpy_draws_other_numbers_in_every_run(mixed: Server) -> None:
    code = """
import numpy as np, random, sys
print(np.random.random(), np.random.standard_normal(), np.random.default_rng().random(),
      np.random.mtrand._rand._bit_generator.seed_seq.entropy, np.random.get_state()[1][5],
      random.random(), "numpy.random" in sys.modules, sep="|")
"""
    runs = [(await of_data(mixed, code)).split("|") for _ in range(5)]
    for drawn in list(zip(*runs, strict=True))[:-1]:
        assert len(set(drawn)) == len(runs), drawn


async def test_every_kind_of_generator_that_an_import_holds_is_seeded_anew(mixed: Server) -> None:
    """The runner's own module, in a process that forks as the runner does."""
    code = """
import json, os, sys
import numpy.random as r
sources = [kind(1) for kind in (r.MT19937, r.PCG64, r.PCG64DXSM, r.Philox, r.SFC64)]
generators = [r.Generator(one) for one in sources]
states = [r.RandomState(1), r.RandomState(r.PCG64(1))]
seeds = r.SeedSequence(1)
states[0].standard_normal()  # the other half of the pair is kept
sys.path.insert(0, "/opt/pgexec")
from pool.inside import reseed
reseed.prepare()
for _ in range(2):
    reader, writer = os.pipe()
    if os.fork() == 0:
        reseed.seed()
        drawn = [one.random() for one in generators] + [one.random() for one in states]
        drawn += [one.spawn(1)[0].random() for one in generators] + [states[0].standard_normal()]
        drawn += seeds.generate_state(1).tolist()
        os.write(writer, json.dumps(drawn).encode())
        os._exit(0)
    os.wait()
    print(os.read(reader, 9999).decode())
"""
    first, second = map(json.loads, (await of_data(mixed, code)).splitlines())
    assert len(first) == 5 + 2 + 5 + 1 + 1
    assert not set(first) & set(second)


async def test_blas_starts_its_threads_in_the_run(mixed: Server) -> None:
    code = """
import os, numpy as np
before = len(os.listdir("/proc/self/task"))
product = np.ones((900, 900)) @ np.ones((900, 900))
print(before, product.sum() == 900 ** 3, len(os.listdir("/proc/self/task")))
"""
    threads = min(2, len(os.sched_getaffinity(0)))
    for _ in range(3):
        assert await of_data(mixed, code) == f"1 True {threads}\n"


async def test_nothing_that_an_import_opened_is_left_to_the_run(mixed: Server) -> None:
    code = """
import os
print([fd for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{fd}")])
print(sum(" rw-s " in line for line in open("/proc/self/maps")))
"""
    assert await of_data(mixed, code) == "[]\n1\n"  # the page for its own farewell


ENDINGS = """
import atexit, gc, weakref
import numpy as np
import pandas as pd
class Loud:
    def __init__(self, name): self.name = name
    def __del__(self): print(self.name, "gone")
class Array(np.ndarray):
    def __del__(self): print("array gone")
atexit.register(print, "exit")
{code}
"""


@pytest.mark.parametrize(
    ("code", "shows"),
    [
        ("frame = pd.DataFrame({'a': range(9)}).groupby('a').sum(); print(frame.shape)", "(9, 0)"),
        ("loud = Loud('alone')", "alone gone"),
        ("array = np.arange(3).view(Array)", "array gone"),
        ("objects = np.array([Loud('inside')], dtype=object); del objects", "inside gone"),
        ("kept = np.array([Loud('kept')], dtype=object)", "exit"),
        ("frame = pd.DataFrame({'a': [Loud('framed')]})", "exit"),
        ("class A: pass\na = A(); ref = weakref.ref(a, lambda _: print('dead'))", "exit"),
        ("import numpy.fft, numpy.polynomial; print(np.fft.fft([0, 1]).real)", "[ 1. -1.]"),
        ("1 / np.int64(0) + {}['a']", "exit"),
    ],
)
async def test_a_run_with_numpy_ends_as_in_a_plain_interpreter(
    mixed: Server, code: str, shows: str
) -> None:
    code = ENDINGS.format(code=code)
    plain = f"""
import subprocess, sys
open("/tmp/Main.py", "w").write({code!r})
ended = subprocess.run([sys.executable, "/tmp/Main.py"])
sys.exit(ended.returncode)
"""
    fast, slow = [(await mixed.run(one, language="python-data")).json for one in (code, plain)]
    assert fast["stdout"] == slow["stdout"]
    assert fast["exit_code"] == slow["exit_code"]
    assert fast["stderr"] == slow["stderr"].replace("/tmp/Main.py", "/home/code/Main.py")
    assert shows in fast["stdout"]


async def test_the_limit_that_a_sentence_names_is_the_profiles(mixed: Server) -> None:
    code = "import numpy\nkept = []\nwhile True: kept.append(numpy.ones(1 << 20))"
    answer = await mixed.run(code, language="python-data")
    assert answer.json["error"] == "out of memory (limit 512 MiB)"


async def test_a_runs_own_dependencies_come_on_top_in_the_same_versions(mixed: Server) -> None:
    code = """
import subprocess, sys, numpy, six
told = "import numpy, six; print(numpy.__version__, six.__version__)"
child = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
print(child.stdout.split() == [numpy.__version__, six.__version__], child.stderr)
"""
    assert await of_data(mixed, code, dependencies=["six"]) == "True \n"
    answer = await mixed.run("pass", language="python-data", dependencies=["numpy<2"])
    assert (answer.status, answer.code) == (422, "install_failed")


CALLBACK = "import ctypes; kept = ctypes.CFUNCTYPE(None)(print)\n"
THREADS = "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n"


@pytest.fixture
async def volume() -> AsyncIterator[str]:
    """Name a volume of the test's own."""
    name = f"pgexec-test-{uuid.uuid4().hex}"
    yield name
    await EngineClient().call("DELETE", f"/volumes/{name}")


@pytest.fixture
async def index(first_image: str) -> AsyncIterator[PackageIndex]:
    """Serve a package that starts a thread when it is imported, and harmless ones."""
    served = PackageIndex(await EngineClient().gateway(first_image), "user:word")
    served.add(wheel("busy", files={"busy_data.py": THREADS}))
    served.add(wheel("calling", files={"calling_c.py": CALLBACK}))
    for version in ("1.0", "2.0"):
        served.add(wheel("plain", version))
    served.add(wheel("needsone", requires=("plain<2",)))
    served.add(wheel("needsany", requires=("plain",)))
    served.add(wheel("needstwo", requires=("plain>=2",)))
    served.add(wheel("host", requires=("plain", "side; extra == 'more'")))
    served.add(wheel("side"))
    served.add(wheel("needsmore", requires=("host[more]",)))
    for version in ("1.0", "2.0"):
        served.add(wheel("free", version))
    yield served
    served.close()


def settings_of(index: PackageIndex, volume: str, profiles: object) -> dict[str, str]:
    """Return the settings of a server that installs from the index."""
    return {
        "POOL_MIN_IDLE": "1",
        "DEPENDENCY_NETWORK": "bridge",
        "DEPENDENCY_INDEX_URL": index.url,
        "DEPENDENCY_INDEX_CREDENTIALS": "user:word",
        "DEPENDENCY_VOLUME": volume,
        "PROFILES": json.dumps(profiles),
    }


PLAIN = {
    "plain": {
        "dependencies": ["plain==1.0"],
        "preimport": ["plain"],
        "min_idle": 1,
        "max_containers": 2,
    }
}
SHOW = "import plain; print(plain.VERSION, plain.__file__.partition('/lib/')[0])"


async def test_a_layer_of_a_profile_that_vanishes_is_made_anew(
    start: StartServer, index: PackageIndex, volume: str, first_image: str
) -> None:
    server = await start(**settings_of(index, volume, PLAIN))
    before = await server.output(SHOW, language="plain")
    await EngineClient().output(first_image, ["sh", "-c", "rm -rf /volume/?*"], volume)
    await server.run("pass", language="plain", fresh=True)  # so that another has to start

    async def anew() -> bool:
        answer = await server.run(SHOW, language="plain", fresh=True)
        return bool(answer.status == 200 and answer.json["status"] == "ok") and (
            answer.json["data"] != before
        )

    await until(anew, "a run with a layer of another name")
    assert (await server.output(SHOW, language="plain")).startswith("1.0 ")


async def test_what_a_run_asks_for_fits_the_versions_of_its_profile(
    start: StartServer, index: PackageIndex, volume: str
) -> None:
    loose = {"plain": PLAIN["plain"] | {"dependencies": ["plain"]}}
    server = await start(**settings_of(index, volume, loose))
    code = "import needsany; " + SHOW
    answer = await server.output(code, language="plain", dependencies=["needsany"])
    assert answer.startswith("2.0 ")
    refused = await server.run(code, language="plain", dependencies=["needsone"])
    assert (refused.status, refused.code) == (422, "install_failed")
    assert (await server.output(code, dependencies=["needsone", "needsany"])).startswith("1.0 ")


async def test_what_a_profile_has_is_not_installed_again(
    start: StartServer, index: PackageIndex, volume: str
) -> None:
    server = await start(**settings_of(index, volume, PLAIN))
    index.asked.clear()
    assert await server.output("import plain", language="plain", dependencies=["plain<2"]) == ""
    refused = await server.run("pass", language="plain", dependencies=["needsany", "plain>1"])
    assert (refused.status, refused.code) == (422, "install_failed")
    assert refused.error.startswith("could not install plain>1: the language has plain 1.0")
    nothing = ["needsany; python_version < '3'"]
    assert await server.output("import plain", dependencies=nothing, language="plain") == ""
    assert await server.output("print(1)", dependencies=nothing) == "1\n"
    assert index.asked == []
    code = """
import subprocess, sys
told = "import needsany, plain; print(plain.VERSION, needsany.__file__ != plain.__file__)"
exec(told)
print(subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout, end="")
"""
    answer = await server.output(code, language="plain", dependencies=["needsany"])
    assert answer == "1.0 True\n1.0 True\n"
    assert not [path for path in index.asked if path.startswith("/files/plain/")]
    await server.sees("pgexec_dependency_sets", 2)
    conflict = await server.run("pass", language="plain", dependencies=["needstwo"])
    assert conflict.error.splitlines()[0] == (
        "could not install needstwo: it does not go with the versions that the language has"
    )


async def test_only_what_an_extra_needs_is_installed_on_top_of_a_profile(
    start: StartServer, index: PackageIndex, volume: str
) -> None:
    profiles = {"plain": PLAIN["plain"] | {"dependencies": ["plain==1.0", "host"]}}
    server = await start(**settings_of(index, volume, profiles))
    for name in ("host[more]", "needsmore"):
        index.asked.clear()
        await server.output("import host, side", language="plain", dependencies=[name])
        files = {path.split("/")[2] for path in index.asked if path.startswith("/files/")}
        assert files == {"side", name.partition("[")[0]} - {"host"}
    of_its_own = await server.run("pass", language="plain", dependencies=["free<2", "free>=2"])
    assert of_its_own.error.splitlines()[0] == (
        "could not install free<2, free>=2: its requirements conflict with each other"
    )


async def test_callbacks_made_before_the_fork_keep_no_file(
    start: StartServer, index: PackageIndex, volume: str
) -> None:
    """And those that runs make map no file that the snippet has open instead."""
    calling = {"dependencies": ["calling"], "preimport": ["calling_c"], "min_idle": 1}
    server = await start(**settings_of(index, volume, {"calling": calling}))
    code = """
import calling_c, ctypes
with open(__file__) as file:
    kept = [ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1) for _ in range(1000)]
    print(sum(one() for one in kept), calling_c.kept())
"""
    assert await server.output(code, language="calling") == "\n1000 None\n"


async def test_what_cannot_be_imported_before_the_fork_is_told_and_the_rest_goes_on(
    start: StartServer, index: PackageIndex, volume: str
) -> None:
    profiles = {
        "threads": {"dependencies": ["busy"], "preimport": ["busy_data"], "min_idle": 1},
        "missing": {"preimport": ["no_such_module"], "min_idle": 1},
    }
    settings = settings_of(index, volume, profiles)
    server = await start(ready=False, **settings)
    thread = (
        "containers fail to start: busy_data cannot be pre-imported: it leaves a thread running"
    )
    missing = (
        "containers fail to start: no_such_module cannot be pre-imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )

    async def told() -> bool:
        return (await server.get("/readyz")).error == f"threads: {thread}; missing: {missing}"

    await until(told, "both sentences in /readyz")
    await server.logged(missing)
    await server.works()
    answer = await server.run("pass", language="missing", timeout_s=1)
    assert (answer.status, missing.partition(": ")[2] in answer.error) == (503, True)
