# ruff: noqa: E501 - the snippets are written as an attacker would
"""What one run leaves behind, the next run in the same container does not find.

A snippet looks at everything that a run can see of its surroundings (`FOOTPRINT`); after each
attempt to leave something, it must see what it saw in a container that had run nothing.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from pool.job import Status
from tests.abuse.sandbox import IN_GVISOR
from tests.abuse.syscalls import PRELUDE

if TYPE_CHECKING:
    from pool.engine.image import Image
    from tests.abuse.sandbox import Outcome, Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOOTPRINT = (
    """
import builtins, sys
sight = {
    "modules": sorted(sys.modules), "path": sys.path, "hooks": len(sys.path_hooks),
    "finders": len(sys.meta_path), "builtins": sorted(vars(builtins)), "main": sorted(globals()),
    "flags": str(sys.flags), "recursion": sys.getrecursionlimit(), "trace": str(sys.gettrace()),
    "print": print.__qualname__ + str(type(print)), "caches": sorted(sys.path_importer_cache),
}
"""
    + PRELUDE
    + """
import ctypes.util, fcntl, gc, locale, resource, stat, threading, time
me = str(os.getpid())

def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("latin-1")
    except OSError as error:
        return errno.errorcode[error.errno]

def tree(top):
    found = []
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            about = os.lstat(path)
            found.append([path, stat.filemode(about.st_mode), about.st_size])
    return sorted(found)

def root(path):
    about, free = os.stat(path), os.statvfs(path)
    try:
        attributes = os.listxattr(path)
    except OSError as error:
        attributes = str(error)
    return [stat.filemode(about.st_mode), about.st_uid, about.st_gid, about.st_nlink,
            free.f_bfree, free.f_ffree, attributes]

mounts = [line.split()[4:6] for line in open("/proc/self/mountinfo")]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
locks = []
for path in (os.__file__, "/etc/passwd"):
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locks.append(path)

sight |= {
    "files": {top: tree(top) for top in ("/home/code", "/tmp", "/dev", "/opt", "/run", "/var/tmp")},
    # gVisor has no /dev/mqueue.
    "roots": {top: root(top) for top in ("/home/code", "/tmp", "/dev/shm", "/dev/mqueue")
              if os.path.isdir(top)},
    "mounts": sorted(mounts),
    "processes": [name for name in os.listdir("/proc") if name.isdigit() and name != me],
    "threads": len(os.listdir("/proc/self/task")),
    "children": read(f"/proc/self/task/{me}/children"),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "kinds": [stat.S_IFMT(os.fstat(fd).st_mode) for fd in range(3)],
    "pipes": [fcntl.fcntl(fd, 1032) for fd in range(3)],  # F_GETPIPE_SZ
    "flags of descriptors": [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in range(3)],
    "stdin": sys.stdin.read(),
    "status": {key: status.get(key) for key in (
        "Umask", "TracerPid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt",
        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
        "Cpus_allowed", "Mems_allowed", "VmLck")},
    "environment": dict(os.environ),
    "initial environment": sorted(
        line for line in read("/proc/self/environ").split("\\0") if "PGEXEC_RUNNER" not in line),
    "limits": read("/proc/self/limits"),
    "oom_score_adj": read("/proc/self/oom_score_adj"),
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "session's nice": os.getpriority(os.PRIO_PGRP, 0),
    "scheduler": read("/proc/self/sched").partition("policy")[2].split("\\n")[0],
    "affinity": sorted(os.sched_getaffinity(0)),
    "cwd": os.getcwd(),
    "host name": socket.gethostname(),
    "timers": [signal.getitimer(which) for which in range(3)] + [read("/proc/self/timers")],
    "handlers": {n: str(signal.getsignal(n)) for n in range(1, 32)},
    "ipc": [read(f"/proc/sysvipc/{name}").count("\\n") for name in ("shm", "msg", "sem")],
    "sockets": [read(f"/proc/net/{name}").count("\\n") for name in
                ("tcp", "tcp6", "udp", "udp6", "unix", "raw", "netlink")],
    "locks": locks,
    "keys": attempt(syscall, "keyctl", 0, -3, 0),
    "locale": locale.setlocale(locale.LC_ALL),
    "switch interval": sys.getswitchinterval(),
    "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
    "time zone": time.tzname,
    "in flight": len(gc.garbage),
}
print(json.dumps(sight))
"""
)

LEAVE = {
    "a file on every mount": """
