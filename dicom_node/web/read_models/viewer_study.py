"""Data for the film viewer: images of a study, their windows and heat maps.

This is the interface between the API and the viewer in ``static/viewer``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dicom_node.errors import NodeError, NotAnalysable, StorageFailed
from dicom_node.results.codes import view_of_position
from dicom_node.results.image.overlay import colours
from dicom_node.store.analysis_records import ImageRecord
from dicom_node.store.files import Spool
from dicom_node.web.media.films import FilmDecoder
from dicom_node.web.read_models.study import Image, StudyView

_LOG = logging.getLogger(__name__)
_INVERTED = "inverted"


@dataclass(frozen=True, slots=True)
class Window:
    """Initial window on the scale of the grey values, 0 to 65535 (PS3.3 C.11.2.1.2)."""

    center: float
    width: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Line from the grey values to those after the Modality LUT or rescale: intercept plus slope times grey.

    The values are those in which a header states its windows: the stored ones, without LUT and rescale.
    """

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class NamedWindow:
    """Window of the header on the scale of the grey values, with its explanation, which may be empty."""

    name: str
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class ViewerImage:
    """One film.

    Attributes
    ----------
    view
        ``frontal`` or ``lateral`` if the gate has checked the image, else empty.
    pixels
        Address of its grey values: 16 bits, little endian, row by row, full depth, as MONOCHROME2 by its
        header; 0 is outside of the shutter or padding, and always black.
    aspect_ratio
        Height of a pixel over its width; the film is shown in its true shape.
    window
        Initial window; None for the full range 0 to 65535.
    scale
        Scale on which windows are shown to the reader.
    windows
        Windows of the header to choose from.
    curve
        Displayed greys from 0 to 65535, evenly spaced from the lower to the upper end of the window: a VOI
        LUT or a SIGMOID (PS3.3 C.11.2). None for the straight line.
    overlay
        Address of its overlay planes: 1 bit a pixel, the first in the lowest bit, row by row; None without.
    inverted
        True when the gate has found the image inverted (bright lungs by its header), so that the viewer
        inverts it.
    mirrored, turns
        How the models saw it, if not as it is stored: left and right exchanged, then turned clockwise by so
        many quarters, 0 to 3.
    imager_spacing
        Vertical and horizontal distance of two pixels at the detector, in millimetres; None when unknown.
    prior
        True for an image of the same patient's previous study.
    study, study_date
        Number of its study, and that study's date as YYYYMMDD; empty when unknown.
    """

    id: int
    view: str
    columns: int
    rows: int
    aspect_ratio: float
    pixels: str
    window: Window | None
    scale: Scale
    windows: Sequence[NamedWindow]
    curve: Sequence[int] | None
    overlay: str | None
    inverted: bool
    mirrored: bool
    turns: int
    imager_spacing: tuple[float, float] | None
    prior: bool
    study: int
    study_date: str


@dataclass(frozen=True, slots=True)
class ViewerMap:
    """One heat map.

    Attributes
    ----------
    finding, name
        Key and name of the finding.
    method
        Method, such as ``Grad-CAM``.
    image
        Number of the image.
    map
        Address of its values: 8 bits, row by row, over the whole image; the size is in the response headers.
    """

    finding: str
    name: str
    method: str
    image: int
    map: str


@dataclass(frozen=True, slots=True)
class LostImage:
    """One film whose file is lost, was purged, or cannot be decoded.

    Attributes
    ----------
    view, prior
        As for :class:`ViewerImage`.
    error
        What is wrong with the file, as one sentence.
    """

    id: int
    view: str
    prior: bool
    error: str


@dataclass(frozen=True, slots=True)
class ViewerStudy:
    """All films and heat maps of a study for the viewer.

    Attributes
    ----------
    colours
        Colours of 256 steps of heat from low to high, such as ``#1f1332``: those of the pictures that are
        sent (:func:`dicom_node.results.image.overlay.colours`).
    """

    images: Sequence[ViewerImage]
    maps: Sequence[ViewerMap]
    lost: Sequence[LostImage] = ()
    colours: Sequence[str] = field(default_factory=lambda: [f"#{bytes(each).hex()}" for each in colours()])


