"""Files that come by the page, and films that are tried."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom import dcmread

from dicom_node.store.files import data_set_offset
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.tables import instance
from dicom_node.web.media.trial_films import PICTURE_DESCRIPTION, TRIAL_DESCRIPTION
from tests.support.factories import chest, encoded, film, uid
from tests.support.offline_node import OfflineNode

GREYS = (chest(96, 80) * 255).astype(np.uint8)


def headers(client: TestClient) -> dict[str, str]:
    found = re.search(r'X-CSRF-Token": "(\w+)"', client.get("/try").text)
    assert found
    return {"X-CSRF-Token": found[1]}


def picture(kind: str, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(GREYS.astype(np.uint16) * 257).save(stream, kind)
    else:
        Image.fromarray(GREYS).convert(mode).save(stream, kind)
    return stream.getvalue()


def test_an_uploaded_file_is_received_as_any_other(node: OfflineNode, client: TestClient) -> None:
    ds = film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1))
    for _ in range(2):
        answer = client.post("/api/v1/instances", content=encoded(ds), headers=headers(client))
        assert (answer.status_code, answer.json()) == (201, {"study": 1})
    with node.index.engine.connect() as connection:
        (row,) = connection.execute(instance.select()).all()
    assert (row.sop_instance_uid, row.receptions, row.calling_ae) == (uid(1, 1), 2, "READING_ROOM")
    assert row.peer_host != TRIAL_HOST
    assert not list(node.data_dir.spool.incoming.iterdir())
    assert client.get("/api/v1/studies/1").json()["state"] == "RECEIVING"


def test_an_uploaded_file_is_stored_without_its_preamble(node: OfflineNode, client: TestClient) -> None:
    content = encoded(film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1)))
    program = b"MZ" + content[2:]
    answer = client.post("/api/v1/instances", content=program, headers=headers(client))
    assert answer.status_code == 201
    (name,) = node.data_dir.spool.names()
    kept = node.data_dir.spool.path(name).read_bytes()
    assert kept[:132] == bytes(128) + b"DICM"
    assert kept[data_set_offset(kept) :] == content[data_set_offset(content) :]
    meta = dcmread(io.BytesIO(kept)).file_meta
    assert meta.SendingApplicationEntityTitle == "READING_ROOM"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty."),
        (b"x" * 5000, "The file is not a DICOM, PNG or JPEG picture."),
        (b"%PDF-1.7" + bytes(200), "The file is a PDF document: save the film itself as DICOM, PNG or JPEG."),
        (bytes(128) + b"DICM" + bytes(200), "DICOM Part 10"),
        (encoded(film(rows=64, columns=64, sop_class="1.2.840.10008.5.1.4.1.1.2")), "not a radiograph"),
        (encoded(film(rows=64, columns=64, StudyInstanceUID="../../etc")), ""),
    ],
    ids=["empty", "text", "PDF", "prefix", "CT", "UID"],
)
def test_what_is_no_film_is_not_taken(
    node: OfflineNode, client: TestClient, content: bytes, words: str
) -> None:
    answer = client.post("/api/v1/instances", content=content, headers=headers(client))
    assert answer.status_code == 415
    assert words in answer.json()["error"]
    assert not list(node.data_dir.spool.names())
    assert not list(node.data_dir.spool.incoming.iterdir())


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "I;16")),
        *(("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK")),
    ],
)
def test_a_picture_is_tried_as_a_study_of_its_own(
    node: OfflineNode, client: TestClient, kind: str, mode: str
) -> None:
    answer = client.post("/api/v1/trials", content=picture(kind, mode), headers=headers(client))
    assert answer.json() == {"study": 1}
    assert client.get("/api/v1/studies/1").json()["state"] == "COMPLETE"
    with node.index.engine.connect() as connection:
        (row,) = connection.execute(instance.select()).all()
    assert row.peer_host == TRIAL_HOST
    shown = node.context.film_decoder.decode(node.data_dir.spool.path(row.file)).values / 65535
    expected = (GREYS - float(GREYS.min())) / (float(GREYS.max()) - float(GREYS.min()))
    assert np.abs(shown - expected).mean() < (0.02 if kind == "JPEG" else 0.002)


def test_a_film_that_is_tried_loses_its_names(node: OfflineNode, client: TestClient) -> None:
    ds = film(rows=64, columns=64, study=1, patient_name="Doe^Jane", AccessionNumber="ACC-5")
    assert client.post("/api/v1/trials", content=encoded(ds), headers=headers(client)).status_code == 201
    (name,) = node.data_dir.spool.names()
    kept = dcmread(node.data_dir.spool.path(name))
    assert "Doe" not in str(kept)
    assert "ACC-5" not in str(kept)
    assert kept.StudyInstanceUID != ds.StudyInstanceUID
    assert kept.StudyDescription == TRIAL_DESCRIPTION


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a nothing", "a GIF picture, which holds too few greys"),
        (b"II*\x00" + bytes(300), "a TIFF picture: save the film as DICOM or 16-bit PNG"),
        (b"\0\0\0\x18ftypheic", "a HEIC picture or a video"),
        (b"RIFF0000WEBPVP8 ", "a WebP picture"),
        (b"PK\x03\x04 and so on", "a ZIP archive: unpack it"),
        (b"", "The file is empty."),
        (picture("PNG")[:500], "damaged or ends early"),
        (picture("JPEG")[:-900], "damaged or ends early"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 300, "damaged or ends early"),
        (encoded(film(rows=64, columns=64, PixelData=None)), "holds no picture"),
    ],
    ids=["GIF", "TIFF", "HEIC", "WebP", "ZIP", "empty", "cut PNG", "cut JPEG", "PNG", "no pixels"],
)
def test_a_trial_that_is_no_picture_says_what_it_is(client: TestClient, content: bytes, words: str) -> None:
    answer = client.post("/api/v1/trials", content=content, headers=headers(client))
    assert answer.status_code == 415
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text


def coloured(*, marker: bool) -> bytes:
    """A grey film in RGB, with a small red marker, or one half of it in colours."""
    colours = np.repeat(GREYS[..., None], 3, axis=2).copy()
    colours[: 8 if marker else 48, : 8 if marker else 80, 1:] //= 4
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, "PNG")
    return stream.getvalue()


def test_a_colour_photograph_is_refused_and_a_coloured_marker_is_not(client: TestClient) -> None:
    for path in ("/api/v1/trials", "/api/v1/instances"):
        refused = client.post(path, content=coloured(marker=False), headers=headers(client))
        assert refused.status_code == 415
        assert "is in colours" in refused.json()["error"]
        assert client.post(path, content=coloured(marker=True), headers=headers(client)).status_code == 201


def test_a_picture_is_added_to_the_node_as_a_film_with_destinations(
    node: OfflineNode, client: TestClient
) -> None:
    answer = client.post("/api/v1/instances", content=picture("PNG", "I;16"), headers=headers(client))
    assert (answer.status_code, answer.json()) == (201, {"study": 1})
    with node.index.engine.connect() as connection:
        (row,) = connection.execute(instance.select()).all()
    assert row.peer_host != TRIAL_HOST
    kept = dcmread(node.data_dir.spool.path(row.file))
    assert (str(kept.PatientName), kept.BitsStored) == ("Added^Picture", 16)
    assert kept.PatientID.startswith("picture-")
    assert kept.StudyDescription == PICTURE_DESCRIPTION
    assert client.get("/api/v1/studies/1").json()["state"] == "RECEIVING"


def test_films_of_a_group_are_one_study_that_waits_for_the_last(
    node: OfflineNode, client: TestClient
) -> None:
    def send(content: bytes, query: str) -> int:
        answer = client.post(f"/api/v1/trials{query}", content=content, headers=headers(client))
        assert answer.status_code == 201, answer.text
        return int(answer.json()["study"])

    assert send(picture("PNG"), "?group=a-1&more=true") == 1
    assert client.get("/api/v1/studies/1").json()["state"] == "RECEIVING"
    lateral = film(rows=64, columns=64, study=7, view="LL", patient_name="Doe^Jane")
    assert send(encoded(lateral), "?group=a-1") == 1
    study = client.get("/api/v1/studies/1").json()
    assert (study["state"], len(study["images"])) == ("COMPLETE", 2)
    assert (
        len({dcmread(node.data_dir.spool.path(name)).PatientID for name in node.data_dir.spool.names()}) == 1
    )
    assert send(picture("PNG"), "?group=b") == 2  # the same film in another study is another instance
    assert send(picture("PNG"), "") == 3
    assert client.post("/api/v1/trials?group=a/b", content=b"", headers=headers(client)).status_code == 400


def test_the_drawn_films_are_tried_without_any_file(node: OfflineNode, client: TestClient) -> None:
    page = client.get("/try").text
    for address in re.findall(r'src="(/try/example/\w+\.png)"', page):
        shown = client.get(address)
        assert Image.open(io.BytesIO(shown.content)).mode == "L"
        assert len(shown.content) < 400_000
    assert client.get("/try/example/XX.png").status_code == 404
    answer = client.post("/try/example", data={"csrf": headers(client)["X-CSRF-Token"]})
    assert str(answer.url).endswith("/studies/1")
    study = client.get("/api/v1/studies/1").json()
    assert (study["state"], len(study["images"])) == ("COMPLETE", 2)
    with node.index.engine.connect() as connection:
        assert {row.peer_host for row in connection.execute(instance.select())} == {TRIAL_HOST}
    again = client.post("/api/v1/trials/example", headers=headers(client))
    assert (again.status_code, again.json()) == (201, {"study": 1})


def test_a_file_beyond_the_limit_is_refused_while_it_comes(node: OfflineNode) -> None:
    web = node.settings.web.model_copy(update={"upload_bytes": 2**20})
    node.settings = node.settings.model_copy(update={"web": web})
    with node.browser() as client:
        answer = client.post("/api/v1/trials", content=b"x" * (2**20 + 1), headers=headers(client))
    assert answer.status_code == 413
    assert not list(node.data_dir.spool.incoming.iterdir())
