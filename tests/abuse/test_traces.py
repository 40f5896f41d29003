# ruff: noqa: E501 - the snippets are written as an attacker would
"""What a run leaves in /proc/net, /proc/sys, its own entries and its cgroup: all is accounted for."""

from __future__ import annotations

import json
import re
import secrets
import uuid
from typing import TYPE_CHECKING

import pytest

from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.egress import make_rules, own_addresses, own_resolvers
from pool.engine.spec import LABEL
from pool.job import Status
from tests.abuse.sandbox import Sandbox
from tests.integration.server import EngineClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pool.engine.image import Image

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOK = """
import json, os
seen = {}
for top in ("/proc/net", "/proc/sys", "/proc/self", "/proc/sysvipc", "/sys/fs/cgroup", "/dev"):
    for folder, folders, files in os.walk(top + "/"):
        folders[:] = [name for name in folders if name not in ("task", "fd", "map_files", "cwd", "root", "fdinfo", "net")
                      or folder == "/proc/sys/"]
        for name in files:
            path = os.path.join(folder, name)
            if name in ("mem", "pagemap", "clear_refs", "ptmx", "full", "zero", "random", "urandom"): continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
                seen[path] = os.read(fd, 1 << 16).decode("latin-1"); os.close(fd)
            except OSError: pass
print(json.dumps(seen))
"""

BUSY = """
import contextlib, fcntl, os, socket, struct, threading
quiet = lambda: contextlib.suppress(OSError)
for family, address in ((2, "127.0.0.1"), (10, "::1")):
    with quiet():
        s = socket.socket(family, 1); s.bind((address, 0)); s.listen()
        c = socket.create_connection(s.getsockname()[:2]); p, _ = s.accept(); c.send(b"left" * 10000)
        u = socket.socket(family, 2); u.bind((address, 0)); u.sendto(b"left", u.getsockname())
interfaces = [index for index, _ in socket.if_nameindex()]
for target in ("192.0.2.77", "198.51.100.77", "10.77.77.77", "172.17.0.77", "8.8.7.7", "127.7.7.7", "224.7.7.7", "255.255.255.255"):
    for flags in (0, 4):
        for interface in [0, *interfaces]:
            u = socket.socket(2, 2); u.setsockopt(1, 6, 1); u.settimeout(0.05)
            with quiet(): u.setsockopt(0, 35, socket.inet_aton(target) + bytes(4) + struct.pack("i", interface))
            with quiet(): u.setsockopt(1, 5, flags)
            for options in ([], [(0, 7, b"\\x89\\x0b\\x04" + socket.inet_aton(target) * 2 + b"\\0")]):
                with quiet(): u.sendmsg([b"left"], [*options, (0, 8, struct.pack("=I8x", interface))], flags, (target, 99))
for interface in interfaces:
    for target in ("ff15::77", "fe80::77", "2001:db8::77", "fd00::77"):
        with quiet():
            u = socket.socket(10, 2)
            with quiet(): u.setsockopt(41, 20, socket.inet_pton(10, target) + struct.pack("I", interface))
            with quiet(): u.setsockopt(41, 32, socket.inet_pton(10, target) + struct.pack("!I", 0x77) + struct.pack("=BBHHHI", 0, 1, 1, 60, 60, 0))
            u.sendto(b"left", 4, (target, 99, 0, interface))
for path in ("/tmp/left", "/dev/shm/left"): open(path, "w").write("left")
fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX)
os.openpty(); os.memfd_create("left")
[os.fork() or os._exit(0) for _ in range(20)]
[thread.start() for thread in [threading.Thread(target=len, args=((),)) for _ in range(5)]]
"""

NEIGHBOURS = """
import socket, struct
s = socket.socket(16, 3, 0); s.bind((0, 0))
s.send(struct.pack("=IHHIIBBHiHBB", 28, 30, 0x301, 0, 0, 0, 0, 0, 0, 0, 0, 0))
print(repr(s.recv(65536)))
"""

# What may differ after a run, and why that is no letter to the next one.
ACCOUNTED = {
    r"/proc/net/(dev|snmp6?|dev_snmp6/\w+|netstat|softnet_stat|sockstat6?|xfrm_stat|protocols|rt_acct|rt6_stats|fib_triestat)": "counters of packets and of what was allocated",
    r"/proc/net/ipv6_route": "counters of what refers to a route",
    r"/proc/net/stat/\w+": "counters, of the machine",
    r"/proc/net/(arp|nf_conntrack\w*)": "the gateway; compared by itself below",
    r"/proc/net/(netlink|unix|ptype|psched)": "addresses of the kernel's own objects, and the runner's socket",
    r"/proc/self/\w+": "the process's own",
    r"/proc/self/attr/.*": "the process's own",
    r"/proc/sys/fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr)": "counters of the machine",
    r"/proc/sys/fs/(epoll/max_user_watches|quota/.*|mqueue/.*)": "counters of the machine",
    r"/proc/sys/kernel/(ns_last_pid|random/\w+|pty/nr|tainted|perf_event_max_sample_rate|perf_cpu_time_max_percent|sched_domain/.*)": "the last process's number; random numbers; the machine's",
    r"/proc/sys/net/netfilter/nf_conntrack_count": "a number of connections",
    r"/proc/sys/vm/\w+": "the machine's",
    r"/sys/fs/cgroup/.*": "what the container took so far, and its peaks",
    r"/proc/self/task/.*": "the process's own",
}


@pytest.fixture
async def bridge6() -> AsyncIterator[str]:
    name = f"pgexec-abuse-{uuid.uuid4().hex[:12]}"
    subnet = f"fd00:77:{secrets.randbits(16):x}::/64"
    await EngineClient().call(
        "POST",
        "/networks/create",
        {"Name": name, "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": subnet}]}},
    )
    yield name
    await EngineClient().call("DELETE", f"/networks/{name}")


