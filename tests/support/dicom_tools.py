"""Programs of DCMTK and dicom3tools."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread


def storescu(
    port: int, paths: Sequence[Path], called: str = "DICOM_NODE"
) -> subprocess.CompletedProcess[str]:
    """Send files with DCMTK's storescu, each in its own transfer syntax."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        syntax = dcmread(path, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID", "")
        groups.setdefault(_PROPOSE.get(str(syntax), ""), []).append(str(path))
    code, output = 0, ""
    for option, group in groups.items():
        options = [option] if option else []
        argv = ["storescu", "-v", *options, "-aec", called, "127.0.0.1", str(port), *group]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        code, output = max(code, done.returncode), output + done.stdout + done.stderr
    return subprocess.CompletedProcess(["storescu"], code, output, "")


_PROPOSE = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.5": "-xr",
}
