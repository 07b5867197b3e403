"""Heat maps of one film, each with the answer that it explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.analysis.films import named_film
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.analysis.packages import packages_of
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from dicom_node.analysis.bundle import LoadedBundle
    from models.bundles.predictor import Predictor, TracedPrediction
    from models.gate.model import Gate
    from models.processing.types import Film, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Heat map: where a model looked for one finding on one film, not where disease is.

    Attributes
    ----------
    finding, name
        Key and name of the label.
    method
        Name of the method, such as ``gradcam``.
    values
        Shape of the film (rows, columns), float32 in [0, 1]; two maps cannot be compared by their values.
    score, certainty, threshold
        Answer of the model: score and threshold in [0, 1]; certainty None without a calibration.
    above
        Whether certainty, or score without one, reaches the threshold.
    withheld
        Reason why the node would not send the map, as one clause; empty when it would.
    """

    finding: str
    name: str
    method: str
    values: FloatArray
    score: float
    certainty: float | None
    threshold: float
    above: bool
    withheld: str


def gate_view(gate: Gate | None, film: Film) -> str:
    """Return the view that the gate sees; empty without a gate.

    Raises
    ------
    NodeError
        If the gate refuses the film.
    """
    from worker.report_builder import gate_eligibility

    if gate is None:
        return ""
    (verdict,) = gate.judge([film])
    if verdict.reason is not None:
        raise NodeError(f"film {film.identifier} is not explained: {gate_eligibility(verdict).text}")
    return verdict.view


def check_choice(predictor: Predictor, method: str, findings: Sequence[str], *, prefix: str = "") -> None:
    """Check that a bundle has a method and findings.

    Parameters
    ----------
    prefix
        Characters in front of ``method`` and ``finding`` in the sentence, such as ``--``.

    Raises
    ------
    ConfigurationError
        If it does not.
    """
    from models.explain.methods import objection

    if reason := objection(predictor, method):
        raise ConfigurationError(f"{prefix}method {method}: {reason}")
    known = [label.key for label in predictor.labels]
    for key in findings:
        if key not in known:
            raise ConfigurationError(
                f"{prefix}finding {key}: bundle {predictor.identity.name} has {', '.join(known)}"
            )


def heat_maps_of(
    predictor: Predictor, reading: TracedPrediction, keys: Sequence[str], method: str, view: str
) -> list[HeatMap]:
    """Draw heat maps of findings on the one film of a prediction.

    Parameters
    ----------
    keys
        Keys of the findings.
    view
        View of the film, as the gate sees it.

    Raises
    ------
    models.errors.ModelError
        If the method does not suit the bundle.
    """
    from models.explain.methods import draw_heatmaps
    from models.processing.map_check import region_of

    region = region_of(reading.study.films[0].pixels, view)
    answers = {entry.key: entry for entry in reading.prediction.findings}
    names = {label.key: label.name for label in predictor.labels}
    return [
        HeatMap(
            finding=each.key,
            name=names[each.key],
            method=each.method,
            values=each.values,
            score=answers[each.key].score,
            certainty=answers[each.key].probability,
            threshold=answers[each.key].threshold,
            above=answers[each.key].present,
            withheld=predictor.bundle.map_check.objection(each.preview, region, view),
        )
        for each in draw_heatmaps(predictor, reading, keys, method=method)
    ]


@packages_of("explain")
def draw_heat_maps(
    bundle: LoadedBundle,
    film: str | Path | Any,
    findings: Sequence[str] | None = None,
    *,
    method: str | None = None,
) -> list[HeatMap]:
    """Draw heat maps of one film.

    Parameters
    ----------
    bundle
        Bundle that reads.
    film
        DICOM or image file, or an array of shape (rows, columns) in [0, 1], lungs dark.
    findings
        Keys of labels; the findings that are above their thresholds if absent.
    method
        ``gradcam``, ``attention``, ``ig`` or ``occlusion``; the bundle's own if absent.

    Returns
    -------
    list of HeatMap
        One for each finding, the most certain first unless they are named.

    Raises
    ------
    ConfigurationError
        If the bundle has no such finding or method, or there is no such file.
    NodeError
        If the film cannot be read, or the gate refuses it.
    """
    from models.explain.targets import reported_findings
    from models.processing.types import Study

    with translated_model_errors():
        name = method or bundle.predictor.explanation
        check_choice(bundle.predictor, name, findings or ())
        given = named_film(film)
        view = gate_view(bundle.gate, given)
        (reading,) = bundle.predictor.trace([Study((given,))])
        limit = bundle.settings.results.saliency_limit
        keys = tuple(findings or reported_findings(reading.prediction, limit))
        return heat_maps_of(bundle.predictor, reading, keys, name, view)
