"""Drawn pictures that are no chest films: what a gate must refuse and no collection of photographs holds.

Each drawing is a function of a random generator that gives one grey picture, shape (rows, columns), float32
in [0, 1]. The families that a gate is fitted to and those that it is measured on are two tables without a
family in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from models.processing.types import FloatArray

#: Sides of a drawing, in pixels.
_SIDES = (160, 320)
_WORDS = (
    "chest", "film", "date", "name", "patient", "report", "the", "of", "and", "with", "view", "left", "right",
    "no", "seen", "heart", "lung", "normal", "examination", "clinical", "history", "request", "2019",
    "120 kV", "2.5 mAs", "hospital", "department", "radiology", "findings", "impression", "page",
)  # fmt: skip


def draw(
    families: Mapping[str, Callable[[Generator], FloatArray]], count: int, *, seed: int
) -> list[FloatArray]:
    """Draw so many pictures, the families in turn; the same seed draws the same pictures."""
    generator = np.random.default_rng(seed)
    drawings = list(families.values())
    return [drawings[number % len(drawings)](generator) for number in range(count)]


def _shape(generator: Generator) -> tuple[int, int]:
    rows, columns = generator.integers(*_SIDES, 2)
    return int(rows), int(columns)


def _coin(generator: Generator, share: float) -> bool:
    """True in this share of the cases."""
    return bool(generator.random() < share)


def _plane(generator: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the pixels' centres, y and x, each over [-1, 1]."""
    rows, columns = _shape(generator)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    return y, x


def _grey(values: NDArray[np.floating]) -> FloatArray:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-6)).astype(np.float32)


def noise(generator: Generator) -> FloatArray:
    """White noise, normal or uniform."""
    shape = _shape(generator)
    return _grey(generator.normal(size=shape) if _coin(generator, 0.5) else generator.random(shape))


def clouds(generator: Generator) -> FloatArray:
    """Noise whose power falls with frequency, from grain to clouds."""
    rows, columns = _shape(generator)
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(generator.normal(size=(rows, columns))) / frequency ** generator.uniform(0.5, 2.5)
    return _grey(np.fft.irfft2(spectrum, (rows, columns)))


def gradient(generator: Generator) -> FloatArray:
    """A ramp in any direction, straight or bent."""
    y, x = _plane(generator)
    angle = generator.uniform(0, 2 * np.pi)
    return _grey(_grey(np.cos(angle) * x + np.sin(angle) * y) ** generator.uniform(0.4, 2.5))


def page(generator: Generator) -> FloatArray:
    """Lines of text on paper, dark on light or the other way round."""
    rows, columns = _shape(generator)
    image = Image.new("L", (columns, rows), 255)
    canvas = ImageDraw.Draw(image)
    size = int(generator.integers(7, 26))
    font = ImageFont.load_default(size)
    for top in range(int(generator.integers(2, 30)), rows, int(size * generator.uniform(1.1, 2.2))):
        words = " ".join(generator.choice(_WORDS, 14)) if _coin(generator, 0.85) else ""
        canvas.text(
            (int(generator.integers(2, 20)), top), words, fill=int(generator.integers(0, 110)), font=font
        )
    picture = _grey(np.asarray(image, np.float32))
    return 1 - picture if _coin(generator, 0.4) else picture


def tiles(generator: Generator) -> FloatArray:
    """A chessboard of any grain."""
    y, x = _plane(generator)
    across, down = generator.integers(2, 24, 2)
    return _grey((np.floor((x + 1) * across) + np.floor((y + 1) * down)) % 2 + 0.0)


def shapes(generator: Generator) -> FloatArray:
    """Flat ellipses and boxes on an even ground."""
    rows, columns = _shape(generator)
    image = Image.new("L", (columns, rows), int(generator.integers(0, 256)))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(1, 14))):
        left, right = sorted(generator.integers(0, columns, 2).tolist())
        top, bottom = sorted(generator.integers(0, rows, 2).tolist())
        outline = canvas.ellipse if _coin(generator, 0.6) else canvas.rectangle
        outline((left, top, right + 1, bottom + 1), fill=int(generator.integers(0, 256)))
    return _grey(_softened(image, generator.uniform(0, 4)))


