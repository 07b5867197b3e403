"""Reports for the tests of the result writers."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.imaging.grayscale import GreyTransform
from dicom_node.imaging.pixels import is_inverted
from dicom_node.imaging.voi import VoiWindow, read_windows
from dicom_node.results import uids
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import (
    Algorithm,
    Change,
    Code,
    Finding,
    Presence,
    PriorAnswer,
    PriorComparison,
    Refusal,
    Report,
    Saliency,
    SimilarCase,
    SimilarCases,
    Source,
)
from tests.support.factories import header

CREATED = dt.datetime(2024, 3, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
EQUIPMENT = Equipment(device_uid=uids.device_uid("tests"), software_version="0.1.0")
ALGORITHM = Algorithm(
    "openi-findings", "1.0.0", (f"weights_sha256={'a' * 64}", "preproc=0f3c", "calibration=77aa")
)

CARDIOMEGALY = Code("8186001", "SCT", "Cardiomegaly")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
GRANULOMA = Code("45647009", "SCT", "Granuloma")
CALCIFIED = Code("CALCIFIED", "99CXRNODE", "Calcified")
LUNG = Code("39607008", "SCT", "Lung")


def heat(rows: int, columns: int, *, row: float = 0.6, column: float = 0.4, width: float = 0.1) -> np.ndarray:
    """Draw a heat map with one round spot; its centre and width are fractions of the film."""
    y, x = np.mgrid[:rows, :columns]
    squared = ((y / rows - row) ** 2 + (x / columns - column) ** 2) / (2 * width**2)
    return np.exp(-squared).astype(np.float32)


def finding(
    key: str = "cardiomegaly",
    name: str = "Cardiomegaly",
    *,
    code: Code = CARDIOMEGALY,
    site: Code | None = None,
    certainty: float | None = 0.8123456,
    interval: tuple[float, float] | None = None,
    score: float = 0.7,
    threshold: float = 0.5,
    presence: Presence = Presence.PRESENT,
    saliency: Sequence[Saliency] = (),
    qualifier: Code | None = None,
    withheld: str = "",
    earlier: PriorAnswer | None = None,
) -> Finding:
    """Make a finding."""
    return Finding(
        key,
        name,
        code,
        site,
        certainty,
        score,
        threshold,
        presence,
        tuple(saliency),
        qualifier,
        withheld,
        earlier,
        interval,
    )


def saliency_of(ds: Dataset, **kwargs: float) -> Saliency:
    """Make the heat map of a film, see :func:`heat`."""
    return Saliency(str(ds.SOPInstanceUID), heat(ds.Rows, ds.Columns, **kwargs), "Grad-CAM")


def grey_of(ds: Dataset) -> GreyTransform:
    """Grey transform by the header alone: its first window, else every value that its bits can hold."""
    bits = int(next(iter(attributes.numbers(ds, "BitsStored")), 12))
    middle = 0 if attributes.numbers(ds, "PixelRepresentation")[:1] == [1] else 1 << (bits - 1)
    window = next(read_windows(ds), VoiWindow(middle, 1 << bits))
    return GreyTransform(window, is_inverted(ds))


SIMILAR = SimilarCases(
    index_name="openi-train",
    index_digest="b" * 64,
    algorithm=Algorithm("openi-findings", "1.0.0", (f"weights_sha256={'a' * 64}",)),
    cases=(
        SimilarCase(1, "openi:CXR1234", 0.91234567, (("Cardiomegaly", CARDIOMEGALY),)),
        SimilarCase(2, "openi:CXR77", 0.85, (("Calcified Granuloma", GRANULOMA), ("Granuloma", GRANULOMA))),
        SimilarCase(3, "openi:CXR9", -0.1, ()),
    ),
    agreement=2 / 3,
    disagrees=False,
)


def report_of(
    *films: Dataset,
    findings: Sequence[Finding] | None = None,
    refusal: Refusal | None = None,
    excluded: Sequence[tuple[Dataset, str]] = (),
    revision: int = 1,
    normality: Presence = Presence.ABSENT,
    created: dt.datetime = CREATED,
    similar: SimilarCases | None = None,
    grey: GreyTransform | None = None,
) -> Report:
    """Make a report: one present finding with a heat map, one absent, one without calibration.

    Parameters
    ----------
    grey
        Transform by which the model saw the films; that of :func:`grey_of` when None.
    """
    if findings is None and refusal is None:
        findings = (
            finding(saliency=[saliency_of(films[0])], interval=(0.7, 0.9)),
            finding(
                "pleural_effusion", "Pleural Effusion", code=EFFUSION, certainty=0.1, presence=Presence.ABSENT
            ),
            finding(
                "calcified_granuloma",
                "Calcified Granuloma",
                code=GRANULOMA,
                site=LUNG,
                certainty=None,
                score=0.31,
                presence=Presence.UNDETERMINED,
                qualifier=CALCIFIED,
            ),
        )
    sources = [Source(header(ds), grey=grey or grey_of(ds)) for ds in films]
    sources += [Source(header(ds), analysed=False, exclusion=why) for ds, why in excluded]
    study = str(sources[0].header.get("StudyInstanceUID") or uids.derived_uid("study"))
    return Report(
        study_instance_uid=study,
        revision=revision,
        created=created,
        sources=tuple(sources),
        algorithm=ALGORITHM if findings else None,
        findings=tuple(findings or ()),
        normality=normality,
        refusal=refusal,
        similar=similar,
    )


def compared(report: Report, *films: Dataset) -> Report:
    """Add a prior to a report: one new finding, one resolved, one unchanged without calibration."""
    earlier = (
        PriorAnswer(0.05, 0.1, Presence.ABSENT, Change.NEW),
        PriorAnswer(0.9, 0.8, Presence.PRESENT, Change.GONE),
        PriorAnswer(None, 0.33, Presence.PRESENT, Change.UNCHANGED),
    )
    return dataclasses.replace(
        report,
        findings=tuple(
            dataclasses.replace(entry, earlier=then)
            for entry, then in zip(report.findings, earlier, strict=True)
        ),
        prior=PriorComparison(tuple(Source(header(ds)) for ds in films)),
    )
