"""The one preprocessing: the same numbers as MONAI's, for films of every size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from models.processing.transforms import Preprocessing, to_source
from tests.support.drawn_studies import draw_film

SMALL = Preprocessing(grid=64, size=48)


@pytest.mark.filterwarnings("ignore")  # of MONAI's import
@pytest.mark.parametrize("shape", [(150, 120), (64, 64), (300, 64)])
def test_the_arithmetic_is_monais(shape):
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        NormalizeIntensity,
        Resize,
        ScaleIntensityRangePercentiles,
    )

    film = draw_film(*shape, seed=1)
    pre = Preprocessing(grid=64, size=64)
    monai = Compose(
        [
            EnsureChannelFirst(channel_dim="no_channel"),
            Resize((64, 64), mode="area"),
            ScaleIntensityRangePercentiles(pre.low, pre.high, 0, 1, clip=True),
            NormalizeIntensity(subtrahend=pre.mean, divisor=pre.std),
        ]
    )
    expected = torch.as_tensor(monai(film))
    torch.testing.assert_close(pre([film])[0], expected, atol=1e-4, rtol=1e-4, check_device=False)


@pytest.mark.filterwarnings("ignore")  # of MONAI's import
def test_the_preprocessing_composes_with_monais_transforms_and_inverts():
    from monai.data import MetaTensor, get_track_meta, set_track_meta
    from monai.transforms import Compose, NormalizeIntensity

    from models.processing.film_transforms import SquareResize

    before = get_track_meta()
    assert not before  # a MetaTensor at each step costs more than the arithmetic
    chain = Compose([SquareResize(64), NormalizeIntensity(subtrahend=0.0, divisor=1.0)])
    film = draw_film(150, 120, seed=1)
    set_track_meta(True)
    try:
        square = chain(MetaTensor(torch.from_numpy(film)[None]))
        back = chain.inverse(square)
    finally:
        set_track_meta(before)
    assert square.shape == (1, 64, 64)
    assert back.shape == (1, 150, 120)
    np.testing.assert_array_equal(back[0].numpy(), to_source(torch.as_tensor(square[0]), film.shape))


def test_a_film_is_prepared_without_the_optional_libraries_of_monai():
    program = (
        "import sys, numpy as np\nfrom models.processing.transforms import Preprocessing\n"
        "assert 'monai' not in sys.modules\n"
        "Preprocessing()([np.eye(300, dtype=np.float32)])\n"
        "assert 'monai' in sys.modules\n"
        "print(sorted({'transformers', 'matplotlib', 'sklearn', 'tensorboard'} & set(sys.modules)))\n"
        "import transformers"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_monai_runs_the_chains():
    from monai.transforms import Compose, Transform

    from models.processing import film_transforms

    for chain in (film_transforms.standardisation(64, 1, 99), film_transforms.network_input(48, 3, 0.5, 0.5)):
        assert isinstance(chain, Compose)
        assert all(isinstance(step, Transform) for step in chain.transforms)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_gets_what_the_bundle_says(channels):
    images = Preprocessing(grid=64, size=48, channels=channels)(
        [draw_film(100, 80, 0), draw_film(30, 500, 1)]
    )
    assert images.shape == (2, channels, 48, 48)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert all(torch.equal(images[:, 0], images[:, channel]) for channel in range(channels))


def test_a_blank_film_becomes_zeros():
    assert not SMALL.standardise(np.full((50, 70), 0.7, np.float32)).any()


def test_a_film_with_a_value_that_is_not_finite_is_refused():
    film = draw_film(80, 80, 0)
    film[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        SMALL.standardise(film)


def test_a_bright_marker_does_not_darken_the_film():
    film = 0.5 * draw_film(256, 256, 0)
    marked = film.copy()
    marked[:10, :10] = 1
    difference = (SMALL.standardise(film) - SMALL.standardise(marked))[8:, 8:]
    assert float(difference.abs().max()) < 0.05


def test_a_film_that_may_not_be_written_or_runs_backwards_is_read_all_the_same():
    film = draw_film(80, 70, 0)
    turned = np.ascontiguousarray(film[::-1])[::-1]
    fixed = film.copy()
    fixed.setflags(write=False)
    for other in (turned, fixed, np.asfortranarray(film)):
        assert torch.equal(SMALL.standardise(other), SMALL.standardise(film))


def test_a_film_is_not_changed_by_being_read():
    film = draw_film(64, 64, 0)
    before = film.copy()
    SMALL([film])
    assert np.array_equal(film, before)


def test_the_table_of_a_bundle_gives_the_same_preprocessing_back():
    pre = Preprocessing(grid=128, low=1, high=99, size=96, channels=3, mean=0.4, std=0.2)
    again = Preprocessing.from_table(pre.table())
    assert again == pre
    assert again.digest() == pre.digest()
    assert pre.digest() != pre.resized(64).digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "224"}, "not of type int"),
        ({"channels": True}, "not of type int"),
        ({"low": None}, "not of type float"),
        ({"flip": 1}, "unknown flip"),
        ({"size": 512}, "size 512"),
        ({"low": 99.9}, "percentiles"),
        ({"channels": 2}, "2 channels"),
        ({"std": 0.0}, "not positive"),
    ],
)
def test_a_wrong_table_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_table(SMALL.table() | change)


def test_a_missing_entry_does_not_fall_back_to_a_default():
    table = SMALL.table()
    del table["high"]
    with pytest.raises(ValueError, match="missing or unknown high"):
        Preprocessing.from_table(table)


def test_a_spot_comes_back_where_it_was_on_the_film():
    rows, columns = 300, 200
    film = np.zeros((rows, columns), np.float32)
    film[70:100, 140:170] = 1
    seen = SMALL.standardise(film)
    back = to_source(seen, (rows, columns))
    assert back.shape == (rows, columns)
    row, column = np.unravel_index(int(back.argmax()), back.shape)
    assert 70 <= row <= 100
    assert 140 <= column <= 170
