"""The pictures of saliency results: a film beside its heat map, or films with outlined findings."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.imaging.pixel_shape import true_size
from dicom_node.results.regions import hot_box
from dicom_node.results.report import FloatArray

Picture: TypeAlias = NDArray[np.uint8]

LEAST_SIDE: Final = 512
"""Smaller films are enlarged to this, so that the banner can be read."""

OPACITY: Final = 0.6
"""Opacity of the heat map where it is highest; where it is 0 the film shows through."""
_BAR_STEPS: Final = 256
_DIM, _GROUND = (170, 170, 170), (16, 16, 16)
_WARNING: Final = (255, 196, 0)

OUTLINE_COLOURS: Final = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
"""Colours that colour-blind readers tell apart (M. Okabe and K. Ito, Color Universal Design, 2008)."""
_LEGEND_EMS: Final = 15

# OKLab to linear sRGB (B. Ottosson, A perceptual color space for image processing, 2020), and the end of
# the linear part of sRGB's transfer function (IEC 61966-2-1).
_LAB_TO_CONE_ROOTS: Final = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB: Final = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_LINEAR_END: Final = 0.0031308


@functools.cache
def colours() -> Picture:
    """Colour table of the heat map: from dark violet over red to orange, evenly lighter.

    Lightness rises evenly in OKLab, so that equal steps of heat look equal and the map reads in grey too. It
    ends in the middle: what is hottest is lighter than dark film and darker than bright film, and differs
    from each grey in colour, for colour-blind readers too.

    Returns
    -------
    numpy.ndarray
        Shape (256, 3), sRGB.
    """
    share = np.linspace(0, 1, _BAR_STEPS)
    lightness = 0.22 + 0.48 * share
    chroma = 0.06 + 0.11 * np.sin(np.pi / 2 * share) ** 0.8  # all within sRGB
    hue = np.deg2rad(300 + 115 * share)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    linear = np.clip(_CONES_TO_RGB @ (_LAB_TO_CONE_ROOTS @ lab) ** 3, 0, 1)
    encoded = np.where(linear <= _LINEAR_END, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table: Picture = np.round(255 * encoded.T).astype(np.uint8)
    table.setflags(write=False)
    return table


@functools.cache
def _overlaid_colours() -> Picture:
    """Colour of each heat and grey: row 256 x heat + grey of shape (65536, 4), sRGB and a zero."""
    heat, grey = np.divmod(np.arange(_BAR_STEPS**2), _BAR_STEPS)
    film = np.repeat(grey.astype(np.uint8)[:, None], 3, axis=1)
    opacity = (OPACITY / 255) * heat.astype(np.float32)[:, None]
    overlaid = film + opacity * (colours()[heat].astype(np.float32) - film)
    return np.pad(overlaid.astype(np.uint8), ((0, 0), (0, 1)))


def _overlaid(grey: Picture, hot: Picture) -> Image.Image:
    """Film under its heat map: the colour of each pixel, as one number of 32 bits, is looked up."""
    pairs = hot.astype(np.uint16) * _BAR_STEPS + grey
    found = _overlaid_colours().view(np.uint32)[:, 0][pairs]
    return Image.frombuffer("RGB", found.shape[::-1], found.tobytes(), "raw", "RGBX", 0, 1)


def draw(
    pixels: FloatArray,
    heat: FloatArray,
    *,
    banner: str,
    caption: str,
    longer_side: int,
    aspect_ratio: float = 1.0,
    map_alone: bool = False,
) -> Picture:
    """Draw film and heat map side by side under a banner.

    Parameters
    ----------
    pixels
        Shape (rows, columns), in [0, 1].
    heat
        Heat map of any shape, in [0, 1]; it covers the whole film.
    banner
        Says that it is for research, and of what.
    caption
        One line below the panels.
    longer_side
        Most rows or columns of each panel.
    aspect_ratio
        Ratio of the height of the film's pixels to their width; those of the picture are square.
    map_alone
        True to put a panel of the map without the film between the two.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns, 3), sRGB.
    """
    backdrop = Backdrop(pixels, caption, longer_side, aspect_ratio, map_alone=map_alone)
    return backdrop.under(heat, banner)


class Backdrop:
    """Picture of a film with room for a heat map and a banner, on which each map of the film is drawn.

    Parameters
    ----------
    pixels, caption, longer_side, aspect_ratio, map_alone
        As in :func:`draw`.
    """

    def __init__(
        self,
        pixels: FloatArray,
        caption: str,
        longer_side: int,
        aspect_ratio: float = 1.0,
        *,
        map_alone: bool = False,
    ) -> None:
        width, height = _panel_size(pixels.shape, longer_side, aspect_ratio)
        self._grey = _resized(pixels, width, height)
        self._maps = 2 if map_alone else 1
        # Everything beside the panels is measured in this, so that it keeps its proportions.
        self._em = em = max(width, height) // 40
        self._gap, self._head = em // 2, 2 * em
        gap, bar, head, foot = self._gap, em, self._head, 2 * em
        left = self._place(1 + self._maps)
        self._canvas = canvas = Image.new(
            "RGB", (left + 2 * gap + bar + 2 * em, head + height + foot), _GROUND
        )
        canvas.paste(Image.fromarray(self._grey).convert("RGB"), (self._place(0), head))
        ramp = np.repeat(colours()[::-1, None], bar, axis=1)
        canvas.paste(Image.fromarray(ramp).resize((bar, height), Image.Resampling.NEAREST), (left, head))
        pen = ImageDraw.Draw(canvas)
        font = ImageFont.load_default(size=em * 0.8)
        for text, y, anchor in (("high", head, "lt"), ("low", head + height, "lb")):
            pen.text((left + bar + gap, y), text, fill=_DIM, font=font, anchor=anchor)
        self._write(canvas, caption, head + height + foot // 2, _DIM)

    def under(self, heat: FloatArray, banner: str) -> Picture:
        """Draw the film under a heat map and a banner; parameters and result as of :func:`draw`."""
        hot = _resized(heat, self._grey.shape[1], self._grey.shape[0])
        canvas = self._canvas.copy()
        if self._maps > 1:
            canvas.paste(Image.fromarray(colours()[hot]), (self._place(1), self._head))
        canvas.paste(_overlaid(self._grey, hot), (self._place(self._maps), self._head))
        self._write(canvas, banner, self._head // 2, _WARNING)
        return np.asarray(canvas)

    def _place(self, number: int) -> int:
        """Left edge of a panel, from 0, or of the colour bar behind the last."""
        width: int = self._grey.shape[1]
        return self._gap + number * (width + self._gap)

    def _write(self, canvas: Image.Image, text: str, y: int, colour: tuple[int, int, int]) -> None:
        font = fitting(text, self._em * 1.05, canvas.width - 2 * self._gap)
        ImageDraw.Draw(canvas).text((self._gap, y), text, fill=colour, font=font, anchor="lm")


@dataclass(frozen=True, slots=True, eq=False)
class OutlinedFilm:
    """Film with the places of findings.

    Attributes
    ----------
    pixels
        Shape (rows, columns), in [0, 1].
    heat
        Number of a finding, from 1 -> its heat map of any shape, in [0, 1]; it covers the whole film.
    aspect_ratio
        Ratio of the height of the film's pixels to their width.
    """

    pixels: FloatArray
    heat: dict[int, FloatArray]
    aspect_ratio: float = 1.0


def draw_outlined(
    films: Sequence[OutlinedFilm],
    names: Sequence[tuple[str, str]],
    *,
    banner: str,
    caption: str,
    longer_side: int,
) -> Picture:
    """Draw films side by side under a banner, with numbered boxes around the findings, and a legend.

    A box is that of :func:`dicom_node.results.regions.hot_box`.

    Parameters
    ----------
    films
        At least one.
    names
        Name of each finding and what is said of it; at most as many as there are colours.
    banner, caption, longer_side
        As in :func:`draw`.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns, 3), sRGB.
    """
    sizes = [_panel_size(film.pixels.shape, longer_side, film.aspect_ratio) for film in films]
    height = max(rows for _, rows in sizes)
    em = max(map(max, sizes)) // 40
    gap, head, foot, legend = em // 2, 2 * em, 2 * em, _LEGEND_EMS * em
    across = sum(columns + gap for columns, _ in sizes)
    canvas = Image.new("RGB", (gap + across + legend + gap, head + height + foot), _GROUND)
    pen = ImageDraw.Draw(canvas)
    left = gap
    for film, size in zip(films, sizes, strict=True):
        canvas.paste(Image.fromarray(_resized(film.pixels, *size)).convert("RGB"), (left, head))
        _outline(pen, film, (left, head, *size), em)
        left += size[0] + gap
    for number, (name, said) in enumerate(names, 1):
        top = head + (number - 1) * 3 * em
        _tag(pen, (left, top), number, em)
        room = legend - 2 * em
        for text, letters, down, colour in ((name, em, 0.6, (255, 255, 255)), (said, 0.85 * em, 1.8, _DIM)):
            pen.text(
                (left + 2 * em, top + down * em),
                text,
                fill=colour,
                font=fitting(text, letters, room),
                anchor="lm",
            )
    room = canvas.width - 2 * gap
    for text, y, colour in ((banner, head // 2, _WARNING), (caption, head + height + foot // 2, _DIM)):
        pen.text((gap, y), text, fill=colour, font=fitting(text, em * 1.05, room), anchor="lm")
    return np.asarray(canvas)


def _outline(pen: ImageDraw.ImageDraw, film: OutlinedFilm, place: tuple[int, int, int, int], em: int) -> None:
    """Draw the boxes of a film; its panel has a left, top, width and height. No number hides another."""
    left, top, width, height = place
    side = _tag_side(em)
    tags: dict[int, tuple[int, int]] = {}
    for number, heat in film.heat.items():
        box = hot_box(heat, (height, width))
        if box is None:
            continue
        x, y = left + round(box[0]), top + round(box[1])
        right, bottom = left + round(box[2]) - 1, top + round(box[3]) - 1
        pen.rectangle(
            (x, y, max(x, right), max(y, bottom)), outline=OUTLINE_COLOURS[number - 1], width=max(1, em // 8)
        )
        x, y = min(x, left + width - side), min(y, top + height - side)
        while any(abs(x - other) < side and abs(y - below) < side for other, below in tags.values()):
            x, y = (x + side, y) if x + 2 * side <= left + width else (left, y + side)
        tags[number] = (x, y)
    for number, corner in tags.items():  # over the boxes of all
        _tag(pen, corner, number, em)


def _tag(pen: ImageDraw.ImageDraw, corner: tuple[int, int], number: int, em: int) -> None:
    """Draw the number of a finding, black in a square of its colour."""
    x, y = corner
    side = _tag_side(em)
    pen.rectangle((x, y, x + side - 1, y + side - 1), fill=OUTLINE_COLOURS[number - 1])
    middle = (x + side / 2, y + side / 2)
    pen.text(middle, str(number), fill=(0, 0, 0), font=ImageFont.load_default(size=max(1, em)), anchor="mm")


def _tag_side(em: int) -> int:
    return max(2, round(1.3 * em))


def draw_film(pixels: FloatArray, *, longer_side: int, aspect_ratio: float = 1.0) -> Picture:
    """Draw the film alone.

    Parameters
    ----------
    pixels, longer_side, aspect_ratio
        As in :func:`draw`.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns, 3), sRGB.
    """
    grey = _resized(pixels, *_panel_size(pixels.shape, longer_side, aspect_ratio))
    return np.repeat(grey[:, :, None], 3, axis=2)


def _panel_size(shape: tuple[int, ...], longer_side: int, aspect_ratio: float) -> tuple[int, int]:
    columns, rows = true_size(shape[1], shape[0], aspect_ratio)
    longer = max(rows, columns)
    scale = min(longer_side, max(longer, LEAST_SIDE)) / longer
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def _resized(values: FloatArray, width: int, height: int) -> Picture:
    """Values in [0, 1] as 8 bits at another size; what is made smaller is averaged."""
    eight_bits = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if eight_bits.size == (width, height):
        return np.asarray(eight_bits)
    return np.asarray(eight_bits.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def fitting(text: str, size: float, room: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Font in which the text fits into so many pixels, at most of the given size."""
    font = ImageFont.load_default(size=size)
    while (length := font.getlength(text)) > room and size > 1:
        size = max(1, size * 0.98 * room / length)  # hinting makes small letters wider than their share
        font = ImageFont.load_default(size=size)
    return font
