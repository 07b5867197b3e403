"""Library that makes fsync fail, for processes that are started with it (``LD_PRELOAD``)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096];
    const char *part = getenv("FAILING_FSYNC_PART"), *flag = getenv("FAILING_FSYNC_FLAG");
    if (!part || !flag || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

#define WRAP(name)                                                  \
    int name(int fd) {                                              \
        static int (*real)(int);                                    \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name);    \
        if (fails(fd)) { errno = ERROR_OF_THE_DISK; return -1; }    \
        return real(fd);                                            \
    }
WRAP(fsync)
WRAP(fdatasync)
"""


class FailingFsync:
    """Library whose fsync fails for some files, as long as its flag is there.

    Attributes
    ----------
    environment
        Variables for the processes that are to fail.
    """

    def __init__(self, folder: Path, part: str, error: str) -> None:
        library = folder / "failing_fsync.so"
        source = folder / "failing_fsync.c"
        source.write_text(SOURCE)
        compiler = compiler_path()
        assert compiler is not None
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-DERROR_OF_THE_DISK={error}", "-o", library, source, "-ldl"],
            check=True,
            timeout=60,
        )
        self._flag = folder / "fsync-fails"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_FSYNC_PART": part,
            "FAILING_FSYNC_FLAG": str(self._flag),
        }

    def begin(self) -> None:
        """Let fsync fail from now on."""
        self._flag.touch()

    def end(self) -> None:
        """Let fsync work again."""
        self._flag.unlink()


def compiler_path() -> str | None:
    """Path of a C compiler; None when there is none."""
    return shutil.which("cc") or shutil.which("gcc")
