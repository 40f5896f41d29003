"""Checks that really try an action, in containers like the server's."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from pgexec.backend.spec import egress_rules
from pgexec.doctor.facts import Left, Reached, Trespasses
from pgexec.doctor.findings import Observation, fail, ok, warn
from pgexec.doctor.sandbox import ProbeError, ask, run
from pgexec.doctor.snippets import inside, trespass
from pool.engine.gvisor import is_gvisor
from pool.engine.masked import MASKED_PATHS
from pool.engine.spec import RUNNER_DIR, SYSCTLS
from pool.inside import users
from pool.job import Status
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.backend.laboratory import Laboratory
    from pgexec.doctor.sandbox import Sandbox
    from pool.container import Container

MEMORY_TRIED_BYTES = 256 << 20
PIDS_TRIED = 64
CONNECTIONS = 16
CONNECTION_BYTES = 2 * sum(int(SYSCTLS[f"net.ipv4.tcp_{way}mem"].split()[-1]) for way in "rw")
PIDS_MEMORY_BYTES = 256 << 20
PUBLIC_NAME, PUBLIC_PORT = "example.com", 443
METADATA = "169.254.169.254"
SHOWN = 3

_FILTER = 2
_NUMBERS_EACH = 8
_NEIGHBOURS = "flow labels and neighbours: "
_NO_CAPABILITIES = "0" * 16
_WRITE = """
import os, sys
for path in sys.argv[1:]:
    try:
        os.close(os.open(path + "/.pgexec-doctor", os.O_WRONLY | os.O_CREAT))
    except OSError:
        continue
    print(path)
"""


async def memory(laboratory: Laboratory) -> Observation:
    """Fill twice the allowed memory, but no more: perhaps nothing stops it."""
    limits = laboratory.spec.limits
    limit = min(limits.memory_bytes, MEMORY_TRIED_BYTES)
    async with laboratory.container(replace(limits, memory_bytes=limit)) as container:
        held = 0  # gVisor's own stack has the buffers, whose memory the limit counts
        if not _in_gvisor(container):
            held = await ask(container, int, inside.hold_in_sockets, CONNECTIONS)
        result = await run(container, inside.allocate, 2 * limit)
    if held > CONNECTIONS * CONNECTION_BYTES:
        return fail(
            f"{CONNECTIONS} connections hold {held >> 20} MiB, which the limit may not count",
            "see that the engine sets net.ipv4.tcp_rmem and tcp_wmem in containers",
        )
    finding = f"twice the limit of {limit >> 20} MiB"
    if result.status is Status.MEMORY_LIMIT:
        return ok(f"{finding} was not to be had: memory_limit")
    if result.status is Status.OK:
        return fail(
            f"{finding} was to be had", "enable the memory controller and swap accounting in cgroup"
        )
    return warn(
        f"{finding} ended as {result.status}, which does not tell that memory ran out",
        "see that /sys/fs/cgroup in the container shows memory.events or memory.oom_control",
    )


async def pids(laboratory: Laboratory) -> Observation:
    """Fork one process after another."""
    limits = laboratory.spec.limits
    limit = min(limits.pids, PIDS_TRIED)
    # In gVisor a process takes some 4 MiB more than elsewhere.
    memory = PIDS_MEMORY_BYTES * (4 if is_gvisor(laboratory.settings.runtime) else 1)
    async with laboratory.container(replace(limits, pids=limit, memory_bytes=memory)) as container:
        count = await ask(container, int, inside.multiply, 2 * limit)
    # gVisor counts roughly: 71 where 64 are allowed.
    if count > limit * (1.25 if is_gvisor(laboratory.settings.runtime) else 1):
        return fail(f"{count} processes started where {limit} may", "enable the pids cgroup")
    return ok(f"forking ended at {count} of {limit} processes")


async def cpu(sandbox: Sandbox) -> Observation:
    """Read the CPU quota in the container's cgroup, where it is enforced."""
    wanted, found = sandbox.settings.cpus, sandbox.inside.cpus
    if _in_gvisor(sandbox.container):
        return ok("the engine's quota holds for gVisor as a whole, which shows none inside")
    if found < 0:
        return warn(
            "the container cannot see its CPU quota", "see that the engine mounts cgroup in it"
        )
    if found == 0 or found > wanted * 1.01:
        return fail(f"{found or 'all'} processors where {wanted:g} are allowed", "enable CPU quota")
    return ok(f"the quota is {found:g} CPU")


