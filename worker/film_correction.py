"""Film correction: films that are stored turned, mirrored or inverted are made readable for the models.

A header is followed, and where it leaves the question open or is silent, the gate decides by looking. What
was done is said in the report, and heat maps go back to the geometry of the stored film.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.orientation import AS_STORED, Orientation, read_orientation
from dicom_node.imaging.pixels import is_inverted
from dicom_node.results.report import FloatArray
from models.explain.heatmap import Heatmap
from models.gate.model import Gate, GateResult, RefusalReason
from models.processing.types import Film

_QUARTERS: Final = (1, 2, 3)
_LIKELIER: Final = 0.5
_FRONTAL: Final = "frontal"
_CODE_LENGTH: Final = 16
"""Most characters of a CS (PS3.5 6.2): a remark repeats no more of a header's value."""


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedFilm:
    """Film as a model reads it, with what was changed.

    Attributes
    ----------
    film
        Upright film with dark lungs, as far as header and gate could tell.
    orientation
        Way from the stored picture to this one.
    inverted
        True when the grey scale is the opposite of what the header says.
    remarks
        What was changed and why, one clause each.
    verdict
        Result of the gate; None without a gate.
    """

    film: Film
    header: Dataset = field(repr=False)
    orientation: Orientation = AS_STORED
    inverted: bool = False
    remarks: tuple[str, ...] = ()
    verdict: GateResult | None = None

    @property
    def stored(self) -> FloatArray:
        """Pixels in the geometry of the stored film."""
        return self.orientation.stored(self.film.pixels)

    def oriented(self, orientation: Orientation) -> CorrectedFilm:
        """Return the same film in another orientation, not judged yet."""
        pixels = orientation.upright(self.stored)
        return replace(self, film=Film(self.film.identifier, pixels), orientation=orientation, verdict=None)

    def remarked(self, remark: str) -> CorrectedFilm:
        """Return the same film with one remark more."""
        return replace(self, remarks=(*self.remarks, remark))


Decode = Callable[[str], FloatArray]


def correct_films(
    films: Sequence[tuple[Film, Dataset]], gate: Gate | None, inverted: Decode
) -> list[CorrectedFilm]:
    """Bring films upright and give them dark lungs.

    Parameters
    ----------
    films
        Films in their stored geometry, with their headers.
    gate
        Gate that looks at the films; None follows the headers.
    inverted
        Function that decodes the film of an identifier once more, with the opposite grey scale. A film for
        which it raises NotAnalysable stays inverted, and is refused.

    Returns
    -------
    list of CorrectedFilm
        One for each film, in order, with the verdict of the gate on what a model would read.
    """
    corrected = [_by_header(film, header) for film, header in films]
    if gate is None:
        return [_said(each) for each in corrected]
    judged = _judged(gate, corrected)
    judged = [_with_dark_lungs(gate, each, inverted) for each in judged]
    judged = [_upright(gate, each) for each in judged]
    return [_said(_unmirrored(gate, each)) for each in judged]


def on_stored_films(maps: Sequence[Heatmap], films: Sequence[CorrectedFilm]) -> tuple[Heatmap, ...]:
    """Return heat maps of upright films in the geometry of the stored ones.

    Parameters
    ----------
    maps
        Heat maps of films that a model has read.
    films
        All of these films.
    """
    by_identifier = {each.film.identifier: each for each in films}
    placed = []
    for heatmap in maps:
        orientation = by_identifier[heatmap.film].orientation
        rows, columns = heatmap.shape
        shape = (columns, rows) if orientation.turns % 2 else (rows, columns)
        placed.append(replace(heatmap, grid=orientation.stored(heatmap.grid), shape=shape))
    return tuple(placed)


def _by_header(film: Film, header: Dataset) -> CorrectedFilm:
    stored = CorrectedFilm(film, header)
    orientation = read_orientation(header)
    return stored.oriented(orientation) if orientation else stored


def _judged(gate: Gate, films: Sequence[CorrectedFilm]) -> list[CorrectedFilm]:
    verdicts = gate.judge([each.film for each in films])
    return [replace(each, verdict=verdict) for each, verdict in zip(films, verdicts, strict=True)]