for mount in ("/home/code", "/tmp", "/dev/shm"):
    with open(mount + "/left", "w") as file: file.write("left")
""",
    "a hidden and an odd file": """
import os
for name in (b".left", b"new\\nline", b"\\xff\\xfe", b" ", b"*", b"-rf", b"x" * 255):
    open(b"/tmp/" + name, "w").close()
    os.mkdir(b"/dev/shm/" + name)
""",
    "a file in a message queue's place": "attempt(lambda: open('/dev/mqueue/left', 'w'))",
    "a memfd": "fd = os.memfd_create('left'); os.write(fd, b'left'); os.set_inheritable(fd, True)",
    "a daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 65):
            attempt(lambda: number in (9, 19, 32, 33, 34) or signal.signal(number, signal.SIG_IGN))
        while True: open("/tmp/daemon", "a").write("x")
    os._exit(0)
os.wait()
""",
    "sixty daemons that fork": """
first = os.getpid()
for _ in range(60):
    if attempt(os.fork) and os.getpid() != first:
        os.setsid()
        while True:
            try:
                os.fork() and os._exit(0)
            except OSError: pass
""",
    "a stopped process": "if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)",
    "a zombie": "if os.fork() == 0: os._exit(0)",
    "a process in vfork": """
import subprocess, threading
threading.Thread(target=subprocess.run, args=(["sleep", "1000"],), daemon=True).start()
""",
    "a process in a read that cannot end": """
os.mkfifo("/tmp/fifo")
if os.fork() == 0: open("/tmp/fifo").read()
""",
    "a thread": """
import threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
""",
    "system V shared memory": "attempt(syscall, 'shmget', 0x4c454654, 4096, 0o1666)",
    "a system V message queue": "attempt(syscall, 'msgget', 0x4c454654, 0o1666)",
    "a system V semaphore": "attempt(syscall, 'semget', 0x4c454654, 1, 0o1666)",
    "a POSIX message queue": "attempt(syscall, 'mq_open', address(b'left'), 0o102, 0o666, 0)",
    "POSIX shared memory": """
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *arguments: None
shared_memory.SharedMemory("left", create=True, size=4096)
os._exit(0)
""",
    "a POSIX semaphore": """
libs = [ctypes.CDLL(name) for name in (None, "libpthread.so.0") if name is None or os.path.exists(name)]
[lib.sem_open(b"/left", os.O_CREAT, 0o666, 1) for lib in libs if hasattr(lib, "sem_open")]
""",
    "an abstract socket": """
s = socket.socket(socket.AF_UNIX); s.bind("\\0left"); s.listen()
if os.fork() == 0: s.accept()
""",
    "a socket in the file system": "s = socket.socket(socket.AF_UNIX); s.bind('/tmp/left'); s.listen()",
    "a listening port": """
s = socket.socket(); s.bind(("127.0.0.1", 4242)); s.listen()
if os.fork() == 0: s.accept()
""",
    "a port in TIME_WAIT": """
s = socket.socket(); s.bind(("127.0.0.1", 4242)); s.listen()
c = socket.create_connection(("127.0.0.1", 4242))
a, _ = s.accept()
a.close(); c.recv(1); c.close()
""",
    "a connection with unread data": """
s = socket.socket(); s.bind(("127.0.0.1", 4242)); s.listen()
c = socket.create_connection(("127.0.0.1", 4242))
c.send(b"left" * 1000)
os._exit(0)
""",
    "a datagram": """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 4242))
s.sendto(b"left", ("127.0.0.1", 4242))
""",
    "an interval timer": "signal.setitimer(signal.ITIMER_REAL, 1000); signal.alarm(1000)",
    "a pending signal": """
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.kill(os.getpid(), signal.SIGUSR1)
""",
    "ignored signals": "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 13, 14, 15, 17)]",
    "an environment variable": "os.environ['LEFT'] = os.environ['PATH'] = 'left'",
    "a module": "import types; sys.modules['left'] = types.ModuleType('left'); sys.modules['json'] = None",
    "a patched builtin": "import builtins; builtins.print = builtins.left = lambda *a, **k: None",
    "a patched module": "json.dumps = lambda *a, **k: 'left'; os.getpid = lambda: 1; os.fork = None",
    "import hooks": "sys.meta_path.insert(0, None); sys.path_hooks.clear(); sys.path[:] = ['/left']",
    "a trace function": "sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "interpreter settings": """
