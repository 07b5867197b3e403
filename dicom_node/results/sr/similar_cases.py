"""Similar cases of a reference set as a structured report of its own (TID 1500, PS3.16).

The cases are named by their identifiers in a public collection. Nothing refers to their SOP instances: an
SR's references are for the patient's own objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import Algorithm, Code, Report, SimilarCase, SimilarCases
from dicom_node.results.sr import content_items, document
from dicom_node.results.sr.content_items import CONTAINS, HAS_OBS_CONTEXT, HAS_PROPERTIES
from dicom_node.results.sr.document import Predecessor, SrClass

SERIES_NUMBER: Final = 9907
SERIES_DESCRIPTION: Final = f"AI similar cases - {codes.RESEARCH_USE_ONLY}"


def write_similar(
    report: Report,
    *,
    equipment: Equipment,
    sop_class: SrClass = "comprehensive3d",
    predecessor: Predecessor | None = None,
) -> Dataset:
    """Write the similar cases of a report; parameters as of :func:`dicom_node.results.sr.findings.write_sr`.

    Each case has a measurement group with rank, similarity and the findings of its reference; one more says
    how far the cases agree with the model.

    Raises
    ------
    EncodingFailed
        When the report has no similar cases, or a value cannot be written.
    """
    if report.similar is None:
        raise EncodingFailed("the report holds no similar cases to write")
    ds = document.begin(
        report,
        equipment,
        kind="similar",
        sop_class=sop_class,
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        predecessor=predecessor,
    )
    children = [
        *document.observation_context(report, document.device_observer(equipment)),
        _measurements(report, report.similar, equipment),
        document.evaluations([]),
    ]
    ds.update(content_items.container(None, codes.IMAGING_MEASUREMENT_REPORT, children, template="1500"))
    return composite.finish_result(ds, report, kind="similar", key=sop_class)


def _measurements(report: Report, similar: SimilarCases, equipment: Equipment) -> Dataset:
    encoder = similar.algorithm
    index = (f"index={similar.index_name}", f"index_sha256={similar.index_digest}")
    algorithm = Algorithm(encoder.name, encoder.version, (*encoder.parameters, *index))
    measured_in = [
        content_items.image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, item)
        for _, item in document.analysed_sources(report.sources)
    ]
    moment = document.observation_moment(report)
    groups = [*(_case(report, similar, case) for case in similar.cases), _agreement(report, similar)]
    children = [
        *document.algorithm_identification(algorithm, equipment),
        *(document.measurement_group(moment, [*content, *measured_in], "1501") for content in groups),
    ]
    return content_items.container(CONTAINS, codes.IMAGING_MEASUREMENTS, children)


def _case(report: Report, similar: SimilarCases, case: SimilarCase) -> list[Dataset]:
    content = [
        content_items.num(CONTAINS, codes.RANK, str(case.rank), codes.NO_UNITS),
        content_items.num(CONTAINS, codes.COSINE_SIMILARITY, f"{case.similarity:.6g}", codes.NO_UNITS),
    ]
    for name, code in case.labels:
        # Two labels may share a code; the name tells them apart.
        label = [content_items.fixed_text(HAS_PROPERTIES, codes.LABEL_NAME, name)]
        content.append(content_items.code(CONTAINS, codes.REFERENCE_FINDING, code, label))
    return _group(
        report, similar, f"{case.identifier} rank {case.rank}", case.identifier, codes.SIMILAR_CASE, content
    )


def _agreement(report: Report, similar: SimilarCases) -> list[Dataset]:
    content = [
        content_items.num(CONTAINS, codes.AGREEMENT, f"{similar.agreement:.6g}", codes.NO_UNITS),
        content_items.code(CONTAINS, codes.DISAGREES, codes.YES if similar.disagrees else codes.NO),
    ]
    return _group(report, similar, similar.index_name, similar.index_name, codes.SIMILAR_CASES, content)


def _group(
    report: Report,
    similar: SimilarCases,
    identifier: str,
    key: str,
    finding: Code,
    content: Sequence[Dataset],
) -> list[Dataset]:
    """Content of a measurement group of TID 1501, but for the images of the measurement."""
    tracking = uids.tracking_uid(report.study_instance_uid, similar.algorithm.name, f"similar/{key}")
    return [
        content_items.text(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, identifier),
        content_items.uidref(HAS_OBS_CONTEXT, codes.TRACKING_UID, tracking),
        content_items.code(CONTAINS, codes.FINDING, finding),
        *content,
    ]