def hand(generator: Generator) -> FloatArray:
    """Something like the radiograph of a hand: five rays of bones in soft tissue."""
    side = 256
    tissue, bone = _canvases(side)
    wrist = np.array([side * generator.uniform(0.42, 0.58), side * generator.uniform(0.78, 0.98)])
    length = side * generator.uniform(0.16, 0.22)
    width = side * generator.uniform(0.022, 0.036)
    spread = generator.uniform(0.16, 0.32)
    for ray in range(5):
        angle = (ray - 2) * spread + generator.normal(0, 0.04) - (0.45 if ray == 0 else 0)
        point = wrist + side * 0.06 * np.array([ray - 2, -1.5])
        for joint, part in enumerate((1.0, 0.62, 0.42, 0.3)[: 3 if ray == 0 else 4]):
            end = point + part * length * (0.8 if ray in (0, 4) else 1) * np.array(
                [np.sin(angle), -np.cos(angle)]
            )
            _long_bone(tissue, bone, point, end, width * (1 - 0.13 * joint), flesh=2.3)
            point = end + 0.03 * length * np.array([np.sin(angle), -np.cos(angle)])
    for _ in range(8):
        centre = wrist + generator.uniform(-1, 1, 2) * side * np.array([0.09, 0.05])
        _ball(tissue, bone, centre, side * generator.uniform(0.018, 0.035))
    for offset in (-0.045, 0.045):
        start = wrist + np.array([offset * side, 0.06 * side])
        _long_bone(tissue, bone, start, start + np.array([0, 0.3 * side]), width * 1.3, flesh=2.6)
    return _exposed(tissue, bone, generator)


def limb(generator: Generator) -> FloatArray:
    """Something like the radiograph of a limb: one or two long bones, often a joint."""
    side = 256
    tissue, bone = _canvases(side)
    bend = generator.uniform(-0.5, 0.5)
    middle = side * generator.uniform(0.4, 0.6, 2)
    for direction, angle in ((-1, generator.normal(0, 0.1)), (1, bend)):
        reach = direction * side * np.array([np.sin(angle), np.cos(angle)])
        width = side * generator.uniform(0.03, 0.07)
        for offset in (0.0,) if _coin(generator, 0.5) else (-0.06, 0.06):
            start = middle + np.array([offset * side, direction * side * 0.02])
            _long_bone(tissue, bone, start, start + reach, width, flesh=generator.uniform(2, 3.4))
        _ball(tissue, bone, middle + reach * 0.05, width * 1.5)
    picture = np.rot90(_exposed(tissue, bone, generator), int(generator.integers(0, 4)))
    return np.ascontiguousarray(picture)


def stripes(generator: Generator) -> FloatArray:
    """Waves of one direction and length."""
    y, x = _plane(generator)
    angle, frequency = generator.uniform(0, np.pi), generator.uniform(3, 90)
    wave = np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y))
    return _grey(np.sign(wave) if _coin(generator, 0.4) else wave)


def rings(generator: Generator) -> FloatArray:
    """A round ramp or rings about a point."""
    y, x = _plane(generator)
    distance = np.hypot(x - generator.uniform(-1, 1), y - generator.uniform(-1, 1))
    return _grey(distance if _coin(generator, 0.5) else np.sin(generator.uniform(3, 40) * distance))


def speckle(generator: Generator) -> FloatArray:
    """Salt and pepper on an even or sloping ground."""
    y, x = _plane(generator)
    ground = 0.5 + generator.uniform(0, 0.4) * x * y
    hit = generator.random(x.shape) < generator.uniform(0.001, 0.3)
    return _grey(np.where(hit, generator.integers(0, 2, x.shape), ground))


