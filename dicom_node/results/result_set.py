"""Result set: all objects that are written for one report, each validated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.results.document.key_objects import write_kos
from dicom_node.results.encoding.compression import Compression
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import multiframe
from dicom_node.results.image.overlay import Backdrop
from dicom_node.results.image.parametric_map import write_pm
from dicom_node.results.image.presentation_state import write_gsps
from dicom_node.results.image.secondary_capture import backdrop_of, strongest, write_overview, write_sc
from dicom_node.results.image.segmentation import write_seg
from dicom_node.results.report import Finding, FloatArray, Report, Saliency
from dicom_node.results.sr.document import Predecessor, SrClass
from dicom_node.results.sr.findings import Explanation, Explanations, write_sr
from dicom_node.results.sr.similar_cases import write_similar
from dicom_node.results.validation import check_result

_NONE: Final[Mapping[str, Predecessor]] = MappingProxyType({})


def write_results(
    report: Report,
    pixels: Mapping[str, FloatArray],
    *,
    equipment: Equipment,
    objects: Collection[str],
    sr_class: SrClass = "comprehensive3d",
    columns: int = 928,
    compression: Compression = "jpeg",
    overview: bool = False,
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
    compression
        Compression of ``sc``.
    overview
        True to write one ``sc`` of the strongest findings in place of one for each heat map.
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
    drawing = _Drawing(report, pixels, equipment, columns, compression)
    pictures = () if "sc" not in objects else drawing.overview() if overview else drawing.of_each_map()
    for kind, ds in _all_but_key_objects(
        report, pixels, equipment, objects, sr_class, pictures, predecessors
    ):
        check_result(ds)
        written.append(ds)
        yield kind, ds
    if "ko" in objects:
        selection = write_kos(report, written, equipment=equipment)
        check_result(selection)
        yield "ko", selection


@dataclass(frozen=True, slots=True)
class _Picture:
    """Secondary Capture that can be drawn, and the findings that it shows."""

    findings: tuple[Finding, ...]
    draw: Callable[[], Dataset]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """Drawing of a report's Secondary Captures.

    pydicom and highdicom are kept from warning of the film's UIDs, which results repeat as they are.
    """

    report: Report
    pixels: Mapping[str, FloatArray]
    equipment: Equipment
    columns: int
    compression: Compression
    backdrops: dict[tuple[str, str], Backdrop] = field(default_factory=dict)

    def of_each_map(self) -> list[_Picture]:
        """One picture for each heat map, in the order of the findings."""
        return [
            _Picture((finding,), functools.partial(self._map, finding, saliency))
            for finding in self.report.findings
            for saliency in finding.saliency
        ]

    def overview(self) -> list[_Picture]:
        """One picture for all, where there are heat maps."""
        outlined = tuple(finding for finding, _ in strongest(self.report))
        return [_Picture(outlined, self._overview)] if outlined else []

    def _map(self, finding: Finding, saliency: Saliency) -> Dataset:
        pixels = self.pixels[saliency.sop_instance_uid]
        with attributes.tolerance():
            return write_sc(
                self.report,
                finding,
                saliency,
                pixels,
                equipment=self.equipment,
                columns=self.columns,
                backdrop=self._backdrop(saliency, pixels),
                compression=self.compression,
            )

    def _backdrop(self, saliency: Saliency, pixels: FloatArray) -> Backdrop | None:
        source = self.report.source(saliency.sop_instance_uid)
        if source is None:
            return None
        key = (saliency.sop_instance_uid, saliency.method)
        if key not in self.backdrops:
            self.backdrops[key] = backdrop_of(source, saliency, pixels, self.columns)
        return self.backdrops[key]

    def _overview(self) -> Dataset:
        with attributes.tolerance():
            return write_overview(
                self.report,
                self.pixels,
                equipment=self.equipment,
                columns=self.columns,
                compression=self.compression,
            )


def _all_but_key_objects(
    report: Report,
    pixels: Mapping[str, FloatArray],
    equipment: Equipment,
    objects: Collection[str],
    sr_class: SrClass,
    pictures: Sequence[_Picture],
    predecessors: Mapping[str, Predecessor],
) -> Iterator[tuple[str, Dataset]]:
    """Write the pictures before the report of the findings, which names them by the hash of their content."""
    drawn = [picture.draw() for picture in pictures]
    similar = []
    if "similar" in objects and report.similar is not None:
        before = predecessors.get("similar")
        similar.append(write_similar(report, equipment=equipment, sop_class=sr_class, predecessor=before))
    of_films = list(_of_films(report, equipment, objects))
    findings = write_sr(
        report,
        equipment=equipment,
        sop_class=sr_class,
        predecessor=predecessors.get("sr"),
        explanations=_explanations(report, list(zip(pictures, drawn, strict=True)), of_films),
    )
    yield "sr", findings
    yield from (("similar", ds) for ds in similar)
    yield from (("sc", ds) for ds in drawn)
    if "pdf" in objects:
        # ReportLab takes a third of a second to import, which only those who want the document should wait.
        from dicom_node.results.document.pdf import write_pdf  # noqa: PLC0415

        yield "pdf", write_pdf(report, pixels, equipment=equipment)
    yield from of_films


def _of_films(
    report: Report, equipment: Equipment, objects: Collection[str]
) -> Iterator[tuple[str, Dataset]]:
    writers = {"seg": write_seg, "pm": write_pm, "pr": write_gsps}
    for film in multiframe.film_maps(report):
        for kind, write in writers.items():
            if kind not in objects:
                continue
            with attributes.tolerance():
                ds = write(report, film, equipment=equipment)
            if ds is not None:
                yield kind, ds


def _explanations(
    report: Report,
    drawn: Sequence[tuple[_Picture, Dataset]],
    of_films: Sequence[tuple[str, Dataset]],
) -> Explanations:
    """Pictures of each finding: Secondary Captures, else frames of Parametric Maps, else segments."""
    found: dict[str, list[Explanation]] = {}
    if drawn:
        for picture, ds in drawn:
            for finding in picture.findings:
                found.setdefault(finding.key, []).append(Explanation(ds))
        return found
    for kind, part in (("pm", "ReferencedFrameNumber"), ("seg", "ReferencedSegmentNumber")):
        written = [ds for each, ds in of_films if each == kind]
        if written:
            for film, ds in zip(multiframe.film_maps(report), written, strict=True):
                for number, (finding, _) in enumerate(film.maps, 1):
                    found.setdefault(finding.key, []).append(Explanation(ds, {part: number}))
            break
    return found
