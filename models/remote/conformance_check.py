"""Conformance check of a remote model: whether it answers as the contract says, on drawn films."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import ModelError
from models.processing.types import Film, FloatArray, Prediction, Study
from models.remote.contract import DICOM
from models.remote.predictor import RemotePredictor

_TOLERANCE = 1e-6
"""Largest difference between two answers for the same film."""
_TEXT = "Cough and fever."
_SHAPES = ((320, 256), (97, 131), (256, 256))
"""Rows and columns of the drawn films; a wrong order of axes spoils one of odd numbers."""


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """Result of one check.

    Attributes
    ----------
    name
        Name of what was checked.
    ok
        True: as the contract says; False: otherwise; None: it could not be tried.
    found
        What was found.
    """

    name: str
    ok: bool | None
    found: str


def check_model(
    connect: Callable[[], RemotePredictor], files: dict[str, Path] | None = None
) -> Iterator[ContractCheck]:
    """Check a remote model, one part of the contract after another.

    Parameters
    ----------
    connect
        Function that makes its predictor.
    files
        DICOM files to try a model on that reads those, by any names; without them it is not tried.
    """
    try:
        predictor = connect()
    except ModelError as error:
        yield ContractCheck("describe", ok=False, found=str(error))
        return
    identity, described = predictor.identity, predictor.description
    yield ContractCheck(
        "describe",
        ok=True,
        found=f"{identity.name} {identity.version}, digest {identity.weights_sha256[:12]}, "
        f"{len(predictor.labels)} labels, films as {predictor.films}, text {predictor.text}, "
        f"{'maps' if described.maps else 'no maps'}",
    )
    yield _tried("health", lambda: _health(predictor))
    if predictor.films == DICOM and not files:
        yield ContractCheck("predict", ok=None, found="it reads DICOM files: name some by --film")
        return
    films = drawn_films() if predictor.films != DICOM else _placeholders(files or {})
    films = films[: predictor.most_films]
    read = _Reading(predictor, films, files or {})
    yield _tried("predict", read.first)
    if read.prediction is None:
        return
    yield _tried("repeat", read.again)
    yield _tried("films alone", read.alone)
    yield _tried("most films", read.most)
    if described.maps:
        yield _tried("maps", read.maps)


def drawn_films() -> list[FloatArray]:
    """Drawn films of several shapes, float32 in [0, 1]."""
    random = np.random.default_rng(251)
    films = []
    for rows, columns in _SHAPES:
        y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
        film = 0.6 * np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.1) + 0.3 * x * y
        films.append(np.clip(film + 0.1 * random.random((rows, columns)), 0, 1).astype(np.float32))
    return films


def _placeholders(files: dict[str, Path]) -> list[FloatArray]:
    """Pixels in the place of those that the model decodes itself."""
    return [np.zeros((8, 8), np.float32) for _ in files]


def _health(predictor: RemotePredictor) -> str:
    predictor.check_health()
    return "ok"


class _Reading:
    """Readings of the same films in several ways."""

    def __init__(self, predictor: RemotePredictor, films: list[FloatArray], files: dict[str, Path]) -> None:
        self.prediction: Prediction | None = None
        self._predictor, self._files = predictor, files
        names = list(files) if predictor.films == DICOM else [f"film {n}" for n in range(1, len(films) + 1)]
        self._films = tuple(map(Film, names, films))

    def first(self) -> str:
        self.prediction = self._read(self._films)
        scores = [finding.score for finding in self.prediction.findings]
        return f"{len(self._films)} films, scores from {min(scores):.3f} to {max(scores):.3f}"

    def again(self) -> str:
        most = self._difference(self._read(self._films))
        if most > _TOLERANCE:
            raise _NotAsSaid(f"the same films get scores that differ by {most:.6f}")
        return "the same films get the same scores"

    def alone(self) -> str:
        assert self.prediction is not None
        last = self._read(self._films[-1:])
        pairs = zip(last.findings, self.prediction.findings, strict=True)
        most = max(abs(now.film_scores[0] - then.film_scores[-1]) for now, then in pairs)
        # Allowed: a model may read the films of a study together.
        return f"a film alone gets scores that differ by {most:.6f} from those in its study"

    def most(self) -> str:
        films = (self._films * self._predictor.most_films)[: self._predictor.most_films]
        self._read(films)
        return f"{len(films)} films of a study are read"

    def maps(self) -> str:
        (traced,) = self._predictor.trace([self._study(self._films)], files=self._files)
        count = sum(map(len, traced.given))
        if not count:
            raise _NotAsSaid("it says that it gives maps, and gave none for any film")
        return f"{count} maps"

    def _read(self, films: tuple[Film, ...]) -> Prediction:
        return self._predictor.predict([self._study(films)], files=self._files)[0]

    def _study(self, films: tuple[Film, ...]) -> Study:
        return Study(films, None if self._predictor.text == "none" else _TEXT)

    def _difference(self, other: Prediction) -> float:
        assert self.prediction is not None
        pairs = zip(self.prediction.findings, other.findings, strict=True)
        return max(abs(one.score - two.score) for one, two in pairs)


class _NotAsSaid(ModelError):
    """Something that the contract says is not so."""


def _tried(name: str, check: Callable[[], str]) -> ContractCheck:
    try:
        return ContractCheck(name, ok=True, found=check())
    except ModelError as error:
        return ContractCheck(name, ok=False, found=str(error))
