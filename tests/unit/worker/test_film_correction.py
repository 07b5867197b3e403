"""Film correction: turned, mirrored and inverted films are read as the upright film is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.config.settings import Settings
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.orientation import Orientation
from dicom_node.store.states import StudyState
from models.explain.heatmap import Heatmap
from models.gate.model import Gate
from models.processing.types import Film
from tests.support.factories import put
from tests.support.pipeline_harness import PipelineHarness, reason, results
from tests.support.sr_content import text_of
from worker.film_correction import CorrectedFilm, correct_films, on_stored_films

pytestmark = pytest.mark.films


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate.load()


@pytest.fixture(scope="session")
def chest(films_root: Path) -> np.ndarray:
    """A real frontal film."""
    path = films_root / "openi" / "images" / "1000_IM-0003-1001.jpg"
    return np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)


def _header(**elements: object) -> Dataset:
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def _correct(pixels: np.ndarray, header: Dataset, gate: Gate | None) -> CorrectedFilm:
    stored = np.ascontiguousarray(pixels)
    (found,) = correct_films([(Film("1", stored), header)], gate, lambda _uid: np.float32(1) - stored)
    return found


STORED = {
    "F\\R": np.rot90,
    "R\\H": lambda upright: np.rot90(upright, 2),
    "H\\L": lambda upright: np.rot90(upright, 3),
    "R\\F": lambda upright: upright[:, ::-1],
    "F\\L": lambda upright: upright.T,
}


@pytest.mark.parametrize("directions", STORED)
def test_a_film_that_its_header_calls_turned_or_mirrored_is_read_upright(
    gate: Gate, chest: np.ndarray, directions: str
) -> None:
    header = _header(PatientOrientation=directions.split("\\"))
    found = _correct(STORED[directions](chest), header, gate)
    assert np.array_equal(found.film.pixels, chest)
    assert found.verdict is not None
    assert found.verdict.reason is None
    assert [directions in remark for remark in found.remarks] == [True]


def test_a_remark_repeats_no_value_without_end(gate: Gate, chest: np.ndarray) -> None:
    header = put(_header(), {"PatientOrientation": ["F" * 100_000, "R"]})
    (remark,) = _correct(np.rot90(chest), header, gate).remarks
    assert len(remark) < 200


def test_a_film_that_its_header_calls_mirrored_and_is_not_stays(gate: Gate, chest: np.ndarray) -> None:
    found = _correct(chest, _header(PatientOrientation=["R", "F"]), gate)
    assert np.array_equal(found.film.pixels, chest)
    assert found.remarks == ("the picture is not mirrored as Patient Orientation R\\F says",)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_film_of_a_silent_header_is_turned_back(
    gate: Gate, chest: np.ndarray, quarters: int
) -> None:
    found = _correct(np.rot90(chest, quarters), _header(), gate)
    assert np.array_equal(found.film.pixels, chest)
    assert found.orientation == Orientation(4 - quarters)
    assert "lies on its side or on its head" in found.remarks[0]


def test_a_lateral_film_is_not_mirrored_and_nothing_is_said_of_the_picture(
    gate: Gate, films_root: Path
) -> None:
    path = films_root / "openi" / "images" / "1000_IM-0003-2001.jpg"
    lateral = np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)
    found = _correct(lateral, _header(PatientOrientation=["R", "F"]), gate)
    assert np.array_equal(found.film.pixels, lateral)
    assert found.remarks == ("a lateral film is not mirrored, whatever Patient Orientation R\\F says",)


def test_a_turned_film_that_its_header_calls_upright_the_other_way_is_turned_right(
    gate: Gate, chest: np.ndarray
) -> None:
    found = _correct(chest, _header(PatientOrientation=["R", "H"]), gate)
    assert np.array_equal(found.film.pixels, chest)
    assert found.remarks == ("the picture is not turned or mirrored as Patient Orientation R\\H says",)


@pytest.mark.parametrize(
    "header",
    [
        _header(PhotometricInterpretation="MONOCHROME1"),
        _header(PresentationLUTShape="INVERSE"),
        _header(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"),
    ],
)
def test_a_film_that_is_inverted_by_a_doubtful_header_is_read_the_other_way_round(
    gate: Gate, chest: np.ndarray, header: Dataset
) -> None:
    found = _correct(1 - chest, header, gate)
    assert np.allclose(found.film.pixels, chest, atol=1e-6)
    assert found.inverted
    assert "although the header says" in found.remarks[0]
    assert not _correct(chest, header, gate).inverted


def test_an_inverted_film_of_a_plain_header_stays_refused(gate: Gate, chest: np.ndarray) -> None:
    found = _correct(1 - chest, _header(), gate)
    assert found.verdict is not None
    assert str(found.verdict.reason) == "inverted"
    assert not found.remarks


def test_a_film_that_cannot_be_decoded_again_is_refused_and_the_others_are_read(
    gate: Gate, chest: np.ndarray
) -> None:
    def again(_uid: str) -> np.ndarray:
        raise NotAnalysable("undecodable", "decoding took longer than 30 s and was stopped")

    inverted = _header(PhotometricInterpretation="MONOCHROME1")
    films = [(Film("1", 1 - chest), inverted), (Film("2", chest), _header())]
    refused, read = correct_films(films, gate, again)
    assert refused.verdict is not None
    assert str(refused.verdict.reason) == "inverted"
    assert read.verdict is not None
    assert read.verdict.reason is None


def test_without_a_gate_the_header_is_followed(chest: np.ndarray) -> None:
    found = _correct(np.rot90(chest, 2), _header(PatientOrientation=["R", "H"]), None)
    assert np.array_equal(found.film.pixels, chest)
    assert np.array_equal(found.stored, np.rot90(chest, 2))


@pytest.mark.parametrize("orientation", [Orientation(1), Orientation(2, mirrored=True), Orientation(3, True)])
def test_heat_maps_go_back_to_the_stored_film(orientation: Orientation) -> None:
    stored = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
    film = CorrectedFilm(Film("1", orientation.upright(stored)), Dataset(), orientation)
    rows, columns = film.film.pixels.shape
    (placed,) = on_stored_films([Heatmap("mass", "1", "gradcam", film.film.pixels, (rows, columns))], [film])
    assert np.array_equal(placed.grid, stored)
    assert placed.shape == (4, 6)


@pytest.fixture
def bench(settings: Settings) -> Iterator[PipelineHarness]:
    worker = settings.worker.model_copy(update={"gate": "gate"})
    bench = PipelineHarness(settings.model_copy(update={"worker": worker}))
    with bench.pipeline:
        yield bench


def test_a_turned_study_is_reported_and_the_report_says_so(bench: PipelineHarness, chest: np.ndarray) -> None:
    uid = bench.receive(pixels=np.rot90(chest), PatientOrientation=["F", "R"])
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED, reason(bench)
    report, *pictures = results(bench)
    assert "as Patient Orientation F\\R says" in text_of(report)
    assert pictures