def _with_dark_lungs(gate: Gate, film: CorrectedFilm, inverted: Decode) -> CorrectedFilm:
    """Return the film with the opposite grey scale where the gate finds it inverted and the header may err.

    Devices write MONOCHROME1, or Presentation LUT Shape INVERSE (PS3.3 C.11.6), beside values that are stored
    the other way round. MONOCHROME2 alone has one meaning, so a film that is inverted under it is refused.
    """
    doubtful = is_inverted(film.header) or _photometric(film.header) == "MONOCHROME1"
    if _reason(film) is not RefusalReason.INVERTED or not doubtful:
        return film
    try:
        pixels = film.orientation.upright(inverted(film.film.identifier))
    except NotAnalysable:  # it was decoded before: the decoder ran out of time or memory this once
        return film
    (other,) = _judged(
        gate, [replace(film, film=Film(film.film.identifier, pixels), inverted=True, verdict=None)]
    )
    if _reason(other) not in {None, RefusalReason.ROTATED}:
        return film
    low = "dark" if is_inverted(film.header) else "bright"
    return other.remarked(f"low values are {low}, although the header says {_polarity(film.header)}")


def _upright(gate: Gate, film: CorrectedFilm) -> CorrectedFilm:
    """Return the film in the one of three turns that the gate accepts; the same where it accepts none."""
    if _reason(film) is not RefusalReason.ROTATED:
        return film
    tried = _judged(gate, [film.oriented(film.orientation.turned(quarters)) for quarters in _QUARTERS])
    accepted = [(each.verdict.rotated_score, each) for each in tried if each.verdict and not _reason(each)]
    if not accepted:
        return film
    _, best = min(accepted, key=lambda each: each[0])
    against = _against(film) if film.orientation else "the film lies on its side or on its head"
    return best.remarked(against)


def _unmirrored(gate: Gate, film: CorrectedFilm) -> CorrectedFilm:
    """Return the film not mirrored where a header asks for it and the picture objects.

    Headers call films mirrored that are not (13 of 13 in Open-i); a lateral film is hung either way.
    """
    if not film.orientation.mirrored or film.verdict is None or film.verdict.reason is not None:
        return film
    said = f"a lateral film is not mirrored, whatever Patient Orientation {_directions(film.header)} says"
    if film.verdict.view == _FRONTAL:
        scores = gate.mirrored_scores([film.film.pixels])
        if scores is None or scores[0] <= _LIKELIER:
            return film
        said = _against(film)
    (judged,) = _judged(gate, [film.oriented(replace(film.orientation, mirrored=False))])
    return judged.remarked(said) if judged.verdict and not judged.verdict.reason else film


def _reason(film: CorrectedFilm) -> RefusalReason | None:
    return None if film.verdict is None else film.verdict.reason


def _against(film: CorrectedFilm) -> str:
    return f"the picture is not {_how(film)} as Patient Orientation {_directions(film.header)} says"


def _how(film: CorrectedFilm) -> str:
    return "turned or mirrored" if film.orientation.turns else "mirrored"


def _said(film: CorrectedFilm) -> CorrectedFilm:
    """Return the film with a remark on how it was read, when that is not how it is stored."""
    if not film.orientation:
        return film
    by_header = read_orientation(film.header) == film.orientation
    why = f", as Patient Orientation {_directions(film.header)} says" if by_header else ""
    return film.remarked(f"the film was {film.orientation} for reading{why}")


def _directions(header: Dataset) -> str:
    return "\\".join(each[:_CODE_LENGTH] for each in attributes.texts(header, "PatientOrientation"))


def _photometric(header: Dataset) -> str:
    return attributes.text(header, "PhotometricInterpretation").upper()


def _polarity(header: Dataset) -> str:
    shape = attributes.text(header, "PresentationLUTShape")[:_CODE_LENGTH]
    return _photometric(header) + (f" with Presentation LUT Shape {shape}" if shape else "")
