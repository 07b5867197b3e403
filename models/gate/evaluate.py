"""Error rates of the gate: chest films that it refuses, other pictures that it accepts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from models.bundles.manifest import WEIGHTS
from models.data.dataset import FilmDataset, LabelledStudy
from models.gate.augmentation import corner, invert, turn, vary
from models.gate.model import Gate, GateResult, RefusalReason
from models.gate.negatives import Negatives
from models.gate.synthetic_negatives import HELD_OUT, draw
from models.processing.types import Film, FloatArray

#: Of each family of drawings that the gate was not fitted to.
DRAWINGS = 50
#: Of one film in so many a corner is shown.
_CORNERS = 4
_AT_ONCE = 16
#: Of every change of the films; fixed, so that the same gate and films give the same figures.
_SEED = 1
_Z = 1.959964


def measure_gate(
    gate: Gate,
    datasets: Iterable[FilmDataset],
    negatives: Negatives | None,
    *,
    split: str = "test",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Measure a gate.

    Parameters
    ----------
    datasets
        Chest films.
    negatives
        Sources that the gate was not fitted to; None for drawings and corners alone.
    split
        Split of the data sets.
    progress
        Called with films read and films in all, for each data set.

    Returns
    -------
    dict
        ``gate``, ``weights_sha256``, ``split``; ``films`` by data set: the share of them that is kept as they
        are and varied, found when inverted and when turned, the accuracy of the view, that of the mirror
        answer for frontal films, and the reasons of refusals; ``others`` by source and ``others_in_all``: the
        share that is refused, and why. A share is
        a table of ``n``, ``share`` and its 95 % interval (Wilson 1927), ``low`` and ``high``.

    Raises
    ------
    ModelError
        If there is no such split, or a picture cannot be read.
    """
    films: dict[str, Any] = {}
    others: dict[str, list[GateResult]] = {}
    for dataset in datasets:
        studies = dataset.split(split)
        films[dataset.name] = _films(gate, studies, progress)
        others[f"corners of {dataset.name}"] = _judge(gate, _corners(studies))
    for family, drawing in HELD_OUT.items():
        others[f"drawn: {family}"] = _judge(gate, draw({family: drawing}, DRAWINGS, seed=_SEED))
    if negatives is not None:
        for source, files in negatives.sources.items():
            pictures = (picture for _, picture in Negatives({source: files}).load())
            others[source] = _judge(gate, pictures)
    everything = [verdict for verdicts in others.values() for verdict in verdicts]
    return {
        "gate": f"{gate.manifest.name} {gate.manifest.version}",
        "weights_sha256": gate.hashes[WEIGHTS],
        "split": split,
        "films": films,
        "others": {source: _refusals(verdicts) for source, verdicts in others.items()},
        "others_in_all": _refusals(everything),
    }


def _films(
    gate: Gate, studies: tuple[LabelledStudy, ...], progress: Callable[[int, int], None]
) -> dict[str, Any]:
    generator = np.random.default_rng(_SEED)
    listed = [(path, view, study.read) for study in studies for path, view in study.films_with_views()]
    right = views = 0
    unmirrored: list[bool] = []
    reasons: Counter[str] = Counter()
    found: dict[str, list[bool]] = {name: [] for name in ("kept", "kept_varied", "inverted", "rotated")}
    for number, (path, view, read) in enumerate(listed):
        film = read(path)
        variants = (
            film,
            vary(film, generator),
            invert(film),
            turn(film, 1 + number % 3),
        )
        plain, varied, inverted, turned = gate.judge([Film(path.name, variant) for variant in variants])
        if view:
            views += 1
            right += plain.view == view
        if view == "frontal" and (scores := gate.mirrored_scores([film])) is not None:
            unmirrored.append(scores[0] < 0.5)  # noqa: PLR2004 - the likelier of two
        if plain.reason is not None:
            reasons[str(plain.reason)] += 1
        found["kept"].append(plain.reason is None)
        found["kept_varied"].append(varied.reason is None)
        found["inverted"].append(inverted.reason is RefusalReason.INVERTED)
        found["rotated"].append(turned.reason is RefusalReason.ROTATED)
        progress(number + 1, len(listed))
    shares = {name: share(sum(hits), len(hits)) for name, hits in found.items()}
    shares["view"] = share(right, views)
    shares["mirrored"] = share(sum(unmirrored), len(unmirrored))
    return {**shares, "refused_for": dict(sorted(reasons.items()))}


def _corners(studies: tuple[LabelledStudy, ...]) -> Iterator[FloatArray]:
    generator = np.random.default_rng(_SEED)
    for number, study in enumerate(studies):
        if number % _CORNERS == 0:
            yield corner(study.read(study.films[0]), generator)


def _judge(gate: Gate, pictures: Iterable[FloatArray]) -> list[GateResult]:
    verdicts: list[GateResult] = []
    waiting: list[Film] = []
    for picture in pictures:
        waiting.append(Film(str(len(verdicts) + len(waiting)), picture))
        if len(waiting) == _AT_ONCE:
            verdicts += gate.judge(waiting)
            waiting.clear()
    return verdicts + gate.judge(waiting)


def _refusals(verdicts: list[GateResult]) -> dict[str, Any]:
    reasons = Counter(str(verdict.reason) for verdict in verdicts if verdict.reason is not None)
    return {
        "refused": share(reasons.total(), len(verdicts)),
        "refused_for": dict(sorted(reasons.items())),
    }


def share(hits: int, n: int) -> dict[str, float | int | None]:
    """Hits out of `n` with their 95 % interval (Wilson 1927); all None when there is nothing to count."""
    if not n:
        return {"n": 0, "share": None, "low": None, "high": None}
    observed = hits / n
    middle = (observed + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(observed * (1 - observed) / n + _Z**2 / (4 * n * n))
    return {"n": n, "share": observed, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}
