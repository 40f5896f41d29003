"""What is put before a snippet that needs raw system calls: Python has no function for most."""

from __future__ import annotations

PRELUDE = '''
import ctypes, errno, json, os, platform, signal, socket, sys

_libc = ctypes.CDLL(None, use_errno=True)
_kept = []
# name: (x86_64, every newer architecture)
NUMBERS = {
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280),
    "chroot": (161, 51), "clock_settime": (227, 112), "clone": (56, 220), "clone3": (435, 435),
    "delete_module": (176, 106), "fanotify_init": (300, 262), "finit_module": (313, 273),
    "fsopen": (430, 430), "init_module": (175, 105), "io_setup": (206, 0),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104),
    "keyctl": (250, 219), "landlock_create_ruleset": (444, 444), "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447), "mknodat": (259, 33), "mount": (165, 40),
    "move_mount": (429, 429), "move_pages": (279, 239), "mq_open": (240, 180), "msgget": (68, 186),
    "name_to_handle_at": (303, 264), "nfsservctl": (180, 42), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pivot_root": (155, 41), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "reboot": (169, 142), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "seccomp": (317, 277), "semget": (64, 190), "setdomainname": (171, 162),
    "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170),
    "shmget": (29, 194), "swapoff": (168, 225), "swapon": (167, 224), "syncfs": (306, 267),
    "syslog": (103, 116), "tgkill": (234, 131), "tkill": (200, 130), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58),
}

def address(data):
    _kept.append(ctypes.create_string_buffer(bytes(data), max(len(data), 1)))
    return ctypes.addressof(_kept[-1])

def syscall(name, *arguments):
    number = NUMBERS[name][platform.machine() != "x86_64"]
    words = [ctypes.c_long(word) for word in arguments] + [ctypes.c_long(0)] * (6 - len(arguments))
    ctypes.set_errno(0)
    value = _libc.syscall(ctypes.c_long(number), *words)
    if value == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), name)
    return value

def attempt(what, *arguments):
    """The name of the error that an attack ends in, or that it succeeded."""
    try:
        what(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except ValueError as error:  # what Python makes of some errors
        return str(error)
    return "SUCCEEDED"
'''
