"""Pictures as a client asks for them: how large, which part, and what stands in each."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dicom_node.dicomweb.server.rendered import (
    MAX_SIDE,
    InvalidRendering,
    RenderingParameters,
    choose_media_type,
    encode_picture,
    parse_rendering,
)
from dicom_node.dicomweb.server.wado import parse_accept
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.imaging.voi import VoiWindow

SIDES = st.integers(1, 300)


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as one:
        return np.asarray(one).astype(int)


def test_parameters_are_understood_as_the_standard_writes_them() -> None:
    asked = {"viewport": "512,256,,,-64.5,32", "window": "-40.5,400,linear-exact", "quality": "7"}
    view = parse_rendering({**asked, "annotation": "technique", "other": "1"}, thumbnail=False)
    assert view == RenderingParameters(
        (512, 256), (None, None, -64.5, 32.0), VoiWindow(-40.5, 400, "LINEAR_EXACT"), 7, ("technique",)
    )
    assert parse_rendering({"viewport": "64,64", "window": "bad"}, thumbnail=True) == RenderingParameters(
        (64, 64)
    )
    assert parse_rendering({}, thumbnail=False) == RenderingParameters()


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, SIDES, SIDES, st.booleans())
def test_a_picture_fills_its_viewport_undistorted(
    rows: int, columns: int, width: int, height: int, colour: bool
) -> None:
    picture = np.full((rows, columns, 3) if colour else (rows, columns), 90, np.uint8)
    found = opened(encode_picture(RenderedFrame(picture), RenderingParameters((width, height)), "image/png"))
    assert found.shape[0] <= height
    assert found.shape[1] <= width
    assert found.shape[0] == height or found.shape[1] == width
    wanted = rows * min(height / rows, width / columns), columns * min(height / rows, width / columns)
    assert np.abs(np.subtract(found.shape[:2], wanted)).max() <= 1


@settings(deadline=None, max_examples=200)
@given(
    st.text("0123456789,.-+e nax", max_size=20)
    | st.lists(st.floats(-50, 50), max_size=4).map(lambda rest: ",".join(map(str, (9, 9, *rest)))),
    st.sampled_from(["viewport", "window", "quality", "annotation"]),
)
@example("9,9,,,1e-310,1e-310", "viewport")
def test_whatever_is_asked_is_followed_or_refused(said: str, name: str) -> None:
    refusal = "."
    try:
        view = parse_rendering({name: said}, thumbnail=False)
        assert len(encode_picture(RenderedFrame(np.zeros((20, 30), np.uint8)), view, "image/jpeg")) > 0
    except InvalidRendering as error:
        refusal = str(error)
    assert refusal.endswith(".")


def test_a_region_is_cut_and_flipped() -> None:
    picture = np.arange(200, dtype=np.uint8).reshape(200, 1).repeat(100, 1)
    picture[:, :50] = 250
    view = parse_rendering({"viewport": "100,100,25,40,50,50"}, thumbnail=False)
    found = opened(encode_picture(RenderedFrame(picture), view, "image/png"))
    assert found.shape == (100, 100)
    assert set(found[:70, :48].ravel()) == {250}
    assert np.abs(found[:70, 52:] - (40 + np.arange(70)[:, None] / 2)).max() <= 1
    flipped = parse_rendering({"viewport": "100,100,25,40,-50,-50"}, thumbnail=False)
    other = opened(encode_picture(RenderedFrame(picture), flipped, "image/png"))
    assert np.array_equal(other[30:70, :], found[30:70][::-1, ::-1])
    with pytest.raises(InvalidRendering, match="100 x 200"):
        encode_picture(
            RenderedFrame(picture), RenderingParameters((10, 10), (60.0, None, 50.0, None)), "image/png"
        )


@pytest.mark.parametrize(("ratio", "shape"), [(2, (80, 60)), (0.5, (40, 120)), (1, (40, 60))])
def test_a_picture_of_pixels_that_are_not_square_has_its_true_shape(
    ratio: float, shape: tuple[int, int]
) -> None:
    frame = RenderedFrame(np.zeros((40, 60), np.uint8), ratio)
    assert opened(encode_picture(frame, RenderingParameters(), "image/png")).shape == shape
    fitted = opened(encode_picture(frame, RenderingParameters((300, 300)), "image/png"))
    assert max(fitted.shape) == 300
    assert fitted.shape[0] / fitted.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.01)
    # A region is given in pixels of the picture itself.
    region = parse_rendering({"viewport": "300,300,30,0,30,40"}, thumbnail=False)
    part = opened(encode_picture(frame, region, "image/png")).shape
    assert part[0] / part[1] == pytest.approx(2 * shape[0] / shape[1], rel=0.01)


def test_long_pixels_make_no_picture_larger_than_a_viewport_may_be() -> None:
    frame = RenderedFrame(np.zeros((3000, 3000), np.uint8), 4)
    height, width = opened(encode_picture(frame, RenderingParameters(), "image/png")).shape
    assert height * width == pytest.approx(MAX_SIDE**2, rel=0.001)
    assert height / width == pytest.approx(4, rel=0.001)


@pytest.mark.parametrize("mode", ["grey", "colour"])
@pytest.mark.parametrize("ground", [0, 128, 255])
def test_each_picture_says_what_it_is_for(mode: str, ground: int) -> None:
    shape = (160, 130) if mode == "grey" else (160, 130, 3)
    found = opened(
        encode_picture(RenderedFrame(np.full(shape, ground, np.uint8)), RenderingParameters(), "image/png")
    )
    bottom = found[-16:].reshape(16, -1)
    assert bottom.max() - bottom.min() > 200
    assert (np.abs(bottom - ground).max(axis=0) > 100).mean() > 0.5  # from side to side
    assert np.array_equal(found[:-16], np.full_like(found[:-16], ground))


@pytest.mark.parametrize(
    ("accept", "one", "several"),
    [
        ("", ("image/jpeg", False), ("image/jpeg", True)),
        ("*/*", ("image/jpeg", False), ("image/jpeg", True)),
        ("image/*", ("image/jpeg", False), None),
        ("text/html, image/png", ("image/png", False), None),
        ('multipart/related; type="image/png"', ("image/png", True), ("image/png", True)),
        ("image/jp2, application/dicom", None, None),
        ("image/jpeg;q=0", None, None),
    ],
)
def test_the_media_type_is_one_that_is_taken(
    accept: str, one: tuple[str, bool] | None, several: tuple[str, bool] | None
) -> None:
    taken = parse_accept(accept)
    assert choose_media_type(taken, several=False) == one
    assert choose_media_type(taken, several=True) == several
