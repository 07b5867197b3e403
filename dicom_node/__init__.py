"""A DICOM node that reads chest radiographs beside a PACS. Research use only, never for diagnosis."""

from typing import Final

MODEL_NAME: Final = "dicom-node"
"""Manufacturer's Model Name (0008,1090) on every result: a received object that bears it is a result."""
