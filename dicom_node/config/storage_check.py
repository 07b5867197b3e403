"""Section of the settings for the checks of what is stored."""

from __future__ import annotations

from pydantic import Field

from dicom_node.config.sections import Section


class StorageCheckSettings(Section):
    """Checks of what is stored: files are read and compared with their hashes."""

    files_per_day: int = Field(
        500, ge=0, description="stored files to read and compare with their hashes each day; 0: none"
    )
