"""Result objects of a report, of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.results.encoding.compression import Compression
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.report import Report
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, report_of

KINDS = ("sr", "sc", "similar", "pdf", "ko", "seg", "pr", "pm")


def objects_of(
    report: Report,
    objects: tuple[str, ...] = KINDS,
    predecessors: Mapping[str, Predecessor] | None = None,
    *,
    overview: bool = False,
) -> list[tuple[str, Dataset]]:
    """Encode a report of drawn films; returns (kind, object) pairs."""
    pixels = {
        source.sop_instance_uid: chest(int(source.header.Rows), int(source.header.Columns))
        for source in report.sources
    }
    return list(
        write_results(
            report,
            pixels,
            equipment=EQUIPMENT,
            objects=objects,
            columns=64,
            overview=overview,
            predecessors=predecessors or {},
        )
    )


def write_picture(folder: Path, compression: Compression) -> Path:
    """Write a Secondary Capture of a drawn film; returns its file."""
    report = report_of(film(rows=96, columns=80))
    shown = report.findings[0]
    ds = write_sc(
        report,
        shown,
        shown.saliency[0],
        chest(96, 80),
        equipment=EQUIPMENT,
        columns=64,
        compression=compression,
    )
    path = folder / f"{compression}.dcm"
    path.write_bytes(encoded(ds))
    return path
