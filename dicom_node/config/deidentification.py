"""Section of the settings for de-identification."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dicom_node.config.sections import Section


class DeidentificationSettings(Section):
    """Settings of what leaves for people: `dicom-node deidentify`, and downloads from the page."""

    downloads: bool = Field(
        False, description="de-identify the DICOM files that the page and DICOMweb hand out whole"
    )
    retain: tuple[Literal["uids", "dates", "device", "patient", "institution"], ...] = Field(
        (), description="options of PS3.15 E.3: uids, dates, device, patient, institution"
    )
    unknown_pictures: Literal["refuse", "keep"] = Field(
        "refuse", description="pictures that do not say whether text is burned in: refuse or keep"
    )
    secret: Path | None = Field(
        None,
        description="file of the site's secret; absent: deidentification.key in data_dir, made when needed",
    )
