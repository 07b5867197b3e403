"""Heat map of one finding on one film."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from models.processing.transforms import to_source
from models.processing.types import FloatArray

#: Longer side of a preview, in pixels: finer than the grid of any network.
PREVIEW_SIDE = 256


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Evidence for one finding on one film, by position.

    It is kept on the grid of the method and resized on demand: eight maps at the size of a film of 4
    megapixels take several times as long as the prediction.

    Attributes
    ----------
    key
        Key of the finding.
    film
        Identifier of the film.
    method
        Name of the method, such as ``gradcam``.
    grid
        Shape (height, width), float32 in [0, 1]; it covers the whole film.
    shape
        Rows and columns of the original film.
    """

    key: str
    film: str
    method: str
    grid: FloatArray
    shape: tuple[int, int]

    @property
    def values(self) -> FloatArray:
        """Map in the film's own rows and columns."""
        return to_source(self.grid, self.shape)

    @cached_property
    def preview(self) -> FloatArray:
        """The same with a longer side of at most :data:`PREVIEW_SIDE` pixels; never larger than the film.

        It is kept: the check of the map, the report and its pictures all look at it.
        """
        scale = min(1.0, PREVIEW_SIDE / max(self.shape))
        rows, columns = (max(1, round(scale * side)) for side in self.shape)
        return to_source(self.grid, (rows, columns))
