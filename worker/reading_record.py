"""Report to what the reading room keeps of it: the page runs no model and reads no SR back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_node.imaging import attributes
from dicom_node.results.report import Finding, FloatArray, Prior, Report, SimilarCases
from dicom_node.store.analysis_records import (
    KeptCase,
    KeptChange,
    KeptFinding,
    KeptImage,
    KeptMap,
    KeptPrior,
    KeptReading,
    KeptSimilar,
)
from dicom_node.store.heatmaps import LONGER_SIDE, HeatMaps, Map
from dicom_node.store.study_embeddings import KeptPlace
from models.bundles.bundle import CALIBRATION, Bundle
from models.bundles.manifest import CARD, METRICS
from worker.report_builder import METHODS
from worker.supplementary_explanations import NOTHING, Elaboration


def kept(
    report: Report,
    maps: HeatMaps,
    place: KeptPlace | None = None,
    elaboration: Elaboration = NOTHING,
) -> KeptReading:
    """Return what is kept of a report, and of what none holds; its heat maps are on disk when this returns.

    Raises
    ------
    StorageFailed
        When they cannot be written.
    """
    shown = [
        (KeptMap(finding.key, saliency.sop_instance_uid, saliency.method), saliency.values)
        for finding in report.findings
        for saliency in finding.saliency
    ]
    shown += [(KeptMap(one.key, one.film, METHODS[one.method]), one.looked_at) for one in elaboration.maps]
    algorithm = report.algorithm
    return KeptReading(
        model="" if algorithm is None else algorithm.name,
        model_version="" if algorithm is None else algorithm.version,
        parameters=() if algorithm is None else algorithm.parameters,
        normality=report.normality.value,
        findings=tuple(
            KeptFinding(
                key=entry.key,
                name=entry.name,
                certainty=entry.certainty,
                score=entry.score,
                threshold=entry.threshold,
                presence=entry.presence.value,
                low=None if entry.interval is None else entry.interval[0],
                high=None if entry.interval is None else entry.interval[1],
            )
            for entry in report.findings
        ),
        images=tuple(
            KeptImage(
                source.sop_instance_uid,
                source.view or attributes.text(source.header, "ViewPosition")[:16],
                source.reason,
                source.exclusion,
            )
            for source in report.sources
        ),
        maps=tuple(entry for entry, _ in shown),
        maps_file=maps.keep([_small(values) for _, values in shown]),
        similar=None if report.similar is None else _similar(report.similar),
        place=place,
        words=elaboration.words,
        prior=None if report.prior is None else _prior(report.prior, report.findings),
    )


def keep_card(bundle: Bundle, folder: Path) -> None:
    """Copy the model card and the figures of a bundle to where the page finds them.

    Parameters
    ----------
    folder
        Gets a folder of its own for each bundle, named by name and version.
    """
    target = folder / f"{bundle.manifest.name}-{bundle.manifest.version}"
    target.mkdir(parents=True, exist_ok=True)
    for name in (CARD, METRICS, CALIBRATION):
        if (bundle.path / name).exists():
            shutil.copyfile(bundle.path / name, target / name)


def _similar(found: SimilarCases) -> KeptSimilar:
    return KeptSimilar(
        index=found.index_name,
        cases=tuple(
            KeptCase(case.identifier, case.similarity, tuple(name for name, _ in case.labels), case.report)
            for case in found.cases
        ),
        agreement=found.agreement,
        disagrees=found.disagrees,
    )


def _prior(prior: Prior, findings: Iterable[Finding]) -> KeptPrior:
    return KeptPrior(
        study_instance_uid=prior.study_instance_uid,
        study_date=prior.study_date,
        reason=prior.reason,
        changes=tuple(
            KeptChange(
                key=finding.key,
                certainty=earlier.certainty,
                score=earlier.score,
                presence=earlier.presence.value,
                change=earlier.change.value,
            )
            for finding in findings
            if (earlier := finding.earlier) is not None
        ),
    )


def _small(values: FloatArray) -> Map:
    """8 bits, the longer side at most `LONGER_SIDE`; what is made smaller is averaged."""
    picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    scale = LONGER_SIDE / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(picture)
