"""Result objects of a report, of every kind."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

from dicom_node.results.report import Report
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from tests.support.factories import chest
from tests.support.reports import EQUIPMENT

KINDS = ("sr", "sc", "similar", "pdf", "ko", "seg", "pr", "pm")


def objects_of(
    report: Report,
    objects: tuple[str, ...] = KINDS,
    predecessors: Mapping[str, Predecessor] | None = None,
) -> list[tuple[str, Dataset]]:
    """Encode a report of drawn films; returns (kind, object) pairs."""
    pixels = {
        source.sop_instance_uid: chest(int(source.header.Rows), int(source.header.Columns))
        for source in report.sources
    }
    return list(
        write_results(
            report, pixels, equipment=EQUIPMENT, objects=objects, columns=64, predecessors=predecessors or {}
        )
    )
