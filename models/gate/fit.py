"""Fitting of the gate: features once, logistic regressions on them, and a Gaussian for each view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

from models.bundles.weights import pack_weights, unpack_weights
from models.data.dataset import FilmDataset
from models.errors import RecipeError
from models.gate.augmentation import corner, invert, part, turn, vary
from models.gate.graph import write_gate_graph
from models.gate.mirror import asymmetry
from models.gate.model import Gate, GateManifest, Thresholds, write_gate
from models.gate.negatives import Negatives
from models.gate.network import GateNetwork
from models.gate.session import ANSWERS, VIEWS
from models.gate.synthetic_negatives import FITTED, draw
from models.processing.types import FloatArray
from models.training.recipe import GateRecipe

#: Inverse strength of the pull of the answers' weights towards 0 (scikit-learn's ``C``).
_FREEDOM = 0.01
#: The same of the mirror answer.
_MIRROR_FREEDOM = 0.001
#: Of one film in so many a corner is shown as no chest film.
_CORNERS = 12
#: The spine of a stooped patient tilts by up to 45 degrees on a lateral film: the answer must be this sure.
_SURELY = 0.95
_AT_ONCE = 32

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PictureKind:
    """Kind of a picture: what it shows and how it was made.

    Attributes
    ----------
    split
        ``train`` or ``val``.
    view
        One of :data:`VIEWS`; empty for a picture that is no chest film.
    film
        Index of the chest film that it was made from, or -1.
    varied, inverted, rotated
        Changes that were made to the film.
    """

    split: str = "train"
    view: str = ""
    film: int = -1
    varied: bool = False
    inverted: bool = False
    rotated: bool = False


Picture = tuple[PictureKind, FloatArray]


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """Features of pictures, shape (n, width), and what the pictures show."""

    features: NDArray[np.float32]
    kinds: list[PictureKind]

    def where(self, holds: Callable[[PictureKind], bool]) -> Mask:
        """Mask of the pictures whose kind meets a condition."""
        return np.array([holds(kind) for kind in self.kinds], dtype=bool)

    def only(self, mask: Mask) -> PictureFeatures:
        """Selection of the pictures by a mask."""
        return PictureFeatures(
            self.features[mask], [kind for kind, kept in zip(self.kinds, mask, strict=True) if kept]
        )


def fit_gate(
    recipe: GateRecipe,
    datasets: tuple[FilmDataset, ...],
    negatives: Negatives,
    *,
    path: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Gate:
    """Fit a gate and write it, without figures and card.

    Parameters
    ----------
    datasets
        Chest films: ``train`` is fitted to, ``val`` gives the thresholds.
    negatives
        Without those that the recipe holds out.
    path
        Folder of the gate.
    progress
        Called with films read and films in all.

    Raises
    ------
    ModelError
        If a picture cannot be read, or there are no weights to start from.
    """
    torch.manual_seed(recipe.seed)
    try:
        network = GateNetwork(backbone=recipe.architecture.backbone, channels=recipe.preprocessing.channels)
    except ValueError as error:
        raise RecipeError(f"architecture.backbone: {error}") from error
    if recipe.architecture.start == "imagenet":
        network.load_imagenet()
    manifest = GateManifest(
        name=recipe.name,
        version=recipe.version,
        summary=recipe.summary,
        fitted_to=(*(dataset.name for dataset in datasets), *negatives.sources, *FITTED),
        backbone=recipe.architecture.backbone,
        preprocessing=recipe.preprocessing.build(),
        thresholds=Thresholds(chest=0.5, inverted=0.5, rotated=0.5, distance=1.0),
    )
    # The features come from the gate as it will be on disk, roundings included.
    draft = write_gate(path, manifest, network)
    generator = np.random.default_rng(recipe.seed)
    drawn = draw(FITTED, recipe.negatives.drawings * len(FITTED), seed=recipe.seed)
    pictures = chain(
        _films(datasets, generator, progress),
        _others((picture for _, picture in negatives.load()), generator),
        _others(drawn, generator),
    )
    seen = _see(draft, pictures)
    network = draft.network
    _standardise(network, seen)
    # A few films of every collection lie on their side, and no table tells which: the answer itself does.
    _answer(network, seen)
    seen = _upright(network, seen)
    _answer(network, seen)
    _place(network, seen)
    network = _rounded(network)
    manifest = replace(manifest, thresholds=_thresholds(network, seen, recipe.kept))
    return write_gate_graph(write_gate(path, manifest, network, mirror_answer(draft, datasets)))


def mirror_answer(gate: Gate, datasets: tuple[FilmDataset, ...]) -> NDArray[np.float32]:
    """Fit the mirror answer of a gate to the frontal films of ``train``.

    Parameters
    ----------
    gate
        Gate that gives the features.
    datasets
        Chest films.

    Returns
    -------
    numpy.ndarray
        Shape (width,), as :func:`fit_mirror` gives it.

    Raises
    ------
    RecipeError
        If there is no such film.
    """
    listed = [
        (path, study.read)
        for dataset in datasets
        for study in dataset.studies.get("train", ())
        for path, view in study.films_with_views()
        if view == "frontal"
    ]
    if not listed:
        raise RecipeError("no data set has a frontal film in train, which the mirror answer is fitted to")
    differences = []
    for start in range(0, len(listed), _AT_ONCE):
        films = [read(path) for path, read in listed[start : start + _AT_ONCE]]
        standard = np.stack([gate.standardise(film) for film in films])
        differences.append(asymmetry(gate.features, standard))
    return fit_mirror(np.concatenate(differences), gate.network.spread.cpu().numpy())


def fit_mirror(differences: NDArray[np.float32], spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit the weights to films that are not mirrored, by logistic regression without an intercept.

    Parameters
    ----------
    differences
        From :func:`models.gate.mirror.asymmetry`, shape (n, width).
    spread
        Spread of each feature, shape (width,).

    Returns
    -------
    numpy.ndarray
        Shape (width,), float32; positive sums speak for a mirrored film.
    """
    # Each second film is mirrored, which changes its sign and nothing else.
    signs = np.where(np.arange(len(differences)) % 2, 1, -1)
    model = LogisticRegression(C=_MIRROR_FREEDOM, fit_intercept=False, max_iter=2000)
    model.fit(-signs[:, None] * differences / spread, signs)
    weights: NDArray[np.float32] = (model.coef_[0] / spread).astype(np.float32)
    return weights