async def seccomp(sandbox: Sandbox) -> Observation:
    """Check that a filter is there, and try calls that it refuses."""
    runtime = sandbox.settings.runtime
    if _in_gvisor(sandbox.container):
        return ok("calls are answered by gVisor, a kernel of the container's own")
    if sandbox.inside.kernel:
        return fail(
            f"snippets get {', '.join(sandbox.inside.kernel)} of the kernel",
            "see that the engine supports seccomp (docker info), and loads profiles",
        )
    if sandbox.inside.seccomp == _FILTER:
        return ok("a filter is on, and refuses user namespaces, ptrace, raw and odd sockets")
    if runtime:
        return warn(f"no filter; {runtime} is to stand between", f"see that {runtime} does")
    return fail("no filter is on", "use an engine and a kernel with seccomp")


async def confinement(sandbox: Sandbox) -> Observation:
    """Check if AppArmor or SELinux confines the container, in case a mount or a mask fails."""
    profile = sandbox.inside.confinement
    if profile and "unconfined" not in profile:
        return ok(profile)
    return warn(
        "neither AppArmor nor SELinux confines containers",
        "enable one in the kernel (security=apparmor, package apparmor) and restart the engine",
    )


async def user_namespace(sandbox: Sandbox) -> Observation:
    """Check if root of a container is root of the host, in case it ever escapes.

    Where it is not, check also that the users which are mapped suffice. Containers choose them by a
    number of the kernel's, of which each uses up to eight.
    """
    words = sandbox.inside.uid_map
    first = words[:2]
    if first != ("0", "0"):
        profiles = sandbox.settings.by_language.values()
        containers = sum(one.settings.pool_max_containers for one in profiles)
        uid_map = "\n".join(map(" ".join, zip(*[iter(words)] * 3, strict=False)))
        if uid_map and users.rooms(uid_map) < _NUMBERS_EACH * containers:
            mapped = sum(map(int, words[2::3]))
            return warn(
                f"the engine maps {mapped} users only: some of {containers} containers could "
                "share the user ids of their runs",
                "give it 65536 subordinate ids (/etc/subuid and /etc/subgid)",
            )
        return ok(f"user 0 of a container is user {first[1] if first[1:] else '?'} outside")
    return warn(
        "root of a container is root of the engine's machine",
        'run the engine rootless, or with "userns-remap": "default" in daemon.json',
    )


async def sysctls(sandbox: Sandbox) -> Observation:
    """Check the values by which no System V object or queue can keep state between runs."""
    found = sandbox.inside.sysctls
    if _in_gvisor(sandbox.container):
        return ok("gVisor has none of them; the runner's filter refuses System V IPC and queues")
    wrong = {name: found.get(name) for name, value in SYSCTLS.items() if found.get(name) != value}
    if not wrong:
        return ok(f"{len(SYSCTLS)} accepted: no System V IPC, no message queues")
    said = ", ".join(f"{name} is {value or 'unknown'}" for name, value in wrong.items())
    return fail(said, "use an engine and a runtime that set sysctls in the container's namespaces")


async def read_only_root(sandbox: Sandbox) -> Observation:
    """Try to write to the root file system as root, by an exec: a snippet is never root."""
    engine, spec = sandbox.laboratory.engine, sandbox.laboratory.spec
    paths = ("/", "/etc", "/usr", *([RUNNER_DIR] if spec.prepared else ()))
    command = PYTHON.run_text(_WRITE, *paths, options=(*PYTHON.isolated, "-S"))
    done = await engine.execute(sandbox.container.id, command, user="0:0", environment={})
    written = done.output.decode("utf-8", "replace").split()
    if done.exit_code != 0:
        return warn(f"an exec failed: {' '.join(written[-12:])}", "see that the engine can exec")
    if written or not sandbox.inside.root_read_only:
        where = ", ".join(written) or "/"
        return fail(f"{where} can be written", "see that the runtime mounts roots read-only")
    return ok(f"even root cannot write to {', '.join(paths)}")