@pytest.fixture
async def bridge() -> AsyncIterator[str]:
    engine = DockerEngine(find_engine(""), streams=1)
    name = f"pgexec-abuse-{uuid.uuid4().hex[:12]}"
    await engine.ensure_network(name, LABEL)
    yield name
    await (await engine.docker.networks.get(name)).delete()
    await engine.close()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "without a network"])
async def test_each_difference_after_a_busy_run_is_accounted_for(
    image: Image,
    bridge: str,
    guarded: bool,  # noqa: FBT001
) -> None:
    rules = make_rules([], own_addresses(), own_resolvers())
    network = {"network": bridge, "guard": rules.document()} if guarded else {}
    sandbox = Sandbox(image, **network)
    try:
        await sandbox.run("import socket; socket.socket()")
        before = json.loads((await sandbox.run(LOOK, output_limit_bytes=1 << 24)).text)
        busy = await sandbox.run(BUSY)
        assert busy.status is Status.OK, busy.text
        assert busy.report.clean, busy.report
        after = json.loads((await sandbox.run(LOOK, output_limit_bytes=1 << 24)).text)
        neighbours = await sandbox.run(NEIGHBOURS)
    finally:
        await sandbox.close()
    assert len(before) > 500
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    known = re.compile("|".join(ACCOUNTED))
    strange = {path: after.get(path) for path in changed if not known.fullmatch(path)}
    assert not strange
    chosen = (
        b"\\xc0\\x00\\x02M",
        b"\\xc63dM",
        b"\\nMMM",
        b"\\x08\\x08\\x07\\x07",
        b"\\xe0\\x07\\x07\\x07",
    )
    assert not [one for one in chosen if one.decode() in neighbours.text]
    text = "".join(after[path] for path in after if path.startswith("/proc/net/"))
    assert not [letter for letter in ("left", "77.77.77", "4D4D4D") if letter in text]
    assert after.get("/proc/net/ip6_flowlabel", "").count("\n") <= 1


LEFT = {
    "a flow label": """
u = socket.socket(10, 2)
u.setsockopt(41, 32, socket.inet_pton(10, "::1") + struct.pack("!I", 0x77) + struct.pack("=BBHHHI", 0, 1, 1, 60, 60, 0))
""",
    "a neighbour": """
(interface,) = [index for index, name in socket.if_nameindex() if name != "lo"]
u = socket.socket(2, 2)
u.sendmsg([b"left"], [(0, 8, struct.pack("=I8x", interface))], 4, ("192.0.2.77", 99))
""",
}


@pytest.mark.parametrize("code", LEFT.values(), ids=LEFT.keys())
async def test_an_address_that_a_run_chose_is_not_clean(
    image: Image, bridge: str, code: str
) -> None:
    """Where the engine's own filter lets the calls pass that ours refuses."""
    sandbox = Sandbox(image, network=bridge, seccomp=False)
    try:
        outcome = await sandbox.run("import socket, struct\n" + code)
        usual = await sandbox.run(
            "import socket; s = socket.create_connection((socket.gethostbyname('localhost'), 9), 1)"
        )
    finally:
        await sandbox.close()
    if "Address family not supported" in outcome.text or "Errno 99" in outcome.text:
        pytest.skip("there is no IPv6 here")
    assert outcome.status is Status.OK, outcome.text
    assert outcome.report.detail.startswith("flow labels and neighbours: "), outcome.report
    assert usual.report.clean, usual.report


SEND = """
import socket
(interface,) = [index for index, name in socket.if_nameindex() if name != "lo"]
for target in TARGETS: socket.socket(10, 2).sendto(b"x", (target, 99, 0, interface))
"""
OWN_GROUPS = """
import socket
own = [bytes.fromhex(line.split()[0]) for line in open("/proc/net/if_inet6") if line.split()[-1] != "lo"]
group = lambda address: socket.inet_ntop(10, bytes.fromhex("ff0200000000000000000001ff") + address[-3:])
TARGETS = ["::1", "ff02::1", "ff02::2", "2001:db8::77", *map(group, own)]
"""


async def test_of_the_groups_of_ipv6_the_containers_own_alone_are_usual(
    image: Image, bridge6: str
) -> None:
    """Where nothing else closes them: any other one would be three bytes for the next run."""
    sandbox = Sandbox(image, network=bridge6, seccomp=False)
    try:
        usual = await sandbox.run(OWN_GROUPS + SEND)
        if "Address family not supported" in usual.text or "Errno 99" in usual.text:
            pytest.skip("there is no IPv6 here")
        chosen = [
            await sandbox.run(f"TARGETS = [{group!r}]" + SEND)
            for group in ("ff02::1:ffab:cdef", "ff02::77")
        ]
    finally:
        await sandbox.close()
    assert (usual.status, usual.report.clean) == (Status.OK, True), usual
    for outcome in chosen:
        assert outcome.status is Status.OK, outcome.text
        assert outcome.report.detail.startswith("flow labels and neighbours: "), outcome.report


async def test_what_honest_runs_send_is_clean(image: Image, bridge: str) -> None:
    rules = make_rules([], own_addresses(), own_resolvers())
    sandbox = Sandbox(image, network=bridge, guard=rules.document())
    try:
        for _ in range(3):
            outcome = await sandbox.run("""
import socket
u = socket.socket(2, 2); u.sendto(b"x", ("9.9.9.9", 9)); u.sendto(b"x", ("127.0.0.1", 9))
try: socket.getaddrinfo("example.invalid", 80)
except OSError: print("ok")
""")
            assert (outcome.text, outcome.report.clean) == ("ok\n", True), outcome
    finally:
        await sandbox.close()
