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
from dicom_node.results.report import Finding, FloatArray, PriorComparison, SimilarCases
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
from models.bundles.bundle import CALIBRATION, Bundle
from models.bundles.manifest import CARD, METRICS
from models.remote.predictor import RemotePredictor
from worker.model_reader import ModelAnalysis
from worker.report_builder import METHOD_NAMES


def make_analysis_record(analysis: ModelAnalysis, maps: HeatMaps) -> AnalysisRecord:
    """Return the record of an analysis; its heat maps have been written when this returns.

    Parameters
    ----------
    analysis
        Answer of one model.
    maps
        Store of the heat maps.

    Raises
    ------
    StorageFailed
        If the heat maps cannot be written.
    """
    report, supplement = analysis.report, analysis.supplement
    shown = [
        (HeatMapRecord(finding.key, saliency.sop_instance_uid, saliency.method), saliency.values)
        for finding in report.findings
        for saliency in finding.saliency
    ]
    shown += [
        (HeatMapRecord(heatmap.key, heatmap.film, METHOD_NAMES[heatmap.method]), heatmap.preview)
        for heatmap in supplement.maps
    ]
    shown += [
        (HeatMapRecord(heatmap.key, heatmap.film, METHOD_NAMES[heatmap.method]), heatmap.grid)
        for heatmap in supplement.others
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
                source.orientation.turns,
                source.orientation.mirrored,
            )
            for source in report.sources
        ),
        maps=tuple(entry for entry, _ in shown),
        maps_file=maps.keep([_thumbnail(values) for _, values in shown]),
        similar=None if report.similar is None else _similar(report.similar),
        embedding=analysis.place,
        words=supplement.words,
        prior=None if report.prior is None else _prior(report.prior, report.findings),
        role=analysis.role.value,
        seconds=analysis.seconds,
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


def write_remote_card(model: RemotePredictor, folder: Path) -> None:
    """Write a card of what a remote model says of itself to the folder that the reading room reads.

    Parameters
    ----------
    model
        Model that has described itself.
    folder
        Parent folder; the card goes to ``NAME-VERSION`` in it.
    """
    identity = model.identity
    target = folder / f"{identity.name}-{identity.version}"
    target.mkdir(parents=True, exist_ok=True)
    rows = [
        f"| {each.label.name} | {each.threshold:g} | {'certainty' if each.calibrated else 'score'} |"
        for each in model.description.labels
    ]
    text = [
        f"# {identity.name} {identity.version}",
        "",
        f"Remote model at `{model.url}`. **RESEARCH USE ONLY.** This node knows only what it says of itself.",
        f"The digest of its weights is `{identity.weights_sha256}`.",
        "",
        "| finding | threshold | it gives a |",
        "|---|---:|---|",
        *rows,
    ]
    (target / CARD).write_text("\n".join(text) + "\n", encoding="utf-8")


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
