"""Film viewer: description of a study, and its pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from dicom_node.imaging.orientation import Orientation
from dicom_node.results.image.overlay import colours
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord, ImageRecord
from dicom_node.store.prior_requests import PriorRequests
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from tests.support.factories import film, uid, with_overlay
from tests.support.offline_node import OfflineNode

HEAT = np.arange(12, dtype=np.uint8).reshape(3, 4)
GREYS = np.linspace(0, 4095, 64 * 80).reshape(64, 80).astype(np.int64)
STUDY_DATE = "20240229"


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node that has read one film: 12 bits, MONOCHROME1, windowed, and to the gate inverted."""
    node = OfflineNode(tmp_path / "data")
    ds = film(pixels=GREYS, photometric="MONOCHROME1", window=(2048, 1024), study=1, SOPInstanceUID=uid(1, 1))
    kept = AnalysisRecord(
        model="tiny",
        model_version="1.0.0",
        parameters=(),
        normality="absent",
        findings=(FindingRecord("nodule", "Nodule", 0.7, 0.9, 0.4, "present"),),
        images=(ImageRecord(uid(1, 1), "frontal", "inverted", "the lungs are bright"),),
        maps=(HeatMapRecord("nodule", uid(1, 1), "Grad-CAM"),),
        maps_file=node.data_dir.maps.keep([HEAT]),
    )
    node.finish(1, StudyState.REPORTED, films=[ds], reading=kept)
    yield node
    node.close()


def test_a_film_comes_in_its_full_depth_with_its_window(shown: OfflineNode, client_of: TestClient) -> None:
    told = client_of.get("/api/v1/studies/1/viewer").json()
    (image,) = told["images"]
    window, scale = image.pop("window"), image.pop("scale")
    (offered,) = image.pop("windows")
    assert image == {
        "id": 1, "view": "frontal", "columns": 80, "rows": 64, "inverted": True, "prior": False,
        "mirrored": False, "turns": 0,
        "pixels": "/api/v1/studies/1/images/1/pixels", "aspect_ratio": 1, "curve": None, "overlay": None,
        "imager_spacing": None, "study": 1, "study_date": STUDY_DATE,
    }  # fmt: skip
    # LINEAR: centre 2048, width 1024 is 1536 to 2559 (PS3.3 C.11.2.1.2), the other way round and of 65535.
    assert window["center"] == pytest.approx(65535 * (1 - 2047.5 / 4095), abs=2)
    assert window["width"] == pytest.approx(65535 * 1023 / 4095, abs=2)
    assert offered.pop("name") == ""
    assert offered == pytest.approx(window, abs=2)
    # In stored values, low to high: the film is the other way round.
    assert scale["intercept"] + scale["slope"] * window["center"] == pytest.approx(2047.5, abs=0.1)
    assert scale["slope"] * window["width"] == pytest.approx(-1023, abs=0.1)
    answer = client_of.get(image["pixels"])
    assert (answer.headers["X-Rows"], answer.headers["X-Columns"]) == ("64", "80")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    values = np.frombuffer(answer.content, "<u2").reshape(64, 80)
    expected = np.round(65535 * (1 - GREYS / 4095))
    np.testing.assert_allclose(values, expected, atol=1)
    assert len(np.unique(values)) == len(np.unique(GREYS))


def test_a_study_that_is_opened_at_once_has_its_headers(shown: OfflineNode) -> None:
    at_once = TestClient(create_app(shown.settings), base_url="http://localhost")  # its threads do not run
    (image,) = at_once.get("/api/v1/studies/1/viewer").json()["images"]
    assert image["study_date"] == STUDY_DATE


def test_a_heat_map_comes_as_it_was_kept(client_of: TestClient) -> None:
    (entry,) = client_of.get("/api/v1/studies/1/viewer").json()["maps"]
    assert entry == {
        "finding": "nodule", "name": "Nodule", "method": "Grad-CAM", "image": 1,
        "map": "/api/v1/studies/1/maps/0?revision=1",
    }  # fmt: skip
    answer = client_of.get(entry["map"])
    assert (answer.headers["X-Rows"], answer.headers["X-Columns"]) == ("3", "4")
    assert answer.content == HEAT.tobytes()
    told = client_of.get("/api/v1/studies/1/viewer").json()["colours"]
    assert [tuple(bytes.fromhex(each[1:])) for each in told] == [tuple(each) for each in colours()]
    assert client_of.get("/api/v1/studies/1/maps/1").status_code == 404