async def masks(sandbox: Sandbox) -> Observation:
    """Check that no file shows which tells about the host and its other guests."""
    shown = sandbox.inside.unmasked
    if shown and _in_gvisor(sandbox.container):
        return ok(f"{', '.join(shown[:SHOWN])} can be read, of gVisor's own kernel")
    if shown:
        more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        return fail(
            f"a snippet can read {', '.join(shown[:SHOWN])}{more}",
            "use an engine that masks the paths which it is told to mask",
        )
    return ok(f"none of {len(MASKED_PATHS)} paths that tell of the host shows anything")


async def privileges(sandbox: Sandbox) -> Observation:
    """Start a setuid program of the image, and look at the user of its process."""
    seen = sandbox.inside
    if _in_gvisor(sandbox.container) and seen.setuid != "gained":
        return ok("gVisor does not tell of no-new-privileges; no setuid program gained any")
    if not seen.no_new_privileges or seen.setuid == "gained":
        gained = ", and a setuid program got root" if seen.setuid == "gained" else ""
        return fail(f"no-new-privileges is not in force{gained}", "use a runtime that sets it")
    tried = "a setuid program stayed its user's"
    if seen.setuid == "none":
        tried = "the image has no setuid program to try"
    return ok(f"no-new-privileges is in force; {tried}")


async def separation(sandbox: Sandbox) -> Observation:
    """Try actions by which a snippet would become the runner, or see the runner's secrets."""
    seen = sandbox.inside
    remedy = "report this, with the output of docker info"
    # gVisor shows it to all; the runner has wiped its own part (`pool/inside/environment.py`).
    public = {"read its environment"} if _in_gvisor(sandbox.container) else set()
    against = [name for name in seen.against_runner if name not in public]
    if seen.uid == 0 or against:
        could = ", ".join(against) or "do all that the runner may"
        return fail(f"user {seen.uid} of a snippet could {could}", remedy)
    if any(set(held) - set(_NO_CAPABILITIES) for held in seen.capabilities):
        return fail(f"a snippet holds capabilities: {' '.join(seen.capabilities)}", remedy)
    finding = "without capabilities, cannot signal, read or become the runner"
    return ok(f"a snippet is user {seen.uid}, {finding}")


async def guard(sandbox: Sandbox) -> Observation:
    """Try every way to the addresses that the guard closes."""
    network, rules = sandbox.settings.network, egress_rules(sandbox.settings)
    if network == "none":
        return _networkless(sandbox)
    if rules is None:
        return warn(
            f"PGEXEC_NETWORK is {network}, which pgexec does not guard",
            "set PGEXEC_NETWORK=egress, or see that this network reaches nothing private",
        )
    strength = str(sandbox.container.runner.get("guard") or "no guard")
    addresses = [_within(text) for text in rules.blocked]
    found = await _trespass(sandbox, [METADATA, *addresses], rules.allowed)
    if ways := _arrived(strength, found.through):
        through = sorted(ways, key=lambda way: "answered" not in way)
        more = f" and {len(through) - SHOWN} more" if len(through) > SHOWN else ""
        return fail(
            f"{strength}: not refused: {', '.join(through[:SHOWN])}{more}",
            "use a kernel with IPsec policies (modprobe xfrm_user), or set PGEXEC_NETWORK=none",
        )
    finding = f"{strength}: {found.attempts} attempts refused at the gateway, this machine, "
    finding += f"{METADATA} and private ranges, by plain sockets, SO_DONTROUTE, "
    return ok(finding + "SO_BINDTODEVICE, IP_PKTINFO, broadcast and multicast")