import gc, locale
sys.setrecursionlimit(77777); sys.setswitchinterval(1); gc.disable(); gc.set_threshold(1)
os.environ["TZ"] = "Asia/Tokyo"; __import__("time").tzset()
""",
    "a module in every place that is searched": """
import site
places = [*sys.path, site.getusersitepackages(), os.path.expanduser("~"), "/opt/layers"]
for place in places:
    for name in ("sitecustomize.py", "usercustomize.py", "left.pth", "json.py", "left.py"):
        def leave():
            os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, name), "w") as file:
                file.write("import sys; sys.modules['left'] = sys; print('left')")
        attempt(leave)
""",
    "start-up files": """
for name in (".pythonrc.py", ".profile", ".bashrc", ".netrc", ".config/pip/pip.conf", "pyvenv.cfg"):
    os.makedirs(os.path.dirname(os.path.expanduser("~/" + name)), exist_ok=True)
    open(os.path.expanduser("~/" + name), "w").write("left")
""",
    "bytecode": """
import py_compile
open("/tmp/left.py", "w").write("x = 1")
py_compile.compile("/tmp/left.py")
sys.path.insert(0, "/tmp"); import left
py_compile.compile("/home/code/Main.py")
for name in ("json", "os", "random"):
    attempt(py_compile.compile, sys.modules.get(name, os).__file__)
""",
    "limits": """
import resource
for name in dir(resource):
    if name.startswith("RLIMIT_"):
        try: resource.setrlimit(getattr(resource, name), (1 << 16, 1 << 16))
        except (OSError, ValueError): pass
""",
    "the runner's limits": """
import resource
for name in dir(resource):
    if name.startswith("RLIMIT_"):
        try:
            resource.prlimit(1, getattr(resource, name), (0, 0))
            print("changed", name)
        except OSError: pass
""",
    "an oom_score_adj": """
for pid in ("self", "1"):
    for score in ("0", "1000"):
        attempt(lambda: open(f"/proc/{pid}/oom_score_adj", "w").write(score))
""",
    "a nice value": """
os.nice(10)
for which in (os.PRIO_PROCESS, os.PRIO_PGRP, os.PRIO_USER):
    for who in (0, 1):
        attempt(os.setpriority, which, who, 19)
""",
    "a scheduler": """
for pid in (0, 1):
    attempt(os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0))
    attempt(os.sched_setaffinity, pid, {0})
""",
    "a umask": "os.umask(0o777)",
    "a directory": "os.chdir('/tmp')",
    "a lock": """
import fcntl
for path in (os.__file__, "/etc/passwd"):
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
if os.fork() == 0: signal.pause()
""",
    "a lease and a notification": """
