"""Equipment that writes the results: General Equipment module, device observer (PS3.3 C.7.5.1, TID 1004)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Equipment:
    """One installation of the node.

    Attributes
    ----------
    device_uid
        UID of the installation, from :func:`dicom_node.results.uids.device_uid`.
    software_version
        Version of this package.
    manufacturer
        Manufacturer, who answers for it.
    station_name
        At most 16 characters.
    """

    device_uid: str
    software_version: str
    manufacturer: str = "dicom-node"
    station_name: str = "DICOM_NODE"

    def __post_init__(self) -> None:
        if not (self.device_uid and self.software_version and self.manufacturer):
            raise ValueError("equipment needs a device UID, a software version and a manufacturer")

    @property
    def serial_number(self) -> str:
        """Device Serial Number: 16 hexadecimal digits that follow from the device UID."""
        return hashlib.sha256(self.device_uid.encode()).hexdigest()[:16].upper()