async def metadata(sandbox: Sandbox) -> Observation:
    """Try every way to the address at which clouds give out a machine's credentials."""
    network, rules = sandbox.settings.network, egress_rules(sandbox.settings)
    if network == "none":
        return _networkless(sandbox)
    if rules and any(_covers(network, METADATA) for network in rules.allowed):
        return warn(
            f"PGEXEC_NETWORK_ALLOW names {METADATA}", "take it out, unless it is no cloud's"
        )
    found = await _trespass(sandbox, [METADATA], ())
    through = [way for way in found.through if way.startswith(f"{METADATA} ")]
    if rules is None:  # without a guard nothing refuses it, so only an answer counts
        through = [way for way in through if "answered" in way]
    through = _arrived(str(sandbox.container.runner.get("guard")), through)
    if through:
        return fail(
            f"not refused: {', '.join(through[:SHOWN])}",
            "set PGEXEC_NETWORK=egress, and see what the check of the network guard says",
        )
    return ok(f"{METADATA} {'is refused' if rules else 'does not answer'}")


async def internet(sandbox: Sandbox) -> Observation:
    """Resolve and reach a public name, as pip would. A failure is a warning: it may be intended."""
    if sandbox.settings.network == "none":
        return ok("PGEXEC_NETWORK is none: snippets cannot reach anything")
    try:
        found = await ask(sandbox.container, Reached, inside.reach, PUBLIC_NAME, PUBLIC_PORT)
    except ProbeError:
        found = Reached(address="", refusal="no answer")
    if not found.address:
        return warn(
            f"{PUBLIC_NAME} cannot be resolved: {found.refusal}",
            "see that the engine's machine resolves names, or set dns in daemon.json",
        )
    if found.refusal:
        return warn(
            f"{PUBLIC_NAME} is {found.address}, which cannot be reached: {found.refusal}",
            "see that the engine's machine forwards and masquerades; an address that is private "
            "must be named in PGEXEC_NETWORK_ALLOW",
        )
    return ok(f"{PUBLIC_NAME} is {found.address}, and port {PUBLIC_PORT} can be reached")


async def trust(sandbox: Sandbox) -> Observation:
    """Check that the containers have the CA certificates."""
    if not sandbox.settings.ca_bundle:
        return ok("no CA bundle is configured")
    if sandbox.inside.certificates <= 0:
        return warn(
            "the CA bundle did not reach the container",
            "use an engine that can commit: only a prepared image carries it",
        )
    return ok(f"a snippet trusts {sandbox.inside.certificates} CA certificates")


async def recycling(sandbox: Sandbox) -> Observation:
    """Leave a file and a process behind, and look for them in the next run."""
    path = f"{sandbox.laboratory.spec.root_dir}/left-behind"
    before = await ask(sandbox.container, Left, inside.leave_behind, path)
    after = await ask(sandbox.container, Left, inside.look_around, path)
    found = ["its file"] if after.file else []
    found += [f"process {pid}" for pid in after.processes]
    if before.uid == after.uid:
        found.append("its user")
    if found:
        finding = f"after the reset, the next run found {', '.join(found)}"
        return fail(finding, "set PGEXEC_MAX_USES=1 and report this")
    return ok(f"the next run, as user {after.uid}, found no file and no process of the last one")


async def _trespass(
    sandbox: Sandbox, addresses: Sequence[str], allowed: Sequence[str]
) -> Trespasses:
    """Try every way to addresses, in a container of its own: what gets through is not clean."""
    async with sandbox.laboratory.container() as container:
        return await ask(
            container,
            Trespasses,
            trespass.trespass,
            [*addresses],
            [*allowed],
            may_leave=_NEIGHBOURS,
        )


def _in_gvisor(container: Container) -> bool:
    return container.runner.get("gvisor") is True


def _arrived(strength: str, ways: Sequence[str]) -> list[str]:
    """Return the ways that count as through: gVisor's filter drops packets without an error."""
    return [way for way in ways if "answered" in way or strength != "filter"]


def _networkless(sandbox: Sandbox) -> Observation:
    """Check that a container without a network has no interface that leads out."""
    outward = [name for name in sandbox.inside.interfaces if name != "lo"]
    if outward:
        return fail(f"PGEXEC_NETWORK is none, but there is {', '.join(outward)}", "see why")
    return ok("PGEXEC_NETWORK is none: containers have no network")


def _covers(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _within(network: str) -> str:
    """Return the second address of a network, or its only one."""
    parsed = ipaddress.ip_network(network)
    return str(parsed[1] if parsed.num_addresses > 1 else parsed[0])
