"""Study whose analysis does the worker harm, in a node that runs as its users run it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tests.support.peers import ROOT

_SITE = """
from pathlib import Path

if b"child\\0worker" in Path("/proc/self/cmdline").read_bytes():
    import ctypes, os, resource, signal, time
    from worker.study_reader import StudyReader

    def read(self, study, paths, read=StudyReader.read):
        if study.study_instance_uid == {uid!r}:
            {harm}
        return read(self, study, paths)

    StudyReader.read = read
"""

HARM: Mapping[str, str] = {
    "hangs": "time.sleep(3600)",
    "hangs in C code": "ctypes.PyDLL(None).sleep(3600)",
    "crashes": "ctypes.string_at(0)",
    "exits": "os._exit(1)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "runs out of memory": "resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35)); bytearray(2**36)",
    "fails": "raise RecursionError",
}
"""What the analysis of the study does to its worker -> Python code."""


def poisoned(folder: Path, uid: str, harm: str) -> dict[str, str]:
    """Environment variables of a node whose worker comes to harm when it reads one study.

    Parameters
    ----------
    folder
        Empty folder.
    uid
        Study Instance UID.
    harm
        One of :data:`HARM`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = textwrap.dedent(_SITE).format(uid=uid, harm=HARM[harm])
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
