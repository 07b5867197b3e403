"""Record of an analysis for the reading room, which runs no model and parses no Structured Report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_node.config.data_dir import FINDING_CODES
from dicom_node.imaging import attributes
from dicom_node.results.report import Finding, FloatArray, PriorComparison, Report, SimilarCases
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    HeatMapRecord,
    ImageRecord,
    PriorComparisonRecord,
    SimilarCaseRecord,
    SimilarCasesRecord,
)
from dicom_node.store.heatmaps import MAX_SIDE, HeatMap, HeatMaps
from dicom_node.store.study_embeddings import StudyEmbedding
from models.bundles.bundle import CALIBRATION, Bundle
from models.bundles.manifest import CARD, METRICS
from worker.report_builder import METHOD_NAMES
from worker.supplementary_explanations import NO_EXPLANATIONS, SupplementaryExplanations


def make_analysis_record(
    report: Report,
    maps: HeatMaps,
    place: StudyEmbedding | None = None,
    supplement: SupplementaryExplanations = NO_EXPLANATIONS,
) -> AnalysisRecord:
    """Return the record of an analysis; its heat maps have been written when this returns.

    Parameters
    ----------
    report
        Report of the study.
    maps
        Store of the heat maps.
    place
        Embedding of the study; None unless the node's own studies may be searched.
    supplement
        Explanations that no report holds.

    Raises
    ------
    StorageFailed
        If the heat maps cannot be written.
    """
    shown = [
        (HeatMapRecord(finding.key, saliency.sop_instance_uid, saliency.method), saliency.values)
        for finding in report.findings
        for saliency in finding.saliency
    ]
    shown += [
        (HeatMapRecord(heatmap.key, heatmap.film, METHOD_NAMES[heatmap.method]), heatmap.preview)
        for heatmap in supplement.maps
    ]
    algorithm = report.algorithm
    return AnalysisRecord(
        model="" if algorithm is None else algorithm.name,
        model_version="" if algorithm is None else algorithm.version,
        parameters=() if algorithm is None else algorithm.parameters,
        normality=report.normality.value,
        findings=tuple(
            FindingRecord(
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
            ImageRecord(
                source.sop_instance_uid,
                source.view or attributes.text(source.header, "ViewPosition")[:16],
                source.reason,
                source.exclusion,
                source.remarks,
                source.inverted,
            )
            for source in report.sources
        ),
        maps=tuple(entry for entry, _ in shown),
        maps_file=maps.keep([_thumbnail(values) for _, values in shown]),
        similar=None if report.similar is None else _similar(report.similar),
        embedding=place,
        words=supplement.words,
        prior=None if report.prior is None else _prior(report.prior, report.findings),
    )


def copy_model_card(bundle: Bundle, folder: Path) -> None:
    """Copy model card, metrics, calibration and codes of a bundle to the folder that the reading room reads.

    Parameters
    ----------
    bundle
        Bundle whose files are copied.
    folder
        Parent folder; the files go to ``NAME-VERSION`` in it.
    """
    target = folder / f"{bundle.manifest.name}-{bundle.manifest.version}"
    target.mkdir(parents=True, exist_ok=True)
    for name in (CARD, METRICS, CALIBRATION):
        if (bundle.path / name).exists():
            shutil.copyfile(bundle.path / name, target / name)
    listed = {each.key: (each.code.value, each.code.scheme, each.code.meaning) for each in bundle.labels}
    (target / FINDING_CODES).write_text(json.dumps(listed, indent=1), "utf-8")


def _similar(found: SimilarCases) -> SimilarCasesRecord:
    return SimilarCasesRecord(
        index=found.index_name,
        cases=tuple(
            SimilarCaseRecord(
                case.identifier, case.similarity, tuple(name for name, _ in case.labels), case.report
            )
            for case in found.cases
        ),
        agreement=found.agreement,
        disagrees=found.disagrees,
    )


def _prior(prior: PriorComparison, findings: Iterable[Finding]) -> PriorComparisonRecord:
    return PriorComparisonRecord(
        study_instance_uid=prior.study_instance_uid,
        study_date=prior.study_date,
        reason=prior.reason,
        changes=tuple(
            FindingChangeRecord(
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


def _thumbnail(values: FloatArray) -> HeatMap:
    """Reduce a map in [0, 1] to 8 bits, its longer side to at most `LONGER_SIDE` pixels by averaging."""
    picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    scale = MAX_SIDE / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(picture)