import fcntl
fd = os.open("/tmp", os.O_RDONLY)
attempt(fcntl.fcntl, fd, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
""",
    "a key": """
attempt(syscall, "add_key", address(b"user\\0"), address(b"left\\0"), address(b"left"), 4, -4)
attempt(syscall, "keyctl", 1, address(b"left\\0"))
""",
    "an inotify watch": """
fd = _libc.inotify_init1(0)
for path in (b"/home/code", b"/tmp", b"/etc", b"/"): _libc.inotify_add_watch(fd, path, 0xfff)
if fd >= 0 and os.fork() == 0: os.read(fd, 4096)
""",
    "attributes of the mounts' roots": """
for mount in ("/home/code", "/tmp", "/dev/shm"):
    attempt(os.setxattr, mount, "user.left", b"left")
    attempt(os.setxattr, mount, "system.posix_acl_default", b"\\2\\0\\0\\0\\1\\0\\7\\0\\xff\\xff\\xff\\xff")
    attempt(os.chmod, mount, 0o700)
    attempt(os.chown, mount, os.getuid(), os.getgid())
    attempt(os.utime, mount, (0, 0))
    attempt(os.rename, mount, mount + ".left")
    attempt(os.rmdir, mount)
""",
    "attributes of files": """
for mount in ("/home/code", "/tmp", "/dev/shm"):
    open(mount + "/left", "w").close()
    for number in range(1000):
        attempt(os.setxattr, mount + "/left", f"user.left{number}", b"left" * 100)
""",
    "a larger pipe": """
import fcntl
for fd in range(3): fcntl.fcntl(fd, 1031, 1 << 20); os.set_blocking(fd, False)
""",
    "descriptors": "[os.dup(1) for _ in range(500)]; [os.set_inheritable(n, True) for n in range(3, 500)]",
    "a pseudo-terminal": "import pty; pty.openpty(); os.fork() or signal.pause()",
    "a deleted file that a process holds": """
file = open("/tmp/held", "wb"); file.write(bytes(1 << 24)); file.flush(); os.unlink("/tmp/held")
if os.fork() == 0: signal.pause()
""",
    "a deleted file that is mapped": """
import mmap
file = open("/tmp/held", "wb+"); file.truncate(1 << 24)
area = mmap.mmap(file.fileno(), 0); area[:] = bytes(1 << 24); os.unlink("/tmp/held")
if os.fork() == 0: signal.pause()
""",
    "a deleted directory that is somebody's": """
os.mkdir("/tmp/gone"); os.chdir("/tmp/gone"); os.rmdir("/tmp/gone")
if os.fork() == 0: signal.pause()
""",
    "a program that runs": """
import shutil
shutil.copy(shutil.which("sleep"), "/tmp/left")
os.chmod("/tmp/left", 0o4755)
os.spawnv(os.P_NOWAIT, "/tmp/left", ["sleep", "1000"])
""",
    "a binary of its own": """
import shutil
shutil.copy(os.path.realpath(sys.executable), "/tmp/python3")
os.spawnv(os.P_NOWAIT, "/tmp/python3", ["/tmp/python3", "-c", "while True: pass"])
""",
}

# AppArmor cannot name what lies deeper than 8 KiB of path, and refuses it.
DEEPEN = """
def deepen(name, depth):
    try:
        for level in range(depth):
            os.mkdir(name); os.chdir(name)
            if level % 2: open("leaf", "w").close()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG: raise
"""

TREES = {
    "ten thousand directories deep": """
for mount in ("/home/code", "/tmp"):
    os.chdir(mount)
    deepen("d", 10000)
""",
    "deep, in a place with small names and with long ones": """
os.chdir("/tmp")
deepen("n" * 255, 3000)
""",
    "wide": "[os.makedirs(f'/tmp/{i}/{j}/{k}') for i in range(16) for j in range(16) for k in range(16)]",
    "deep and wide": """
os.chdir("/tmp")
for _ in range(1000):
    for number in range(8): os.mkdir(str(number))
    os.chdir("7")
""",
    "of mode 000": """
for mount in ("/home/code", "/tmp", "/dev/shm"):
    os.makedirs(mount + "/a/b/c")
    for name in ("a/b/c/f", "f"): open(f"{mount}/{name}", "w").close()
    for name in ("a/b/c/f", "f", "a/b/c", "a/b", "a"): os.chmod(f"{mount}/{name}", 0)
""",
    "of odd names": """
os.chdir(b"/tmp")
for name in [bytes([n]) for n in range(1, 256) if n not in b"/."] + [b"...", b"\\n\\n", b"\\xff" * 255]:
    os.makedirs(name + b"/" + name)
    open(name + b"/" + name + b"/" + name, "w").close()
""",
    "sticky": """
os.makedirs("/tmp/s/s/s")
for name in ("/tmp/s/s/s", "/tmp/s/s", "/tmp/s"): os.chmod(name, 0o1777); open(name + "/f", "w").close()
""",
    "of hard links": """
open("/tmp/first", "w").write("x")
for number in range(5000): os.link("/tmp/first", f"/tmp/link{number}")
""",
    "of symbolic links to what must stay": """
for target in ("/", "/etc", "/opt/pgexec", "/home/code", "/tmp", "/proc/1/root", ".", "..", "loop"):
    os.symlink(target, "/tmp/" + target.replace("/", "_") + "link")
os.symlink("loop", "/tmp/loop")
os.makedirs("/tmp/d/d"); os.symlink("/opt/pgexec", "/tmp/d/d/l"); os.symlink("/dev/shm", "/tmp/d/s")
""",
    "of sockets, fifos and devices": """
for number in range(100):
    os.mkfifo(f"/tmp/fifo{number}")
    socket.socket(socket.AF_UNIX).bind(f"/tmp/socket{number}")
for kind in (0o020000, 0o060000): attempt(os.mknod, "/tmp/device", kind | 0o666, os.makedev(1, 3))
""",
    "with a full inode table": """
os.chdir("/tmp")
try:
    while True: os.mkdir("d"); os.chdir("d")
except OSError: pass
""",
    "with a full disk and a full inode table": """
os.chdir("/tmp"); os.mkdir("a"); os.mkdir("a/b")
try:
    with open("a/b/full", "wb", 0) as file:
        while True: file.write(bytes(1 << 20))
except OSError: pass
try:
    for number in range(1 << 20): os.mkdir(f"a/b/{number}")
except OSError: pass
""",
    "of names like the wiper's": """
for prefix in (b"0", b"0" * 16, b"f" * 16, os.urandom(8).hex().encode()):
    for number in range(200):
        os.makedirs(b"/tmp/%s.%d/%s.%d/x" % (prefix, number, prefix, number + 1))
""",
    "of sparse and of huge files": """
for mount in ("/home/code", "/tmp", "/dev/shm"):
    with open(mount + "/sparse", "wb") as file: file.truncate(1 << 60)
""",
    "of the script itself": """
os.unlink("/home/code/Main.py"); os.makedirs("/home/code/Main.py/Main.py")
os.symlink("/etc/passwd", "/home/code/Main.py/Main.py/Main.py")
""",
}


# In gVisor the reset finds a connection that was made, since its port may stay taken.
CONNECTING = {"a port in TIME_WAIT", "a connection with unread data"}
# There each process takes 4 MiB more, and a tmpfs has no limit on inodes: the memory ends first,
# and the whole sandbox with it.
STARVING = {
    "sixty daemons that fork",
    "with a full inode table",
    "with a full disk and a full inode table",
}


@pytest.fixture(scope="module")
def seen(image: Image) -> dict[str, Any]:
    """Remember what the first run of a container saw, once a test has looked."""
    return {}


async def look(sandbox: Sandbox) -> dict[str, Any]:
    outcome = await sandbox.run(FOOTPRINT)
    assert outcome.status is Status.OK, outcome.text
    assert outcome.tidy, outcome.report
    sight: dict[str, Any] = json.loads(outcome.text)
    return sight


async def leave(sandbox: Sandbox, name: str, code: str, seen: dict[str, Any]) -> Outcome:
    """Leave something; the reset is clean, and the next run in there sees nothing of it.

    Where the sandbox cannot be cleaned, or died, it is given up: the next run is in another.
    """
    if "first" not in seen:
        await sandbox.renew()
        seen["first"] = await look(sandbox)
    outcome = await sandbox.run(PRELUDE + code)
    if IN_GVISOR and name in CONNECTING:
        assert outcome.status is Status.OK, outcome.text
        assert outcome.report.detail.startswith("TCP segments received: "), outcome.report
    else:
        starved = IN_GVISOR and name in STARVING and outcome.status is Status.MEMORY_LIMIT
        assert starved or outcome.status in (Status.OK, Status.KILLED), outcome.text
        assert outcome.tidy, outcome.report
    sight = await look(sandbox)
    assert not [(key, sight[key], old) for key, old in seen["first"].items() if sight[key] != old]
    return outcome


@pytest.mark.parametrize("name", LEAVE)
async def test_the_next_run_finds_nothing_of(
    sandbox: Sandbox, seen: dict[str, Any], name: str
) -> None:
    outcome = await leave(sandbox, name, LEAVE[name], seen)
    assert outcome.text == ""


@pytest.mark.parametrize("name", TREES)
async def test_nothing_is_left_of_a_tree(sandbox: Sandbox, seen: dict[str, Any], name: str) -> None:
    outcome = await leave(sandbox, name, DEEPEN + TREES[name], seen)
    assert outcome.text == ""


@pytest.mark.parametrize(
    "what",
    ["open(f'/tmp/{number}', 'wb', 0)", "open(os.memfd_create('left'), 'wb', 0)"],
    ids=["files", "memory"],
)
async def test_what_is_in_flight_between_sockets_is_waited_for_or_dirty(
    sandbox: Sandbox, what: str
) -> None:
    """The kernel collects such cycles in its own time, after the last process has gone."""
    outcome = await sandbox.run(f"""
import array, os, socket
def send(to, *files):
    data = array.array("i", [file.fileno() for file in files])
    to.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)])

