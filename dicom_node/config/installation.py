"""Installation: the equipment that results of this node name."""

from __future__ import annotations

import importlib.metadata

from dicom_node.config.settings import Settings
from dicom_node.results.equipment import Equipment
from dicom_node.results.uids import device_uid


def this_installation(settings: Settings) -> Equipment:
    """Return the equipment of this node; manufacturer, station name and AE title identify it."""
    results = settings.results
    return Equipment(
        device_uid=device_uid(f"{results.manufacturer}/{results.station_name}/{settings.dicom.ae_title}"),
        software_version=importlib.metadata.version("dicom-node"),
        manufacturer=results.manufacturer,
        station_name=results.station_name,
    )