def test_windows_of_a_header_come_with_their_names_and_the_scale_that_they_are_in(
    client: TestClient, node: OfflineNode
) -> None:
    ds = film(pixels=GREYS, study=1, SOPInstanceUID=uid(1, 1), RescaleSlope=2, RescaleIntercept=-100)
    ds.WindowCenter, ds.WindowWidth = [4000, 6000, 90000], [5000, 2001, 10]
    ds.WindowCenterWidthExplanation = ["NORMAL", "HARDER"]
    node.receive(1, ds=ds)
    (image,) = client.get("/api/v1/studies/1/viewer").json()["images"]
    slope, intercept = image["scale"]["slope"], image["scale"]["intercept"]
    values = np.frombuffer(client.get(image["pixels"]).content, "<u2").reshape(64, 80)
    np.testing.assert_allclose(intercept + slope * values, 2 * GREYS - 100, atol=0.2)
    windows = image["windows"]
    assert [each["name"] for each in windows] == ["NORMAL", "HARDER", ""]
    # LINEAR: from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2 (PS3.3 C.11.2.1.2.1).
    for each, center, width in zip(windows, (3999.5, 5999.5, 89999.5), (4999, 2000, 9), strict=True):
        assert intercept + slope * each["center"] == pytest.approx(center, abs=0.1)
        assert slope * each["width"] == pytest.approx(width, abs=0.1)
    assert image["window"] == pytest.approx({key: windows[0][key] for key in ("center", "width")}, abs=2)


def test_films_hang_by_view_and_say_the_spacing_at_the_detector(
    shown: OfflineNode, client_of: TestClient
) -> None:
    for number, view in ((1, "LL"), (2, "PA")):
        seen = film(
            rows=64,
            columns=64,
            study=2,
            view=view,
            patient_id="OTHER",
            SOPInstanceUID=uid(2, number),
            ImagerPixelSpacing=[0.14, 0.15],
        )
        shown.receive(2, ds=seen)
    frontal, lateral = client_of.get("/api/v1/studies/2/viewer").json()["images"]
    assert frontal["id"] > lateral["id"]
    assert frontal["imager_spacing"] == [0.14, 0.15]


def test_the_study_page_holds_the_viewer(client_of: TestClient) -> None:
    page = client_of.get("/studies/1").text
    assert '<div id="viewer" data-api="/api/v1/studies/1/viewer"></div>' in page
    assert '<script type="module" src="/static/viewer/viewer.js"></script>' in page
    assert '<link rel="stylesheet" href="/static/viewer/viewer.css">' in page
    assert "70 %" in page


def test_the_study_before_of_the_same_patient_is_a_prior(shown: OfflineNode, client_of: TestClient) -> None:
    for study, patient, date in (
        (2, "PAT-1", "20200101"),
        (3, "PAT-2", "20200102"),
        (4, "PAT-1", "20190101"),
    ):
        shown.receive(study, ds=film(rows=64, columns=64, study=study, patient_id=patient, StudyDate=date,
                                     SOPInstanceUID=uid(study, 1)))  # fmt: skip
    shown.context.event_stream.study_headers.update([1, 2, 3, 4])
    images = client_of.get("/api/v1/studies/1/viewer").json()["images"]
    assert [(each["prior"], each["pixels"]) for each in images] == [
        (False, "/api/v1/studies/1/images/1/pixels"),
        (True, "/api/v1/studies/2/images/2/pixels"),
    ]
    assert [(each["study"], each["study_date"]) for each in images] == [(1, STUDY_DATE), (2, "20200101")]


def test_a_prior_that_was_fetched_is_shown_beside_the_study(
    shown: OfflineNode, client_of: TestClient
) -> None:
    ds = film(rows=64, columns=64, study=2, StudyDate="20230101", SOPInstanceUID=uid(2, 1))
    PriorRequests(shown.index.engine).record(
        ds.StudyInstanceUID, source_ae="PACS", move_destination="DICOM_NODE"
    )
    shown.receive(2, ds=ds, moved_for="DICOM_NODE")
    shown.context.event_stream.study_headers.update([1, 2])
    images = client_of.get("/api/v1/studies/1/viewer").json()["images"]
    assert [(each["prior"], each["pixels"]) for each in images] == [
        (False, "/api/v1/studies/1/images/1/pixels"),
        (True, "/api/v1/studies/2/images/2/pixels"),
    ]
    assert client_of.get(images[1]["pixels"]).status_code == 200
    assert "prior of another study" in client_of.get("/studies/2").text


