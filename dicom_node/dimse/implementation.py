"""Implementation of DICOM, as it is named in associations and in file meta information (PS3.7 D.3.3.2)."""

from __future__ import annotations

from importlib.metadata import version

from pydicom.uid import UID

IMPLEMENTATION_CLASS_UID = UID("2.25.182061352263117467330318443276325401967")
"""Implementation class UID."""
IMPLEMENTATION_VERSION_NAME = f"DICOMNODE_{version('dicom-node')}"[:16]
"""Implementation version name, at most 16 characters."""
