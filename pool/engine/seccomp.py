"""The system calls that a snippet may make: an allow-list, tighter than the engine's own.

Docker's default profile refuses about sixty calls and allows the others. Depending on the version,
these include `io_uring`, `ptrace`, `process_vm_readv`, `memfd_secret` and sockets of any family:
`AF_VSOCK` reaches the hypervisor. CPython and the programs that it starts need fewer calls. A call
that is not named here fails with EPERM. So does every call of a foreign ABI (32-bit, x32).

Sources: the profile of moby 20.10 (`profiles/seccomp/default.json`), the wrappers in CPython's
`posixmodule.c`, and the calls that musl and glibc make by themselves. The engine's runtime skips
names that the kernel or the processor does not know.
"""

from __future__ import annotations

import json

_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate
    futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek
    lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64
    preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx
    symlink symlinkat sync_file_range tee truncate umask unlink unlinkat utime utimensat utimes
    vmsplice write writev
"""
_MEMORY = """
    brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync
    munlock munlockall munmap
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
    recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair
"""
# The names of the same calls on 32-bit processors.
_WIDE = """
    _llseek _newselect arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush chown32
    clock_getres_time64 clock_gettime64 clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64
    fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64 getegid32 geteuid32 getgid32
    getgroups32 getresgid32 getresuid32 getuid32 lchown32 lstat64 mmap2 ppoll_time64
    pselect6_time64 recv recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64
    send sendfile64 set_tls setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32
    setresuid32 setreuid32 setuid32 sigaction signal sigpending sigprocmask sigreturn sigsuspend
    stat64 statfs64 sync_file_range2 timer_gettime64 timer_settime64 timerfd_gettime64
    timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid
"""

_CLONE_NEW_NAMESPACES = 0x7E020000
_ENOSYS = 38
_INT = 0xFFFFFFFF  # of an `int` argument the kernel reads the low half only
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_ANY_PROTOCOL, _TCP, _UDP = 0, 6, 17
_NETLINK_ROUTE = 0  # how libc lists interfaces and addresses
_NETLINK_XFRM = 6  # how the network guard sets its policies; useless without NET_ADMIN


def profile() -> str:
    """Return the profile as JSON, for the engine's `SecurityOpt: seccomp=`."""
    names = (_FILES, _MEMORY, _PROCESSES, _USERS, _TIME_AND_EVENTS, _SOCKETS, _WIDE)
    rules: list[dict[str, object]] = [
        _rule(sorted({name for group in names for name in group.split()})),
        _rule(["clone"], _masked(0, _CLONE_NEW_NAMESPACES, 0)),
        # The flags of clone3 are in memory, where a filter cannot look. After ENOSYS, libc uses
        # clone() instead.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        _rule(["socket"], _masked(0, _INT, _AF_UNIX)),
        _rule(["socket"], _masked(0, _INT, _AF_NETLINK), _masked(2, _INT, _NETLINK_ROUTE)),
        _rule(["socket"], _masked(0, _INT, _AF_NETLINK), _masked(2, _INT, _NETLINK_XFRM)),
    ]
    rules += [
        _rule(["socket"], _masked(0, _INT, family), _masked(2, _INT, protocol))
        for family in (_AF_INET, _AF_INET6)
        for protocol in (_ANY_PROTOCOL, _TCP, _UDP)
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}, separators=(",", ":"))


def _rule(names: list[str], *conditions: dict[str, object]) -> dict[str, object]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _masked(index: int, mask: int, value: int) -> dict[str, object]:
    """Return the condition: argument number `index`, masked by `mask`, equals `value`."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