for number in range(8):
    file = {what}; file.write(bytes(1 << 20))
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); named.bind(f"\\0left {{number}}")
    one, other = socket.socketpair()
    send(one, other, file); send(other, one, file, named)
os._exit(0)
""")
    assert outcome.status is Status.OK, outcome.text
    detail = outcome.report.detail
    assert outcome.report.clean or detail.startswith(("/tmp: ", "sockets: ")), detail
    seen = await sandbox.run("print(open('/proc/net/unix').read())")
    assert "left" not in seen.text


async def test_the_footprint_shows_what_is_there(sandbox: Sandbox, seen: dict[str, Any]) -> None:
    """The instrument works: what a run does to itself, it sees."""
    code = """
import fcntl, os, signal, socket
open("/tmp/left", "w").write("x"); os.environ["LEFT"] = "x"; os.nice(3); os.umask(0o77)
signal.alarm(1000); left = os.open("/dev/null", 0)
if os.fork() == 0: os.closerange(0, 3); signal.pause()
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
"""
    if "first" not in seen:
        seen["first"] = await look(sandbox)
    outcome = await sandbox.run(code + FOOTPRINT)
    changed = {
        key for key, value in json.loads(outcome.text).items() if value != seen["first"][key]
    }
    # Its /proc/self/status tells of no signals and no umask.
    assert changed >= {
        "files", "roots", "environment", "nice", "timers", "descriptors", "processes",
        "sockets", "children", *(() if IN_GVISOR else ("status",)),
    }  # fmt: skip


async def test_the_mounts_are_all_that_can_be_written(sandbox: Sandbox) -> None:
    outcome = await sandbox.attack(
        PRELUDE
        + """