def test_a_film_comes_with_its_curve_its_shape_and_its_overlay(client: TestClient, node: OfflineNode) -> None:
    drawn = np.arange(64 * 80).reshape(64, 80) % 5 == 0
    ds = film(
        pixels=GREYS,
        window=(2048, 500),
        voi_function="SIGMOID",
        study=1,
        SOPInstanceUID=uid(1, 1),
        PixelSpacing=["0.2", "0.1"],
    )
    node.receive(1, ds=with_overlay(ds, drawn))
    (image,) = client.get("/api/v1/studies/1/viewer").json()["images"]
    assert image["aspect_ratio"] == 2
    curve, window = np.array(image["curve"]), image["window"]
    low = window["center"] - window["width"] / 2
    places = (low + np.linspace(0, window["width"], len(curve))) / 65535 * 4095
    expected = 65535 / (1 + np.exp(-4 * (places - 2048) / 500))
    assert np.abs(curve - expected).max() < 65535 / 510
    assert image["overlay"] == "/api/v1/studies/1/images/1/overlay"
    answer = client.get(image["overlay"])
    assert (answer.headers["X-Rows"], answer.headers["X-Columns"]) == ("64", "80")
    assert answer.content == np.packbits(drawn, bitorder="little").tobytes()
    # The small picture has the shape of the film: twice as high as its rows are.
    with Image.open(io.BytesIO(client.get("/api/v1/studies/1/images/1/thumbnail").content)) as small:
        assert small.height / small.width == pytest.approx(128 / 80, rel=0.02)


def test_a_film_whose_file_is_lost_is_named_beside_the_others(client: TestClient, node: OfflineNode) -> None:
    node.receive(1)
    for name in list(node.data_dir.spool.names()):
        node.data_dir.spool.path(name).unlink()
    node.receive(1, ds=film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 2)))
    answer = client.get("/api/v1/studies/1/viewer")
    assert answer.status_code == 200
    told = answer.json()
    assert [image["id"] for image in told["images"]] == [2]
    (lost,) = told["lost"]
    assert (lost["id"], lost["view"], lost["prior"]) == (1, "", False)
    for what in ("pixels", "overlay", "thumbnail"):
        answer = client.get(f"/api/v1/studies/1/images/1/{what}")
        assert (answer.status_code, answer.json()["error"][:16]) == (410, "The file is lost")
        assert client.get(f"/api/v1/studies/1/images/2/{what}").status_code == 200
    assert "No such file" in lost["error"]


def test_a_small_picture_is_kept_under_the_digest_of_its_film(
    shown: OfflineNode, client_of: TestClient
) -> None:
    address = "/api/v1/studies/1/images/1/thumbnail"
    first = client_of.get(address)
    assert first.headers["Content-Type"] == "image/png"
    (kept,) = (shown.data_dir.thumbnails).glob("*/*.png")
    assert kept.read_bytes() == first.content == client_of.get(address).content
    middle = len(first.content) // 2
    flipped = first.content[:middle] + bytes([first.content[middle] ^ 1]) + first.content[middle + 1 :]
    for damaged in (b"", first.content[:-20], bytes(len(first.content)), flipped):
        kept.write_bytes(damaged)
        assert client_of.get(address).content == first.content
        assert kept.read_bytes() == first.content


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_film_is_described_as_the_models_saw_it(
    client: TestClient, node: OfflineNode, turns: int, mirrored: bool
) -> None:
    record = ImageRecord(uid(1, 1), "frontal", "", "", turns=turns, mirrored=mirrored)
    kept = AnalysisRecord("tiny", "1", (), "absent", (), (record,))
    node.finish(1, StudyState.REPORTED, reading=kept)
    (image,) = client.get("/api/v1/studies/1/viewer").json()["images"]
    stored = np.arange(6).reshape(2, 3)
    seen = np.rot90(stored[:, ::-1] if image["mirrored"] else stored, -image["turns"])
    np.testing.assert_array_equal(seen, Orientation(turns, mirrored).upright(stored))


def test_a_film_that_cannot_be_decoded_is_left_out_and_says_why(
    client: TestClient, node: OfflineNode
) -> None:
    ds = film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1))
    del ds.PixelData
    node.receive(1, ds=ds)
    told = client.get("/api/v1/studies/1/viewer").json()
    assert told["images"] == told["maps"] == []
    assert [each["error"] for each in told["lost"]] == ["the instance holds no pixel data."]
    answer = client.get("/api/v1/studies/1/images/1/pixels")
    assert answer.status_code == 422
    assert answer.json() == {"error": "the instance holds no pixel data."}
    assert client.get("/api/v1/studies/1/images/1/thumbnail").status_code == 200


@pytest.mark.parametrize("path", ["studies/9", "studies/1/images/9/pixels", "studies/9/images/1/thumbnail"])
def test_what_is_not_there_is_404(client_of: TestClient, path: str) -> None:
    assert client_of.get(f"/api/v1/{path}").json() == {"error": "There is no such page."}


@pytest.fixture
def client_of(shown: OfflineNode) -> Iterator[TestClient]:
    with shown.browser() as one:
        yield one
