"""The system calls that a snippet may make: an allow-list, tighter than the engine's own.

Docker's default profile refuses about sixty calls and allows the others. Depending on the version,
these include `io_uring`, `ptrace`, `process_vm_readv`, `memfd_secret` and sockets of any family:
`AF_VSOCK` reaches the hypervisor. CPython and the programs that it starts need fewer calls.

A call that is not named here fails with EPERM; one that is newer than all that are named, with
ENOSYS, as on a kernel older than it, so that libc does without. A call of a foreign ABI (32-bit,
x32) ends its process with SIGSYS. Calls that only advise the kernel, or make it write to its disk,
do nothing and succeed. Calls by which a snippet could watch which files other tenants use fail with
ENOSYS (docs/adr/0009).

Sources: the profile of moby 20.10 (`profiles/seccomp/default.json`), the wrappers in CPython's
`posixmodule.c`, and the calls that musl and glibc make by themselves. The engine's runtime skips
names that the kernel or the processor does not know.
"""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

_Rule = dict[str, Any]
_Condition = dict[str, Any]

_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fgetxattr flistxattr
    flock fremovexattr fsetxattr fstat fstatfs ftruncate futimesat getcwd getdents getdents64
    getxattr ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek
    lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2
    pread64 preadv pwrite64 pwritev pwritev2 read readlink readlinkat readv removexattr rename
    renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat tee
    truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev
"""
_MEMORY = """
    brk madvise membarrier mlock mlock2 mlockall mprotect mremap munlock munlockall munmap
"""
_PROCESSES = """
    alarm arch_prctl execve execveat exit exit_group fork futex futex_waitv get_robust_list
    get_thread_area getcpu getitimer getpgid getpgrp getpid getppid getpriority getrlimit
    getrusage getsid gettid ioprio_get ioprio_set kill pause pidfd_open pidfd_send_signal prctl
    prlimit64 restart_syscall riscv_flush_icache riscv_hwprobe rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area
    set_tid_address setitimer setpgid setpriority setrlimit setsid sigaltstack signalfd
    signalfd4 sysinfo tgkill times tkill uname vfork wait4 waitid
"""
_USERS = """
    capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid
    setgid setgroups setregid setresgid setresuid setreuid setuid
"""
_TIME_AND_EVENTS = """
    clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait
    epoll_pwait2 epoll_wait eventfd eventfd2 getrandom gettimeofday nanosleep poll ppoll
    pselect6 select time timer_create timer_delete timer_getoverrun timer_gettime
    timer_settime timerfd_create timerfd_gettime timerfd_settime
"""
_SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
    recvmsg shutdown socketpair
"""
# The names of the same calls on 32-bit processors.
_WIDE = """
    _llseek _newselect breakpoint cacheflush chown32 clock_getres_time64 clock_gettime64
    clock_nanosleep_time64 fchown32 fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64
    getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32 lchown32 lstat64
    ppoll_time64 pselect6_time64 recv recvmmsg_time64 rt_sigtimedwait_time64
    sched_rr_get_interval_time64 send sendfile64 set_tls setfsgid32 setfsuid32 setgid32
    setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32 sigaction signal
    sigpending sigprocmask sigreturn sigsuspend stat64 statfs64 timer_gettime64 timer_settime64
    timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid
"""

# What asks for these does without. The flags of clone3 are in memory, where a filter cannot look.
_ABSENT = """
    clone3 get_mempolicy mbind migrate_pages pkey_alloc pkey_free pkey_mprotect set_mempolicy
    set_mempolicy_home_node
"""
# By these a snippet learns which files of a layer others read, or which are in the page cache.
_WATCHING = """
    cachestat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch mincore
"""
# No file that a snippet can write is on a disk: these could only load the host's. Advice could
# empty the page cache, which is to see afterwards who fills it again.
_IDLE = """
    arm_fadvise64_64 arm_sync_file_range fadvise64 fadvise64_64 fdatasync fsync readahead sync
    sync_file_range sync_file_range2
"""

_CLONE_NEW_NAMESPACES = 0x7E020000
_MAP_HUGETLB, _MFD_HUGETLB = 0x40000, 4  # the host's huge pages, which no limit of ours counts
_MS_SYNC = 4
_MSG_DONTROUTE = 4
_ENOSYS = 38
_INT = 0xFFFFFFFF  # of an `int` argument the kernel reads the low half only
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_ANY_PROTOCOL, _TCP, _UDP = 0, 6, 17
_NETLINK_ROUTE = 0  # how libc lists interfaces and addresses
_NETLINK_XFRM = 6  # how the network guard sets its policies; useless without NET_ADMIN