import stat
created, opened = set(), set()
for top, folders, files in os.walk("/"):
    if top == "/proc":
        folders[:] = [name for name in folders if name not in ("self", "thread-self", str(os.getpid()))]
    for make in (lambda path: open(path, "xb").close(), os.mkdir, os.mkfifo):
        if attempt(make, os.path.join(top, "left")) == "SUCCEEDED":
            created.add(top)
            attempt(os.unlink, top + "/left"); attempt(os.rmdir, top + "/left")
    for name in files:
        path = os.path.join(top, name)
        try:
            if os.path.realpath(path).startswith(f"/proc/{os.getpid()}/"):
                continue
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            if os.fstat(fd).st_rdev != os.makedev(1, 3):  # /dev/null is what masks a file
                opened.add(path)
            os.close(fd)
        except OSError:
            pass
print(sorted(created))
print(sorted(path for path in opened if not path.startswith(("/dev/", "/proc/1/"))))
print(sorted(path for path in opened if path.startswith("/dev/")))
"""
    )
    created, opened, devices = outcome.text.splitlines()
    assert created == "['/dev/shm', '/home/code', '/tmp']"
    assert opened == "['/home/code/Main.py']"
    harmless = ["full", "ptmx", "pts/ptmx", "random", "urandom", "zero"]
    assert devices == str([f"/dev/{name}" for name in harmless])


SCAN = """
import re
def scan(pattern):
    found = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            span, rights, *rest = line.split()
            if "r" not in rights or rest[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            while start < end:
                memory.seek(start)
                try:
                    data = memory.read(min(end - start, 1 << 16))
                except OSError:
                    data = b""  # unmapped since
                found += re.findall(pattern, data)
                start += len(data) or 4096
    return len(found)
print("found", scan(rb"mark[e]r-[0-9a-f]{16}"))
"""


async def test_no_memory_holds_what_the_last_run_was_given_or_printed(sandbox: Sandbox) -> None:
    await sandbox.renew()
    for _ in range(3):
        marker = f"marker-{secrets.token_hex(8)}"
        code = f"""
import sys
kept = sys.stdin.read()
print("{marker}", kept); print("{marker}", file=sys.stderr)
"""
        stdin = f"{marker} ".encode() * 1000
        own = await sandbox.run(code + SCAN, stdin=stdin)
        assert int(own.text.split()[-1]) >= 1000, "the scan finds what is there"
        outcome = await sandbox.run(code, stdin=stdin)
        assert outcome.tidy
        assert (await sandbox.run(SCAN)).text == "found 0\n"


async def test_no_memory_holds_what_a_killed_run_was_given_or_printed(sandbox: Sandbox) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    code = f"import os\nwhile True: os.write(1, b'{marker}' * 1000)"
    outcome = await sandbox.run(code, stdin=marker.encode() * 50_000, output_limit_bytes=1 << 18)
    assert outcome.status is Status.OUTPUT_LIMIT
    assert outcome.tidy
    assert (await sandbox.run(SCAN)).text == "found 0\n"


async def test_no_memory_holds_the_exception_that_the_last_run_died_of(sandbox: Sandbox) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    for _ in range(3):
        outcome = await sandbox.run(f"raise type('{marker}', (Exception,), {{}})('{marker}')")
        assert outcome.status is Status.ERROR
        assert outcome.tidy
    assert (await sandbox.run(SCAN)).text == "found 0\n"


async def test_no_entry_in_proc_shows_what_the_last_run_was_given_or_printed(
    sandbox: Sandbox,
) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    await sandbox.run(f"print('{marker}')", stdin=marker.encode() * 1000)
    outcome = await sandbox.run("""
import os, re
found, read = [], 0
for top, folders, files in os.walk("/proc"):
    folders[:] = [n for n in folders if n not in ("sys", "task", "thread-self", "self", "bus", "irq")]
    for name in files:
        if name in ("kmsg", "trace_pipe", "mem", "pagemap", "clear_refs"):
            continue
        try:
            fd = os.open(os.path.join(top, name), os.O_RDONLY | os.O_NONBLOCK)
            data = os.read(fd, 1 << 20)
            os.close(fd)
        except OSError:
            continue
        read += 1
        if re.search(rb"mark[e]r-[0-9a-f]{16}", data):
            found.append(os.path.join(top, name))
print(read > 50, found)
""")
    assert outcome.text == "True []\n"


async def test_each_run_has_a_user_of_its_own(sandbox: Sandbox) -> None:
    code = "import os; print(os.getresuid() + os.getresgid(), os.getgroups(), os.getsid(0) == os.getpid())"
    seen = set()
    for _ in range(3):
        ids, groups, leads = (await sandbox.run(code)).text.rsplit(maxsplit=2)
        assert (groups, leads) == ("[]", "True")
        assert len(set(ids.strip("()").split(", "))) == 1
        seen.add(ids)
    assert len(seen) == 3