def table(generator: Generator) -> FloatArray:
    """A form: ruled boxes with numbers in some."""
    rows, columns = _shape(generator)
    image = Image.new("L", (columns, rows), 240)
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(int(generator.integers(8, 16)))
    for top in range(4, rows, int(generator.integers(14, 40))):
        canvas.line((4, top, columns - 4, top), fill=30)
        for left in range(4, columns, int(generator.integers(40, 90))):
            canvas.line((left, top, left, top + 12), fill=30)
            if _coin(generator, 0.6):
                canvas.text((left + 3, top + 2), f"{generator.uniform(0, 99):.1f}", fill=20, font=font)
    return _grey(np.asarray(image, np.float32))


def foot(generator: Generator) -> FloatArray:
    """Something like a foot seen from the side: a heel, a shaft and a row of toes."""
    side = 256
    tissue, bone = _canvases(side)
    heel = side * np.array([generator.uniform(0.2, 0.3), generator.uniform(0.65, 0.8)])
    _ball(tissue, bone, heel, side * generator.uniform(0.08, 0.11))
    ankle = heel + side * np.array([0.13, -0.12])
    _ball(tissue, bone, ankle, side * 0.08)
    _long_bone(
        tissue,
        bone,
        ankle,
        ankle + side * np.array([generator.uniform(-0.1, 0.1), -0.7]),
        side * 0.06,
        flesh=2,
    )
    for toe in range(5):
        start = ankle + side * np.array([0.06, 0.02 * toe])
        knuckle = start + side * np.array([0.32, 0.05 + 0.025 * toe])
        _long_bone(tissue, bone, start, knuckle, side * 0.022, flesh=2)
        _long_bone(tissue, bone, knuckle, knuckle + side * np.array([0.12, 0.02]), side * 0.016, flesh=2)
    return _exposed(tissue, bone, generator)


#: What a gate is fitted to.
FITTED: Mapping[str, Callable[[Generator], FloatArray]] = {
    drawing.__name__: drawing for drawing in (noise, clouds, gradient, page, tiles, shapes, hand, limb)
}

#: What it is measured on.
HELD_OUT: Mapping[str, Callable[[Generator], FloatArray]] = {
    drawing.__name__: drawing for drawing in (stripes, rings, speckle, table, foot)
}


def _canvases(side: int) -> tuple[Image.Image, Image.Image]:
    """Empty pictures of the soft tissue and of the bones."""
    return Image.new("L", (side, side), 0), Image.new("L", (side, side), 0)


def _long_bone(
    tissue: Image.Image,
    bone: Image.Image,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    width: float,
    *,
    flesh: float,
) -> None:
    """A shaft with a bright rim and thicker ends, in flesh so many times as wide."""
    line = [*start.tolist(), *end.tolist()]
    ImageDraw.Draw(tissue).line(line, fill=255, width=max(2, round(2 * flesh * width)))
    _dot(tissue, end, flesh * width, 255)
    canvas = ImageDraw.Draw(bone)
    canvas.line(line, fill=255, width=max(2, round(2 * width)))
    for point in (start, end):
        _dot(bone, point, 1.35 * width, 225)
    canvas.line(line, fill=150, width=max(1, round(1.1 * width)))


def _ball(tissue: Image.Image, bone: Image.Image, centre: NDArray[np.float64], radius: float) -> None:
    """A short bone with a bright rim."""
    _dot(tissue, centre, 1.8 * radius, 255)
    _dot(bone, centre, radius, 240)
    _dot(bone, centre, 0.8 * radius, 170)


def _dot(image: Image.Image, centre: NDArray[np.float64], radius: float, fill: int) -> None:
    x, y = centre.tolist()
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _exposed(tissue: Image.Image, bone: Image.Image, generator: Generator) -> FloatArray:
    """Soft tissue and bones as a film: blurred, grained, on a dark ground."""
    flesh = _softened(tissue, generator.uniform(3, 7))
    picture = generator.uniform(0.15, 0.45) * flesh + generator.uniform(0.4, 0.7) * _softened(
        bone, generator.uniform(0.6, 1.8)
    )
    picture += generator.normal(0, generator.uniform(0.003, 0.03), picture.shape)
    return _grey(picture)


def _softened(image: Image.Image, radius: float) -> NDArray[np.float32]:
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)
