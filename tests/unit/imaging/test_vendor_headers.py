"""Films with the headers of many makers are read as they are meant, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.imaging.pixels import read_film
from dicom_node.imaging.selection import select
from tests.support.factories import chest, write
from tests.support.vendor_headers import COLUMNS, ROWS, VENDOR_FILMS, VENDORS


def test_the_headers_are_those_of_at_least_eight_makers() -> None:
    assert len({name.partition(",")[0] for name in VENDORS}) >= 8


@pytest.mark.parametrize("name", VENDORS)
def test_a_film_of_each_maker_is_read_as_it_is_meant(name: str, tmp_path: Path) -> None:
    path = write(VENDOR_FILMS[name](), tmp_path / "film.dcm")
    read = read_film(path, max_pixels=10**6)
    (verdict,) = select([read.header])
    assert verdict.reason == VENDORS[name].refused
    assert verdict.analysable == (not VENDORS[name].refused)
    # A window narrows the greys; a polarity or a depth that is read wrongly would move them all.
    assert np.corrcoef(read.pixels.ravel(), chest(ROWS, COLUMNS).ravel())[0, 1] > 0.97
    assert abs(read.pixels - chest(ROWS, COLUMNS)).mean() < 0.12
