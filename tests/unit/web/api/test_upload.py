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
from dicom_node.web.media.trial_films import TRIAL_DESCRIPTION
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
        (b"", "DICOM Part 10"),
        (b"x" * 5000, "DICOM Part 10"),
        (bytes(128) + b"DICM" + bytes(200), "DICOM Part 10"),
        (encoded(film(rows=64, columns=64, sop_class="1.2.840.10008.5.1.4.1.1.2")), "not a radiograph"),
        (encoded(film(rows=64, columns=64, StudyInstanceUID="../../etc")), ""),
    ],
    ids=["empty", "text", "prefix", "CT", "UID"],
)
def test_what_is_no_film_is_not_taken(
    node: OfflineNode, client: TestClient, content: bytes, words: str
) -> None:
    answer = client.post("/api/v1/instances", content=content, headers=headers(client))
    assert answer.status_code == 415
    assert words in answer.json()["error"]
    assert not list(node.data_dir.spool.names())
    assert not list(node.data_dir.spool.incoming.iterdir())


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "L"), ("PNG", "RGB"), ("PNG", "I;16"), ("JPEG", "L")])
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


def test_a_trial_that_is_no_picture_says_so(client: TestClient) -> None:
    answer = client.post("/api/v1/trials", content=b"GIF89a nothing", headers=headers(client))
    assert (answer.status_code, answer.json()) == (
        415,
        {"error": "The file is not a DICOM, PNG or JPEG picture."},
    )


def test_a_file_beyond_the_limit_is_refused_while_it_comes(node: OfflineNode) -> None:
    web = node.settings.web.model_copy(update={"upload_bytes": 2**20})
    node.settings = node.settings.model_copy(update={"web": web})
    with node.browser() as client:
        answer = client.post("/api/v1/trials", content=b"x" * (2**20 + 1), headers=headers(client))
    assert answer.status_code == 413
    assert not list(node.data_dir.spool.incoming.iterdir())
