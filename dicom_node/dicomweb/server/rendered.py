"""Rendered pictures of WADO-RS (PS3.18 8.3.5, 10.4.1.1.3, 10.4.1.1.5).

Each picture is marked RESEARCH USE ONLY in its pixels, because it leaves the node without a header. The
standard allows only annotations that the client asks for; this is a deliberate deviation.
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

from dicom_node.dicomweb.server.wado import MediaRange
from dicom_node.imaging.pixel_shape import true_size
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.imaging.voi import VoiWindow
from dicom_node.results.codes import RESEARCH_USE_ONLY
from dicom_node.results.image.overlay import fitting

PICTURE_TYPES: Mapping[str, str] = MappingProxyType(
    {"image/jpeg": "JPEG", "image/gif": "GIF", "image/png": "PNG"}
)
"""Media types of a picture, the default first, and the names of their formats in Pillow."""
MAX_SIDE: Final = 4096
"""Largest width and height of a viewport, in pixels."""
DEFAULT_QUALITY: Final = 90
"""Default quality of a JPEG, on the scale 1 to 100 of Pillow."""

_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_WHOLE: Final = (None, None, None, None)
WITHOUT_PIXELS: Final = frozenset({"sr", "similar", "pdf", "ko", "pr"})


class InvalidRendering(Exception):
    """Error of a rendering parameter that is not valid; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class RenderingParameters:
    """Parameters of a rendered picture.

    Attributes
    ----------
    viewport
        Largest number of columns and rows; None for the size of the picture.
    region
        Left, top, width and height of the shown region, in pixels of the picture; a negative width or height
        flips the picture; None for a value that was not given.
    windowing
        VOI window; None for the one of the header.
    annotations
        Annotations that were asked for; they are not drawn.
    """

    viewport: tuple[int, int] | None = None
    region: tuple[float | None, ...] = _WHOLE
    windowing: VoiWindow | None = None
    quality: int = DEFAULT_QUALITY
    annotations: tuple[str, ...] = ()


def parse_rendering(query: Mapping[str, str], *, thumbnail: bool) -> RenderingParameters:
    """Parse the query parameters of a rendered picture; a thumbnail has only a viewport.

    Raises
    ------
    InvalidRendering
        When a value is not valid by the standard, or not supported.
    """
    viewport: tuple[int, int] | None = None
    region: tuple[float | None, ...] = _WHOLE
    if "viewport" in query:
        viewport, region = _viewport(query["viewport"], thumbnail=thumbnail)
    if thumbnail:
        return RenderingParameters(viewport, region)
    if query.get("iccprofile", "no") != "no":
        raise InvalidRendering("iccprofile must be no: colours are sRGB, and pictures contain no profile.")
    return RenderingParameters(
        viewport,
        region,
        _windowing(query["window"]) if "window" in query else None,
        _quality(query.get("quality", str(DEFAULT_QUALITY))),
        _annotations(query["annotation"]) if "annotation" in query else (),
    )


def _viewport(text: str, *, thumbnail: bool) -> tuple[tuple[int, int], tuple[float | None, ...]]:
    values = text.split(",")
    form = "w,h" if thumbnail else "w,h,sx,sy,sw,sh"
    try:
        width, height = (int(each) for each in values[:2])
        region = [float(each) if each else None for each in values[2:]]
    except ValueError:
        raise InvalidRendering(
            f"viewport must be numbers separated by commas, the first two whole numbers: {form}."
        ) from None
    if len(values) > form.count(",") + 1 or not all(math.isfinite(each or 0) for each in region):
        raise InvalidRendering(f"viewport must have the form {form}.")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InvalidRendering(f"Width and height of viewport must be from 1 to {MAX_SIDE} pixels.")
    return (width, height), (*region, *_WHOLE[len(region) :])


def _windowing(text: str) -> VoiWindow:
    try:
        center, width, function = text.split(",")
        return VoiWindow(float(center), float(width), _FUNCTIONS[function.strip().casefold()])
    except (KeyError, ValueError):
        raise InvalidRendering(
            "window must be center, width and function (linear, linear-exact or sigmoid): c,w,linear; "
            "the width must be more than 0, and at least 1 if linear."
        ) from None


def _quality(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise InvalidRendering("quality must be a whole number from 1 to 100.")
    return int(text)


def _annotations(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if not _ANNOTATIONS.issuperset(words):
        raise InvalidRendering("annotation must be patient, technique, or both separated by a comma.")
    return words


def choose_media_type(accepted: Iterable[MediaRange], *, several: bool) -> tuple[str, bool] | None:
    """Choose the media type of pictures, and whether multipart; None when the client accepts none."""
    for each in accepted:
        for media_type in PICTURE_TYPES:
            if each.includes(media_type) and not (several and each.single_part):
                return media_type, several or not (each.single_part or each.media_type == "*/*")
    return None


def encode_picture(picture: RenderedFrame, parameters: RenderingParameters, media_type: str) -> bytes:
    """Crop, flip, scale and mark a picture, and encode it in its true shape.

    Raises
    ------
    InvalidRendering
        When the region lies outside the picture.
    """
    image = Image.fromarray(picture.pixels)
    if parameters.viewport is not None or picture.aspect_ratio != 1:
        image = _scaled(image, picture.aspect_ratio, parameters.viewport, parameters.region)
    _mark(image)
    stream = io.BytesIO()
    if media_type == "image/jpeg":
        image.save(stream, PICTURE_TYPES[media_type], quality=parameters.quality, subsampling=0)
    else:
        image.save(stream, PICTURE_TYPES[media_type])
    return stream.getvalue()


def _scaled(
    image: Image.Image,
    aspect_ratio: float,
    viewport: tuple[int, int] | None,
    region: tuple[float | None, ...],
) -> Image.Image:
    """Scale a region to the largest size that fits the viewport, undistorted (PS3.18 8.3.5.1.3)."""
    left, top = (abs(each or 0) for each in region[:2])
    width = image.width - left if region[2] is None else abs(region[2])
    height = image.height - top if region[3] is None else abs(region[3])
    if min(width, height) < 1 or left + width > image.width or top + height > image.height:
        whole = f"{image.width} x {image.height} pixels"
        raise InvalidRendering(f"The region is smaller than one pixel, or outside the picture of {whole}.")
    across, down = true_size(width, height, aspect_ratio)
    if viewport is None:  # no larger than a viewport may be, or than the picture is itself
        scale = min(1.0, math.sqrt(max(MAX_SIDE**2, width * height) / (across * down)))
    else:
        scale = min(viewport[0] / across, viewport[1] / down)
    size = max(1, round(across * scale)), max(1, round(down * scale))
    box = (left, top, left + width, top + height)
    found = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    found = ImageOps.mirror(found) if (region[2] or 0) < 0 else found
    return ImageOps.flip(found) if (region[3] or 0) < 0 else found


def _mark(image: Image.Image) -> None:
    """Draw RESEARCH USE ONLY at the bottom, bright with a dark outline."""
    size = max(10, min(image.size) / 40)
    font = fitting(RESEARCH_USE_ONLY, size, max(1, image.width - 4))
    bright, dark = (255, 0) if image.mode == "L" else ((255, 255, 255), (0, 0, 0))
    ImageDraw.Draw(image).text(
        (image.width / 2, image.height - 2), RESEARCH_USE_ONLY,
        fill=bright, stroke_fill=dark, stroke_width=round(size / 10), font=font, anchor="mb",
    )  # fmt: skip
