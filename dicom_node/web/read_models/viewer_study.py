"""What the film viewer is told of a study: its images, their windows, its heat maps.

The contract between the page and ``static/viewer``. Addresses are those of the API.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node.errors import NodeError, NotAnalysable
from dicom_node.store.files import Spool
from dicom_node.web.media.films import Films
from dicom_node.web.read_models.study import Image, StudyView

_LOG = logging.getLogger(__name__)
_INVERTED = "inverted"


@dataclass(frozen=True, slots=True)
class Window:
    """What of the greys 0 to 65535 is shown at first."""

    center: float
    width: float


@dataclass(frozen=True, slots=True)
class ViewerImage:
    """One film.

    Attributes
    ----------
    view
        ``frontal`` or ``lateral`` where a gate looked, else the header's View Position; may be empty.
    pixels
        Address of its greys: 16 bits, little endian, row by row, in the film's full depth and the
        MONOCHROME2 sense of its header.
    window
        None when there is none: show 0 to 65535.
    inverted
        Whether the gate found bright lungs, so that the film has to be shown the other way round.
    prior
        Whether it is of the same patient's study before this one.
    """

    id: int
    view: str
    columns: int
    rows: int
    pixels: str
    window: Window | None
    inverted: bool
    prior: bool


@dataclass(frozen=True, slots=True)
class ViewerMap:
    """One heat map.

    Attributes
    ----------
    finding, name
        Key and name of what was looked for.
    method
        Such as ``Grad-CAM``.
    image
        Number of the image that it lies on.
    map
        Address of its values: 8 bits, row by row, over the whole image; its rows and columns come with it.
    """

    finding: str
    name: str
    method: str
    image: int
    map: str


@dataclass(frozen=True, slots=True)
class ViewerStudy:
    """All that the viewer shows."""

    images: Sequence[ViewerImage]
    maps: Sequence[ViewerMap]


def viewer_study(films: Films, spool: Spool, view: StudyView) -> ViewerStudy:
    """Return what the viewer is told; an image that cannot be decoded is left out.

    Raises
    ------
    StorageFailed
        When a file is not there.
    """
    reading = view.reading
    said = {} if reading is None else {each.sop_instance_uid: each for each in reading.kept.images}
    images = []
    for image, prior in [*((each, False) for each in view.images), *((each, True) for each in view.prior)]:
        try:
            film = films.film(spool.path(image.file))
        except NotAnalysable as error:
            _LOG.info("image %d is not shown: %s", image.id, error)
            continue
        except NodeError:
            if not prior:
                raise
            continue
        verdict = said.get(image.sop_instance_uid)
        rows, columns = film.values.shape
        images.append(
            ViewerImage(
                id=image.id,
                view="" if verdict is None else verdict.view,
                columns=columns,
                rows=rows,
                pixels=pixels_address(image),
                window=Window(film.center, film.width),
                inverted=verdict is not None and verdict.reason == _INVERTED,
                prior=prior,
            )
        )
    return ViewerStudy(images, list(_maps(view)))


def pixels_address(image: Image) -> str:
    """Return where an image's greys are."""
    return f"/api/v1/studies/{image.study_id}/images/{image.id}/pixels"


def _maps(view: StudyView) -> Iterator[ViewerMap]:
    if view.reading is None:
        return
    names = {entry.key: entry.name for entry in view.reading.kept.findings}
    for number, each in enumerate(view.reading.kept.maps):
        if (image := view.image(each.sop_instance_uid)) is not None:
            yield ViewerMap(
                finding=each.key,
                name=names.get(each.key, each.key),
                method=each.method,
                image=image.id,
                map=f"/api/v1/studies/{view.id}/maps/{number}?revision={view.reading.revision}",
            )
