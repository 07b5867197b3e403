"""Confinement of a decoder process: what reads untrusted bytes can reach nothing but its answer (Linux).

Limits of resources, no new privileges (prctl), a filter of system calls (seccomp) and rules of the file
system (Landlock) stand one behind the other; a kernel that lacks one leaves the others. None of it can
be taken back by the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import dicom_node

OPEN_FILES: Final = 64
"""Most open files of the process."""

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_LIBC = ctypes.CDLL(None, use_errno=True)

# -- Landlock (linux/landlock.h); the numbers of its system calls are those of every architecture --
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH, _ASK_VERSION = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Rights over files that a version of Landlock knows."""
_NET_RIGHTS = 3  # to bind and to connect by TCP, since version 4
_SCOPES = 3  # abstract Unix sockets and signals, since version 6

# -- seccomp (linux/seccomp.h, linux/filter.h) -----------------------------------------------------
_MODE_FILTER = 2
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_REFUSED = {
    # name: (x86-64, AArch64); -1 where the architecture has none
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "accept4": (288, 242),
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "rename": (82, -1),
    "mkdir": (83, -1),
    "rmdir": (84, -1),
    "creat": (85, -1),
    "link": (86, -1),
    "unlink": (87, -1),
    "symlink": (88, -1),
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "chown": (92, -1),
    "fchown": (93, 55),
    "lchown": (94, -1),
    "truncate": (76, 45),
    "mknod": (133, -1),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "renameat2": (316, 276),
    "fchmodat2": (452, 452),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
"""System calls that fail with EPERM: network, processes, signals, changes of files, and the kernel's own."""
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425)}
"""System calls that fail with ENOSYS, so that libraries use the older ones, whose arguments can be seen."""
_CLONE, _OPEN, _OPENAT = (56, 220), (2, -1), (257, 56)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column above, and its number in the kernel's audit (linux/audit.h)."""


def confine(
    memory_bytes: int, parent: int, readable: Sequence[Path] = (), *, landlock: bool = True
) -> list[str]:
    """Confine this process for good.

    Parameters
    ----------
    memory_bytes
        Most address space, in bytes; no shared memory can be larger.
    parent
        Process ID of the parent: this process ends when it ends.
    readable
        Folders that may be read, beside those of the program; empty: all files that its user may read.
    landlock
        False to do without Landlock, as on an older kernel.

    Returns
    -------
    list of str
        Names of what this kernel lacks.
    """
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the line above
        sys.exit(0)
    lacking = []
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        lacking.append("no_new_privs")
    if not landlock or not _restrict_files(readable):
        lacking.append("Landlock")
    if not _filter_calls():
        lacking.append("seccomp")
    return lacking


def limit_cpu(seconds: float) -> None:
    """Have the kernel end this process when it uses so many more seconds of processor time."""
    used = sum(os.times()[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used + seconds) + 2
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


# -- files -----------------------------------------------------------------------------------------


def _restrict_files(readable: Sequence[Path]) -> bool:
    """Let this process read some folders, and change or run nothing; False without Landlock."""
    version = _LIBC.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return False
    handled = _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]
    fields = [handled]
    if version >= 4:
        fields.append(_NET_RIGHTS)
    if version >= 6:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = _LIBC.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for folder in [*_program_folders(), *readable] if readable else [Path("/")]:
            _allow_reading(rules, folder)
        return bool(_LIBC.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _program_folders() -> Iterable[Path]:
    """Return where Python, its packages and the libraries of the system lie."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {Path(sysconfig.get_path(name)) for name in names}
    paths |= {Path(place) for place in sys.path if place.endswith(("site-packages", "dist-packages"))}
    paths |= {Path(place) for place in dicom_node.__path__}
    paths |= {Path(place) for place in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")}
    paths |= {Path("/etc/ld.so.cache"), Path("/dev/null"), Path("/dev/urandom")}
    return sorted(paths)


def _allow_reading(rules: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there
    try:
        rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
        _LIBC.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


# -- system calls ----------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter_calls() -> bool:
    """Have the kernel refuse system calls of this process; False when it cannot, or knows no such machine."""
    if platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return False
    instructions = _instructions(*_MACHINES[platform.machine()])
    program = _Program(len(instructions), b"".join(instructions))
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _instructions(column: int, architecture: int) -> list[bytes]:
    """Return the filter, in the instructions of classic BPF."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    def refuse(number: int, code: int) -> list[bytes]:
        return [step(_EQUAL, number, 0, 1), step(_RETURN, _FAIL | code)]

    def refuse_if(number: int, argument: int, bits: int, *, unless: bool = False) -> list[bytes]:
        """Refuse a call when one of the bits of an argument is set, or when none is."""
        jumps = (1, 0) if unless else (0, 1)
        return [
            step(_EQUAL, number, 0, 5),
            step(_LOAD, _ARGUMENTS + 8 * argument),  # its lower half
            step(_ANY_BIT, bits, *jumps),
            step(_RETURN, _FAIL | errno.EPERM),
            step(_RETURN, _ALLOW),
            step(_LOAD, _NUMBER),
        ]

    found = [
        step(_LOAD, _ARCHITECTURE),
        step(_EQUAL, architecture, 1, 0),
        step(_RETURN, _FAIL | errno.EPERM),
        step(_LOAD, _NUMBER),
        step(_AT_LEAST, _X32, 0, 1),
        step(_RETURN, _FAIL | errno.EPERM),
    ]
    for table, code in ((_REFUSED, errno.EPERM), (_UNKNOWN, errno.ENOSYS)):
        for numbers in table.values():
            found += refuse(numbers[column], code) if numbers[column] >= 0 else []
    found += refuse_if(_CLONE[column], 0, _CLONE_THREAD, unless=True)  # a thread is no process
    found += refuse_if(_OPENAT[column], 2, _WRITING)
    if _OPEN[column] >= 0:
        found += refuse_if(_OPEN[column], 1, _WRITING)
    return [*found, step(_RETURN, _ALLOW)]
