"""Program that confines itself and then tries what it may not: ``python -m tests.support.confined_child``.

Arguments: the parent's process ID, whether to use Landlock, a file that may be read, and one that may not.
Prints a JSON object: what it lacks, and for each attempt the name of the error, or "done".
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from dicom_node.imaging.confinement import confine

if __name__ == "__main__":
    parent, landlock, allowed, secret = int(sys.argv[1]), sys.argv[2] == "True", sys.argv[3], sys.argv[4]
    libc = ctypes.CDLL(None, use_errno=True)
    folder = Path(allowed).parent
    kept = os.open(allowed, os.O_RDONLY)

    def call(number: int, *arguments: object) -> None:
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    def thread() -> None:
        started = threading.Thread(target=lambda: None)
        started.start()
        started.join()

    attempts: dict[str, Callable[[], object]] = {
        "tcp": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "socketpair": socket.socketpair,
        "write": lambda: (folder / "new").write_text("x"),
        "append": lambda: os.open(allowed, os.O_WRONLY | os.O_APPEND),
        "temporary": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
        "remove": lambda: Path(allowed).unlink(),
        "rename": lambda: Path(allowed).rename(folder / "other"),
        "chmod": lambda: Path(allowed).chmod(0o777),
        "fchmod": lambda: os.fchmod(kept, 0o777),
        "mkdir": (folder / "folder").mkdir,
        "symlink": lambda: (folder / "link").symlink_to("/"),
        "fork": fork,
        "spawn": lambda: subprocess.run(["/bin/true"], check=True),
        "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "kill the parent": lambda: os.kill(parent, signal.SIGTERM),
        "io_uring": lambda: call(425, 1, None),
        "unshare": lambda: call({"x86_64": 272}.get(os.uname().machine, 97), 0x10000000),
        "secret": lambda: Path(secret).read_text(),
        "read": lambda: Path(allowed).read_text(),
        "import": lambda: __import__("xml.dom.minidom"),
        "memfd": lambda: os.ftruncate(os.memfd_create("film"), 1 << 20),
        "large memfd": lambda: os.ftruncate(os.memfd_create("film"), 1 << 33),
        "thread": thread,
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    found: dict[str, object] = {"lacking": confine(2 << 30, parent, [Path(allowed)], landlock=landlock)}
    for name, attempt in attempts.items():
        try:
            attempt()
            found[name] = "done"
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
        except RuntimeError as error:
            found[name] = str(error)
    print(json.dumps(found))