def _films(
    datasets: tuple[FilmDataset, ...], generator: Generator, progress: Callable[[int, int], None]
) -> Iterator[Picture]:
    """Chest films as they are, varied, inverted and turned; now and then a corner of one."""
    listed = [
        (split, view, path, study.read)
        for dataset in datasets
        for split in ("train", "val")
        for study in dataset.studies.get(split, ())
        for path, view in study.films_with_views()
        if view in VIEWS
    ]
    for number, (split, view, path, read) in enumerate(listed):
        film, kind = read(path), PictureKind(split, view, number)
        yield kind, film
        # So few films give the thresholds that each is varied more often.
        for _ in range(1 if split == "train" else 3):
            yield replace(kind, varied=True), vary(film, generator)
        shown = vary(film, generator) if number % 2 else film
        yield replace(kind, inverted=True, varied=bool(number % 2)), invert(shown)
        if number % 3 == 0:
            turned = turn(vary(film, generator), 1 + int(generator.integers(3)))
            yield replace(kind, rotated=True, varied=True), turned
        if number % _CORNERS == 0:
            yield PictureKind(split), corner(film, generator)
        progress(number + 1, len(listed))


def _others(pictures: Iterable[FloatArray], generator: Generator) -> Iterator[Picture]:
    """Pictures that are no chest films as they are, varied and in part, some of them inverted."""
    for picture in pictures:
        yield PictureKind(), picture
        for changed in (vary(picture, generator), vary(part(picture, generator), generator)):
            yield PictureKind(varied=True), invert(changed) if generator.integers(3) == 0 else changed


def _see(gate: Gate, pictures: Iterable[Picture]) -> PictureFeatures:
    """Features of all pictures; none is kept longer than it takes."""
    kinds, features, waiting = [], [], []
    for kind, picture in pictures:
        kinds.append(kind)
        waiting.append(gate.standardise(picture))
        if len(waiting) == _AT_ONCE:
            features.append(gate.features(np.stack(waiting)))
            waiting.clear()
    if waiting:
        features.append(gate.features(np.stack(waiting)))
    return PictureFeatures(np.concatenate(features), kinds)


