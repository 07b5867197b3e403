"""Result set: all objects that are written for one report, each validated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.results.document.key_objects import write_kos
from dicom_node.results.document.pdf import write_pdf
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import multiframe
from dicom_node.results.image.parametric_map import write_pm
from dicom_node.results.image.presentation_state import write_gsps
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.image.segmentation import write_seg
from dicom_node.results.report import Finding, FloatArray, Report, Saliency
from dicom_node.results.sr.document import Predecessor, SrClass
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.sr.similar_cases import write_similar
from dicom_node.results.validation import check_result

_DRAWING_THREADS: Final = 2
_NONE: Final[Mapping[str, Predecessor]] = MappingProxyType({})


def write_results(
    report: Report,
    pixels: Mapping[str, FloatArray],
    *,
    equipment: Equipment,
    objects: Collection[str],
    sr_class: SrClass = "comprehensive3d",
    columns: int = 1024,
    predecessors: Mapping[str, Predecessor] = _NONE,
) -> Iterator[tuple[str, Dataset]]:
    """Write a report as the objects that are asked for.

    Parameters
    ----------
    pixels
        SOP Instance UID -> film of shape (Rows, Columns), float32 in [0, 1], lungs dark.
    objects
        Kinds, such as ``sc``; ``sr`` is always written.
    sr_class
        SOP Class of both structured reports.
    columns
        Greatest length of the longer side of a panel of ``sc``, in pixels.
    predecessors
        Reports of earlier revisions, by kind (``sr``, ``similar``).

    Yields
    ------
    tuple
        Kind and data set, the findings first and the key objects, which refer to all others, last.

    Raises
    ------
    EncodingFailed
        When an object cannot be written, or fails its check.
    """
    written = []
    for kind, ds in chain(
        _reports(report, pixels, equipment, objects, sr_class, columns, predecessors),
        _others(report, pixels, equipment, objects),
    ):
        check_result(ds)
        written.append(ds)
        yield kind, ds
    if "ko" in objects:
        selection = write_kos(report, written, equipment=equipment)
        check_result(selection)
        yield "ko", selection


def _reports(
    report: Report,
    pixels: Mapping[str, FloatArray],
    equipment: Equipment,
    objects: Collection[str],
    sr_class: SrClass,
    columns: int,
    predecessors: Mapping[str, Predecessor],
) -> Iterator[tuple[str, Dataset]]:
    """Write both reports and the pictures.

    pydicom and highdicom are kept from warning of the film's UIDs, which results repeat as they are.
    """

    def picture(shown: tuple[Finding, Saliency]) -> Dataset:
        finding, saliency = shown
        film = pixels[saliency.sop_instance_uid]
        with attributes.tolerance():
            return write_sc(report, finding, saliency, film, equipment=equipment, columns=columns)

    shown = [(finding, saliency) for finding in report.findings for saliency in finding.saliency]
    # Drawing spends its time in Pillow and NumPy, which let other threads run: the report, for one.
    with ThreadPoolExecutor(_DRAWING_THREADS) as pool:
        pictures = pool.map(picture, shown if "sc" in objects else ())
        writers = {"sr": write_sr}
        if "similar" in objects and report.similar is not None:
            writers["similar"] = write_similar
        for kind, write in writers.items():
            before = predecessors.get(kind)
            yield kind, write(report, equipment=equipment, sop_class=sr_class, predecessor=before)
        yield from (("sc", ds) for ds in pictures)


def _others(
    report: Report, pixels: Mapping[str, FloatArray], equipment: Equipment, objects: Collection[str]
) -> Iterator[tuple[str, Dataset]]:
    if "pdf" in objects:
        yield "pdf", write_pdf(report, pixels, equipment=equipment)
    writers = {"seg": write_seg, "pm": write_pm, "pr": write_gsps}
    for film in multiframe.film_maps(report):
        for kind, write in writers.items():
            if kind not in objects:
                continue
            with attributes.tolerance():
                ds = write(report, film, equipment=equipment)
            if ds is not None:
                yield kind, ds