def read_viewer_study(films: FilmDecoder, spool: Spool, view: StudyView) -> ViewerStudy:
    """Return the films and heat maps of a study as they hang: frontal before lateral, then the prior.

    Raises
    ------
    NodeError
        When no film can be decoded now, or all together take too long.
    """
    reading = view.reading
    records = {} if reading is None else {each.sop_instance_uid: each for each in reading.record.images}
    images: list[ViewerImage] = []
    lost: list[LostImage] = []
    places: dict[int, tuple[bool, int]] = {}
    dates = {view.id: view.study_date, **{other.id: other.study_date for other in view.others}}
    until = films.deadline()
    for image, prior in [*((each, False) for each in view.images), *((each, True) for each in view.prior)]:
        record = records.get(image.sop_instance_uid)
        name = "" if record is None else record.view
        if (purged := image.purged) is not None:
            lost.append(LostImage(image.id, name, prior, f"{purged}."))
            continue
        try:
            film = films.decode(spool.path(image.file), until)
        except NotAnalysable as error:
            _LOG.info("image %d is not shown: %s", image.id, error)
            lost.append(LostImage(image.id, name, prior, f"{error}."))
            continue
        except StorageFailed as error:
            _LOG.error("image %d is lost: %s", image.id, error)
            lost.append(LostImage(image.id, name, prior, str(error)))
            continue
        except NodeError:
            if not prior:
                raise
            continue
        rows, columns = film.values.shape
        mirrored, turns = (False, 0) if record is None else _seen(record)
        images.append(
            ViewerImage(
                id=image.id,
                view=name,
                columns=columns,
                rows=rows,
                aspect_ratio=film.aspect_ratio,
                pixels=_address(image, "pixels"),
                window=Window(film.center, film.width),
                scale=Scale(film.slope, film.intercept),
                windows=[NamedWindow(each.name, each.center, each.width) for each in film.offered],
                curve=film.curve.tolist() or None,
                overlay=_address(image, "overlay") if film.overlay else None,
                inverted=record is not None and (record.inverted or record.reason == _INVERTED),
                mirrored=mirrored,
                turns=turns,
                imager_spacing=film.imager_spacing,
                prior=prior,
                study=image.study_id,
                study_date=dates.get(image.study_id, ""),
            )
        )
        places[image.id] = prior, _hanging(name, film.view_position)
    images.sort(key=lambda each: places[each.id])
    return ViewerStudy(images, list(_maps(view)), lost)


def _seen(record: ImageRecord) -> tuple[bool, int]:
    """Return whether an image was mirrored for the models, and the clockwise quarters after that.

    The record has the turns before the mirroring, and counter-clockwise: a mirror turns them round.
    """
    return record.mirrored, record.turns if record.mirrored else -record.turns % 4


def _hanging(view: str, position: str) -> int:
    """Place of a film in its study, by the gate's view or else the header's: frontal, unknown, lateral."""
    return {"frontal": 0, "lateral": 2}.get(view or view_of_position(position), 1)


def _address(image: Image, what: str) -> str:
    return f"/api/v1/studies/{image.study_id}/images/{image.id}/{what}"


def _maps(view: StudyView) -> Iterator[ViewerMap]:
    if view.reading is None:
        return
    names = {entry.key: entry.name for entry in view.reading.record.findings}
    model = f"&model={view.reading.position}" if view.reading.position else ""
    for number, each in enumerate(view.reading.record.maps):
        if (image := view.image(each.sop_instance_uid)) is not None:
            yield ViewerMap(
                finding=each.key,
                name=names.get(each.key, each.key),
                method=each.method,
                image=image.id,
                map=f"/api/v1/studies/{view.id}/maps/{number}?revision={view.reading.revision}{model}",
            )