def _standardise(network: GateNetwork, seen: PictureFeatures) -> None:
    plain = seen.features[
        seen.where(lambda kind: kind.split == "train" and _ordinary(kind) and not kind.varied)
    ]
    network.centre.copy_(torch.from_numpy(plain.mean(axis=0)))
    # A channel that is nearly the same in all films must not become the loudest.
    network.spread.copy_(torch.from_numpy(plain.std(axis=0) + 1e-3))


def _ordinary(kind: PictureKind) -> bool:
    """Return True for a chest film that the gate should accept."""
    return bool(kind.view) and not kind.inverted and not kind.rotated


def _standardised(network: GateNetwork, features: NDArray[np.float32]) -> NDArray[np.float32]:
    standardised: NDArray[np.float32] = network.standardised(torch.from_numpy(features)).numpy()
    return standardised


#: Which pictures each answer is fitted to, and for which of them it is yes.
_QUESTIONS: dict[str, tuple[Callable[[PictureKind], bool], Callable[[PictureKind], bool]]] = {
    "lateral": (lambda kind: bool(kind.view), lambda kind: kind.view == "lateral"),
    "inverted": (lambda kind: bool(kind.view), lambda kind: kind.inverted),
    "rotated": (lambda kind: bool(kind.view), lambda kind: kind.rotated),
    "chest": (lambda _kind: True, lambda kind: bool(kind.view)),
}


def _answer(network: GateNetwork, seen: PictureFeatures) -> None:
    """Fit the linear answers to the train split."""
    features = _standardised(network, seen.features)
    train = seen.where(lambda kind: kind.split == "train")
    for row, name in enumerate(ANSWERS):
        asked, yes = _QUESTIONS[name]
        chosen = train & seen.where(asked)
        model = LogisticRegression(C=_FREEDOM, max_iter=1000, class_weight="balanced")
        model.fit(features[chosen], seen.where(yes)[chosen])
        network.answers.weight[row] = torch.from_numpy(model.coef_[0]).float()
        network.answers.bias[row] = float(model.intercept_[0])


def _upright(network: GateNetwork, seen: PictureFeatures) -> PictureFeatures:
    """Leave out, with all its variants, each film that is found lying on its side as it came."""
    scores, _ = network.judge(torch.from_numpy(seen.features))
    lying = scores[:, ANSWERS.index("rotated")].numpy() >= 0.5  # noqa: PLR2004 - the likelier of two
    as_they_came = seen.where(lambda kind: _ordinary(kind) and not kind.varied)
    odd = {kind.film for kind, is_odd in zip(seen.kinds, lying & as_they_came, strict=True) if is_odd}
    return seen.only(seen.where(lambda kind: kind.film not in odd))


def _place(network: GateNetwork, seen: PictureFeatures) -> None:
    """A Gaussian for each view, its covariance shrunk (Ledoit & Wolf 2004)."""
    features = _standardised(network, seen.features).astype(np.float64)
    fitted = seen.where(lambda kind: kind.split == "train" and _ordinary(kind))
    views = np.array([kind.view for kind in seen.kinds])
    for row, view in enumerate(VIEWS):
        here = features[fitted & (views == view)]
        covariance, _ = ledoit_wolf(here)
        network.places[row] = torch.from_numpy(here.mean(axis=0)).float()
        network.whitening[row] = torch.from_numpy(np.linalg.cholesky(np.linalg.inv(covariance))).float()


def _rounded(network: GateNetwork) -> GateNetwork:
    """The network as it will be read again."""
    again = GateNetwork(backbone=network.name, channels=network.channels)
    again.load_state_dict(unpack_weights(pack_weights(network)), strict=False)
    return again.requires_grad_(False).eval()


def _thresholds(network: GateNetwork, seen: PictureFeatures, kept: float) -> Thresholds:
    """Thresholds that cost no more than the share ``1 - kept`` of the varied films of ``val`` each."""
    val = seen.only(seen.where(lambda kind: kind.split == "val" and _ordinary(kind)))
    scores, distances = network.judge(torch.from_numpy(val.features))
    answers = {name: scores[:, column].numpy() for column, name in enumerate(ANSWERS)}
    return Thresholds(
        chest=float(np.quantile(answers["chest"], 1 - kept)),
        inverted=max(0.5, float(np.quantile(answers["inverted"], kept))),
        rotated=max(_SURELY, float(np.quantile(answers["rotated"], kept))),
        distance=float(np.quantile(distances.numpy(), kept)),
    )
