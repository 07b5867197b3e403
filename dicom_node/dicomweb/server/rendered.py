"""Pictures that WADO-RS draws for a client (PS3.18 8.3.5, 10.4.1.1.3, 10.4.1.1.5).

Each says in its pixels that it is for research, though the standard wants none but the annotations that are
asked for: it leaves the node without header and banner.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from dicom_node.dicomweb.server.wado import Range
from dicom_node.imaging.grayscale import Windowing
from dicom_node.imaging.rendering import Picture
from dicom_node.results.codes import RESEARCH_USE_ONLY
from dicom_node.results.image.overlay import fitting

KINDS: Mapping[str, str] = MappingProxyType({"image/jpeg": "JPEG", "image/gif": "GIF", "image/png": "PNG"})
"""Media types of a picture, the usual one first, and what Pillow calls them."""
MOST_SIDE: Final = 4096
"""Of a viewport."""
QUALITY: Final = 90
"""Unless asked for; Pillow's, from 1 to 100."""

_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_WHOLE: Final = (None, None, None, None)
WITHOUT_PIXELS: Final = frozenset({"sr", "similar", "pdf", "ko", "pr"})


class BadView(Exception):
    """A parameter cannot be followed; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is asked for.

    Attributes
    ----------
    viewport
        Most columns and rows; None for those of the picture.
    region
        Left, top, width and height of what is shown, in pixels of the picture, which is flipped where one of
        the latter is negative; None for what was not said.
    windowing
        None for what the header says.
    annotations
        That were asked for, and are not drawn.
    """

    viewport: tuple[int, int] | None = None
    region: tuple[float | None, ...] = _WHOLE
    windowing: Windowing | None = None
    quality: int = QUALITY
    annotations: tuple[str, ...] = ()


def parse_view(asked: Mapping[str, str], *, thumbnail: bool) -> View:
    """Understand the parameters of a query; a thumbnail has none but its viewport.

    Raises
    ------
    BadView
        When one is not what the standard allows, or not offered.
    """
    viewport: tuple[int, int] | None = None
    region: tuple[float | None, ...] = _WHOLE
    if "viewport" in asked:
        viewport, region = _viewport(asked["viewport"], thumbnail=thumbnail)
    if thumbnail:
        return View(viewport, region)
    if asked.get("iccprofile", "no") != "no":
        raise BadView("iccprofile can only be no: colours are sRGB, and no profile stands in the picture.")
    return View(
        viewport,
        region,
        _windowing(asked["window"]) if "window" in asked else None,
        _quality(asked.get("quality", str(QUALITY))),
        _annotations(asked["annotation"]) if "annotation" in asked else (),
    )


def _viewport(said: str, *, thumbnail: bool) -> tuple[tuple[int, int], tuple[float | None, ...]]:
    values = said.split(",")
    form = "w,h" if thumbnail else "w,h,sx,sy,sw,sh"
    try:
        width, height = (int(each) for each in values[:2])
        region = [float(each) if each else None for each in values[2:]]
    except ValueError:
        raise BadView(
            f"viewport is numbers with commas between, the first two of them whole: {form}."
        ) from None
    if len(values) > form.count(",") + 1 or not all(math.isfinite(each or 0) for each in region):
        raise BadView(f"viewport has no more than this: {form}.")
    if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
        raise BadView(f"Width and height of viewport are from 1 to {MOST_SIDE} pixels.")
    return (width, height), (*region, *_WHOLE[len(region) :])


def _windowing(said: str) -> Windowing:
    try:
        center, width, function = said.split(",")
        return Windowing(float(center), float(width), _FUNCTIONS[function.strip().casefold()])
    except (KeyError, ValueError):
        raise BadView(
            "window is a center, a width and linear, linear-exact or sigmoid: c,w,linear; "
            "the width is more than 0, and 1 or more if linear."
        ) from None


def _quality(said: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", said) or not 1 <= int(said) <= 100:
        raise BadView("quality is a whole number from 1 to 100.")
    return int(said)


def _annotations(said: str) -> tuple[str, ...]:
    words = tuple(said.split(","))
    if not _ANNOTATIONS.issuperset(words):
        raise BadView("annotation is patient, technique, or both with a comma between.")
    return words


def picture_kind(accepted: Iterable[Range], *, several: bool) -> tuple[str, bool] | None:
    """Return the media type in which pictures come, and whether in parts; None when none is taken."""
    for each in accepted:
        for kind in KINDS:
            if each.takes(kind) and not (several and each.whole):
                return kind, several or not (each.whole or each.kind == "*/*")
    return None


def drawn(picture: Picture, view: View, kind: str) -> bytes:
    """Crop, flip and scale a picture, mark it, and write it.

    Raises
    ------
    BadView
        When the region lies outside of it.
    """
    image = Image.fromarray(picture)
    if view.viewport is not None:
        image = _scaled(image, view.viewport, view.region)
    _mark(image)
    stream = io.BytesIO()
    if kind == "image/jpeg":
        image.save(stream, KINDS[kind], quality=view.quality, subsampling=0)
    else:
        image.save(stream, KINDS[kind])
    return stream.getvalue()


def _scaled(image: Image.Image, viewport: tuple[int, int], region: tuple[float | None, ...]) -> Image.Image:
    """Show a region as large as a viewport lets it be, undistorted (PS3.18 8.3.5.1.3)."""
    left, top = (abs(each or 0) for each in region[:2])
    width = image.width - left if region[2] is None else abs(region[2])
    height = image.height - top if region[3] is None else abs(region[3])
    if min(width, height) < 1 or left + width > image.width or top + height > image.height:
        whole = f"{image.width} x {image.height} pixels"
        raise BadView(f"The region is less than a pixel, or lies outside of the picture of {whole}.")
    scale = min(viewport[0] / width, viewport[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    box = (left, top, left + width, top + height)
    found = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    found = ImageOps.mirror(found) if (region[2] or 0) < 0 else found
    return ImageOps.flip(found) if (region[3] or 0) < 0 else found


def _mark(image: Image.Image) -> None:
    """Write at the bottom that the picture is for research, bright with a dark rim."""
    size = max(10, min(image.size) / 40)
    font = fitting(RESEARCH_USE_ONLY, size, max(1, image.width - 4))
    bright, dark = (255, 0) if image.mode == "L" else ((255, 255, 255), (0, 0, 0))
    ImageDraw.Draw(image).text(
        (image.width / 2, image.height - 2), RESEARCH_USE_ONLY,
        fill=bright, stroke_fill=dark, stroke_width=round(size / 10), font=font, anchor="mb",
    )  # fmt: skip
