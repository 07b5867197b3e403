"""A heat map: where a model looked for one finding on one film."""

from __future__ import annotations

from dataclasses import dataclass

from models.processing.transforms import to_source
from models.processing.types import FloatArray

#: Pixels along the longer side of a map that is looked at: no network draws one as fine.
LOOKED_AT = 256


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """Where a model looked for one finding on one film.

    It is kept as fine as the method draws it and brought to a size where one is needed: eight maps in the
    rows and columns of a film of 4 megapixels take several times as long as reading the film.

    Attributes
    ----------
    key
        Of the finding.
    film
        Identifier of the film.
    method
        Name of the method, such as ``gradcam``.
    grid
        Shape (height, width), float32 in [0, 1]; it covers the whole film.
    shape
        Rows and columns of the film as it came in.
    """

    key: str
    film: str
    method: str
    grid: FloatArray
    shape: tuple[int, int]

    @property
    def values(self) -> FloatArray:
        """The map in the film's own rows and columns."""
        return to_source(self.grid, self.shape)

    @property
    def looked_at(self) -> FloatArray:
        """The same with a longer side of at most :data:`LOOKED_AT` pixels; never larger than the film."""
        scale = min(1.0, LOOKED_AT / max(self.shape))
        rows, columns = (max(1, round(scale * side)) for side in self.shape)
        return to_source(self.grid, (rows, columns))