_F_NOTIFY = 1026  # watches a directory
_FCNTL_COMMANDS = 2048
_IP, _SOCKET, _IPV6, _NETLINK = 0, 1, 41, 270
_IP_OPTIONS = 4  # among them source routes, which make neighbours of any address
_IPV6_FLOWLABEL_MGR = 32  # its labels outlive their process, with the addresses that it chose
_SO_DONTROUTE, _SO_SNDBUF, _SO_RCVBUF = 5, 7, 8
_OPTIONS = 128

_ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@functools.cache
def profile(machine: str) -> str:
    """Return the profile as JSON, for the engine's `SecurityOpt: seccomp=`.

    `machine` is the processor's name, of Docker (`amd64`) or of the kernel (`x86_64`). The profile
    names it: without it, runc does not tell unknown calls from refused ones.
    """
    names = (_FILES, _MEMORY, _PROCESSES, _USERS, _TIME_AND_EVENTS, _SOCKETS, _WIDE)
    architecture = _ARCHITECTURES.get(_MACHINES.get(machine, machine))
    rules = [
        _allow(" ".join(names)),
        _fail(_ABSENT + _WATCHING, _ENOSYS),
        _fail(_IDLE, 0),
        *_calls_with_flags(),
        *_calls_on_sockets(),
    ]
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        **({"architectures": [architecture]} if architecture else {}),
        "syscalls": rules,
    }
    return json.dumps(document, separators=(",", ":"))


def _calls_with_flags() -> list[_Rule]:
    return [
        _allow("clone", _masked(0, _CLONE_NEW_NAMESPACES, 0)),
        _allow("mmap mmap2", _masked(3, _MAP_HUGETLB, 0)),
        _allow("memfd_create", _masked(1, _MFD_HUGETLB, 0)),
        # Without MS_SYNC it only tells if memory is mapped; libunwind asks this.
        _allow("msync", _masked(2, _MS_SYNC, 0)),
        _fail("msync", 0, _masked(2, _MS_SYNC, _MS_SYNC)),
        # With a flag, it reads only from the page cache: this shows which files others use.
        _allow("preadv2", _equal(5, 0)),
        *(
            _allow("fcntl fcntl64", condition)
            for condition in _other_than([_F_NOTIFY], index=1, end=_FCNTL_COMMANDS)
        ),
    ]


def _calls_on_sockets() -> list[_Rule]:
    sockets = [
        (_AF_NETLINK, _NETLINK_ROUTE),
        (_AF_NETLINK, _NETLINK_XFRM),
        *itertools.product((_AF_INET, _AF_INET6), (_ANY_PROTOCOL, _TCP, _UDP)),
    ]
    denied = {
        _IP: [_IP_OPTIONS],
        _SOCKET: [_SO_DONTROUTE, _SO_SNDBUF, _SO_RCVBUF],
        _IPV6: [_IPV6_FLOWLABEL_MGR],
    }
    return [
        _allow("socket", _equal(0, _AF_UNIX)),
        *(_allow("socket", _equal(0, family), _equal(2, kind)) for family, kind in sockets),
        # Without a route, the kernel takes any address for a neighbour's.
        _allow("sendto sendmmsg", _masked(3, _MSG_DONTROUTE, 0)),
        _allow("sendmsg", _masked(2, _MSG_DONTROUTE, 0)),
        *(_allow("setsockopt", _equal(1, level)) for level in (_TCP, _UDP, _NETLINK)),
        *(
            _allow("setsockopt", _equal(1, level), condition)
            for level, options in denied.items()
            for condition in _other_than(options, index=2, end=_OPTIONS)
        ),
        # Buffers stay as the sysctls set them; a program must not rely on another size.
        *(
            _fail("setsockopt", 0, _equal(1, _SOCKET), _equal(2, option))
            for option in (_SO_SNDBUF, _SO_RCVBUF)
        ),
    ]


def _allow(names: str, *conditions: _Condition) -> _Rule:
    return {"names": sorted(names.split()), "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _fail(names: str, errno: int, *conditions: _Condition) -> _Rule:
    """Return the rule by which calls fail with `errno`; with 0 they succeed and do nothing."""
    return {**_allow(names, *conditions), "action": "SCMP_ACT_ERRNO", "errnoRet": errno}


def _equal(index: int, value: int) -> _Condition:
    """Return the condition: argument number `index`, an `int`, equals `value`."""
    return _masked(index, _INT, value)


def _other_than(values: list[int], *, index: int, end: int) -> list[_Condition]:
    """Return conditions of which one holds for each number below `end` that is not in `values`.

    `end` is a power of two. The operator "not equal" compares 64 bits, but the kernel reads only 32
    of them: a forbidden number with other high bits would pass.
    """
    found = []
    start = 0
    while start < end:
        size = start & -start or end
        while any(value in range(start, start + size) for value in values) and size > 1:
            size //= 2
        if start not in values:
            found.append(_masked(index, _INT & ~(size - 1), start))
        start += size
    return found


def _masked(index: int, mask: int, value: int) -> dict[str, object]:
    """Return the condition: argument number `index`, masked by `mask`, equals `value`."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
