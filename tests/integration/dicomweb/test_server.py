"""DICOMweb as clients ask for it: dicomweb-client over a served page, with objects of every kind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless
from requests import HTTPError
from sqlalchemy import select

from dicom_node.config.web import WebSettings
from dicom_node.dicomweb.server.wado import FileRange, PartNotFound, read_bulk
from dicom_node.results.encoding.compression import decompressed
from dicom_node.results.encoding.part10 import encoded
from dicom_node.store import database
from dicom_node.store.analysis_leases import EncodedResult
from dicom_node.store.files import StoredFile
from dicom_node.store.recorded_results import RecordedResults
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue
from dicom_node.web.app import create_app
from dicom_node.web.auth.access_log import AccessLog
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import film, put, uid, write
from tests.support.offline_node import OfflineNode
from tests.support.peers import until
from tests.support.reports import SIMILAR, report_of
from tests.support.result_objects import objects_of
from tests.support.web_server import served

pytestmark = pytest.mark.peer

VIEWER = "http://viewer.example"
STUDY = uid("study", 1)
MODALITIES = {"CR", "SR", "OT", "DOC", "KO", "SEG", "PR"}


class Service:
    """A served node of three studies: all results, a compressed film, a late one of a second patient."""

    def __init__(self, folder: Path) -> None:
        self.node = OfflineNode(folder)
        web = WebSettings(port=0, login=True, patient="name", dicomweb_origins=(VIEWER,))
        self.node.settings = self.node.settings.model_copy(update={"web": web})
        self.film = film(rows=96, columns=80, window=(2048, 4096))
        self.objects = dict(objects_of(report_of(self.film, similar=SIMILAR)))
        self.node.finish(1, StudyState.REPORTED, films=[self.film], objects=self.objects.items())
        order = put(Dataset(), {"RequestedProcedureID": "RP_7", "ScheduledProcedureStepID": "S7"})
        self.compressed = film(
            rows=96, columns=80, study=2, transfer_syntax=JPEGLSLossless, RequestAttributesSequence=[order]
        )
        self.node.finish(2, StudyState.REPORTED, films=[self.compressed], results=0)
        other = film(
            rows=96, columns=80, study=3, modality="DX", patient_name="Roe^Richard", patient_id="PAT_3",
            StudyDate="20250102",
        )  # fmt: skip
        self.node.finish(3, StudyState.REPORTED, films=[other], results=0)
        accounts = Accounts(self.node.index.engine)
        self.token = accounts.make_token(accounts.add("rita", Role.READER, None), "", 3600)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def entered(self) -> None:
        """Wait until the served page has read all headers."""

        def count() -> bool:
            with database.reading(self.node.index.engine) as connection:
                return len(connection.execute(select(catalogue)).all()) == 3

        until(count, 20, "the catalogue")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.root}{path}", headers={**self.headers, **headers}, trust_env=False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    one = Service(tmp_path_factory.mktemp("dicomweb"))
    app = create_app(one.node.settings)
    with served(app) as address:
        one.root = f"{address}/dicom-web"
        one.entered()
        yield one
    one.node.close()


@pytest.fixture(scope="module")
def client(service: Service) -> DICOMwebClient:
    session = requests.Session()
    session.trust_env = False
    session.headers.update(service.headers)
    one = DICOMwebClient(service.root, session=session)
    one.set_http_retry_params(retry=False)
    return one


def uids(found: list[dict[str, Any]], keyword: str = "StudyInstanceUID") -> list[str]:
    return [str(Dataset.from_json(each)[keyword].value) for each in found]


@pytest.mark.parametrize(
    ("keys", "studies"),
    [
        ({}, [3, 2, 1]),
        ({"PatientID": "PAT_3"}, [3]),
        ({"PatientID": "PAT?1"}, [2, 1]),
        ({"PatientID": "PAT%"}, []),
        ({"PatientID": "*_3"}, [3]),
        ({"PatientName": "roe*"}, [3]),
        ({"00100010": "Doe^Jane"}, [2, 1]),
        ({"PatientName": "Doe"}, []),
        ({"StudyDate": "20240101-20241231"}, [2, 1]),
        ({"StudyDate": "20250102"}, [3]),
        ({"StudyDate": "-20240228"}, []),
        ({"StudyTime": "10-10"}, [3, 2, 1]),
        ({"ModalitiesInStudy": "SEG"}, [1]),
        ({"ModalitiesInStudy": "DX"}, [3]),
        ({"ModalitiesInStudy": "DX\\SR"}, [3, 1]),
        ({"AccessionNumber": "ACC-1", "StudyInstanceUID": STUDY}, [1]),
        ({"StudyInstanceUID": f"{STUDY}\\{uid('study', 2)}"}, [2, 1]),
    ],
)
def test_studies_are_found_by_their_keys(
    client: DICOMwebClient, keys: dict[str, str], studies: list[int]
) -> None:
    found = client.search_for_studies(search_filters=keys)
    assert uids(found) == [uid("study", number) for number in studies]


def test_a_study_says_what_is_in_it(client: DICOMwebClient, service: Service) -> None:
    (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": STUDY}, fields=["00081030"])
    ds = Dataset.from_json(found)
    assert set(ds.ModalitiesInStudy) == MODALITIES
    assert (ds.PatientName, ds.PatientID, ds.StudyDescription) == ("Doe^Jane", "PAT-1", "Chest")
    assert ds.NumberOfStudyRelatedInstances == len(service.objects) + 1
    assert ds.NumberOfStudyRelatedSeries == len(service.objects) + 1
    # The client calls the host without its port.
    assert ds.RetrieveURL == f"http://127.0.0.1/dicom-web/studies/{STUDY}"
    plain = service.get(f"/studies?StudyInstanceUID={STUDY}").json()
    assert Dataset.from_json(plain[0]).RetrieveURL == f"{service.root}/studies/{STUDY}"


def test_lists_go_on(client: DICOMwebClient) -> None:
    assert uids(client.search_for_studies(limit=2)) == [uid("study", 3), uid("study", 2)]
    assert uids(client.search_for_studies(limit=2, offset=2)) == [STUDY]
    assert client.search_for_studies(offset=3) == []
    every = uids(client.search_for_series(), "SeriesInstanceUID")
    assert len(set(every)) == len(every) == 11
    assert uids(client.search_for_series(limit=4, offset=3), "SeriesInstanceUID") == every[3:7]


def test_a_list_that_ends_early_says_so(service: Service) -> None:
    for path, matches in (("studies", 3), ("series", 11), ("instances", 11)):
        for limit, more in ((matches - 1, True), (matches, False), (matches + 1, False)):
            answer = service.get(f"/{path}?limit={limit}")
            assert len(answer.json()) == min(limit, matches)
            assert ("additional results" in answer.headers.get("Warning", "")) == more, (path, limit)


def test_what_is_no_attribute_is_ignored_and_that_is_said(service: Service) -> None:
    answer = service.get("/studies?PatientID=PAT_3&emptyvaluematching=true&_=17&charset=utf-8")
    assert len(answer.json()) == 1
    assert "were ignored" in answer.headers["Warning"]
    assert "Warning" not in service.get("/studies?PatientID=PAT_3&charset=utf-8").headers
    asked = service.get("/series?SeriesInstanceUID=1.2.3&includefield=00091010,00400275.00400007")
    assert (asked.status_code, asked.json()) == (200, [])


def test_a_series_is_found_by_its_order(service: Service) -> None:
    path = "RequestAttributesSequence"
    for query in (
        f"{path}.RequestedProcedureID=RP_7",
        "00400275.00401001=RP*",
        f"{path}.ScheduledProcedureStepID=S7",
    ):
        (found,) = service.get(f"/series?{query}").json()
        ds = Dataset.from_json(found)
        assert ds.SeriesInstanceUID == service.compressed.SeriesInstanceUID
        assert ds.RequestAttributesSequence[0].RequestedProcedureID == "RP_7"


def test_series_and_instances_are_found_by_their_headers(client: DICOMwebClient, service: Service) -> None:
    reports = client.search_for_series(search_filters={"Modality": "SR"})
    assert uids(reports, "SeriesInstanceUID") == [
        service.objects[kind].SeriesInstanceUID for kind in ("sr", "similar")
    ]
    assert Dataset.from_json(reports[0]).NumberOfSeriesRelatedInstances == 1
    seg = service.objects["seg"]
    found = client.search_for_instances(STUDY, search_filters={"SOPClassUID": seg.SOPClassUID})
    assert uids(found, "SOPInstanceUID") == [seg.SOPInstanceUID]
    assert Dataset.from_json(found[0]).NumberOfFrames == seg.NumberOfFrames
    inside = client.search_for_instances(STUDY, seg.SeriesInstanceUID)
    assert uids(inside, "SOPInstanceUID") == [seg.SOPInstanceUID]
    assert client.search_for_series(uid("nowhere")) == []
    assert len(client.search_for_series(STUDY)) == len(service.objects) + 1


def test_whole_objects_are_those_that_were_written(client: DICOMwebClient, service: Service) -> None:
    everything = {ds.SOPInstanceUID: ds for ds in client.retrieve_study(STUDY)}
    assert set(everything) == {
        service.film.SOPInstanceUID, *(ds.SOPInstanceUID for ds in service.objects.values())
    }  # fmt: skip
    for ds in (service.film, *service.objects.values()):
        assert everything[ds.SOPInstanceUID] == ds
    sr = service.objects["sr"]
    assert client.retrieve_series(STUDY, sr.SeriesInstanceUID) == [sr]
    assert client.retrieve_instance(STUDY, sr.SeriesInstanceUID, sr.SOPInstanceUID) == sr
    assert (
        client.retrieve_instance(uid("study", 2), uid("series", 2, 1), service.compressed.SOPInstanceUID)
        == service.compressed
    )


def test_metadata_leaves_bulk_data_where_it_is(client: DICOMwebClient, service: Service) -> None:
    assert len(client.retrieve_study_metadata(STUDY)) == len(service.objects) + 1
    found = {each["00080018"]["Value"][0]: each for each in service.get(f"/studies/{STUDY}/metadata").json()}
    assert len(found) == len(service.objects) + 1
    for kind, ds in service.objects.items():
        json = found[ds.SOPInstanceUID]
        assert Dataset.from_json({tag: each for tag, each in json.items() if "BulkDataURI" not in each}) == (
            Dataset.from_json({tag: each for tag, each in ds.to_json_dict().items() if "BulkDataURI" not in
                               json.get(tag, ())})
        ), kind  # fmt: skip
    pdf = service.objects["pdf"]
    address = found[pdf.SOPInstanceUID]["00420011"]["BulkDataURI"]
    (content,) = client.retrieve_bulkdata(address)
    assert content == pdf.EncapsulatedDocument
    alone = service.get(address.removeprefix(service.root), Accept="application/pdf")
    assert (alone.headers["Content-Type"], alone.content) == ("application/pdf", pdf.EncapsulatedDocument)
    (cells,) = client.retrieve_bulkdata(found[service.film.SOPInstanceUID]["7FE00010"]["BulkDataURI"])
    assert cells == service.film.PixelData


def test_frames_are_the_stored_cells(client: DICOMwebClient, service: Service) -> None:
    one = service.film
    (frame,) = client.retrieve_instance_frames(STUDY, one.SeriesInstanceUID, one.SOPInstanceUID, [1])
    assert np.array_equal(np.frombuffer(frame, "<u2").reshape(96, 80), one.pixel_array)
    ds = service.objects["seg"]
    cells = ds.pixel_array.reshape(int(ds.get("NumberOfFrames", 1)), -1)
    frames = client.retrieve_instance_frames(
        STUDY, ds.SeriesInstanceUID, ds.SOPInstanceUID, list(range(1, len(cells) + 1))
    )
    assert [list(np.frombuffer(each, np.uint8)) for each in frames] == [list(row) for row in cells]
    sc = service.objects["sc"]
    (frame,) = client.retrieve_instance_frames(STUDY, sc.SeriesInstanceUID, sc.SOPInstanceUID, [1])
    assert frame.rstrip(b"\0") == get_frame(sc.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    with pytest.raises(HTTPError, match="404"):
        client.retrieve_instance_frames(STUDY, one.SeriesInstanceUID, one.SOPInstanceUID, [2])
    address = f"/studies/{STUDY}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/frames/"
    again = service.get(address + ",".join(["1"] * 1000), Accept="multipart/related").content
    assert again.count(one.PixelData) == 1


def test_a_long_value_is_read_while_it_is_sent(tmp_path: Path) -> None:
    value = bytes(range(256)) * 4096
    ds = film(rows=96, columns=80)
    ds.add_new(0x00420011, "OB", value)
    content, kind = read_bulk(write(ds, tmp_path / "film.dcm"), 0x00420011)
    assert isinstance(content, FileRange)
    pieces = list(content.pieces())
    assert b"".join(pieces) == value
    assert len(pieces) > 1
    assert kind == "application/octet-stream"
    with pytest.raises(PartNotFound):
        read_bulk(tmp_path / "film.dcm", 0x00080060)


def test_a_compressed_frame_comes_as_it_is_or_decoded(client: DICOMwebClient, service: Service) -> None:
    ds = service.compressed
    names = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, [1])
    (frame,) = client.retrieve_instance_frames(*names, media_types=(("image/jls", str(JPEGLSLossless)),))
    assert frame[:2] == b"\xff\xd8"
    assert frame in ds.PixelData
    (cells,) = client.retrieve_instance_frames(
        *names, media_types=(("application/octet-stream", str(ExplicitVRLittleEndian)),)
    )
    assert np.array_equal(np.frombuffer(cells, "<u2").reshape(96, 80), ds.pixel_array)
    with pytest.raises(HTTPError, match="406"):
        client.retrieve_instance_frames(*names, media_types=("image/jp2",))
    with pytest.raises(HTTPError, match="404"):
        client.retrieve_instance_frames(*names[:3], [2], media_types=("application/octet-stream",))
    bulk = f"{service.root}{address_of(ds)}/bulkdata/7FE00010"
    assert client.retrieve_bulkdata(bulk) == [frame]
    alone = service.get(bulk.removeprefix(service.root), Accept="application/octet-stream")
    assert (alone.headers["Content-Type"], alone.content) == ("application/octet-stream", cells)
    path = f"/studies/{names[0]}/series/{names[1]}/instances/{names[2]}/frames/1"
    any_syntax = service.get(
        path, Accept="multipart/related; type=application/octet-stream; transfer-syntax=*"
    )
    assert frame in any_syntax.content
    assert f"transfer-syntax={JPEGLSLossless}" in any_syntax.text.split("\r\n\r\n")[0]


def opened(content: bytes) -> tuple[str | None, np.ndarray]:
    with Image.open(io.BytesIO(content)) as one:
        grey = one.convert("L") if one.mode == "P" else one
        return one.format, np.asarray(grey).astype(int)


def windowed(ds: Dataset, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, in 8 bits."""
    return np.clip(((ds.pixel_array - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


MARK = 14
"""Rows at the bottom of a picture that say what it is for."""


def address_of(ds: Dataset) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


@pytest.mark.parametrize("name", ["film", "compressed"])
def test_a_film_is_drawn_by_the_window_that_is_asked_for(
    client: DICOMwebClient, service: Service, name: str
) -> None:
    ds = getattr(service, name)
    names = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    asked: dict[str, Any] = {"window": "1500,700,linear"}
    content = client.retrieve_instance_rendered(*names, media_types=("image/png",), params=asked)
    kind, found = opened(content)
    expected = windowed(ds, 1500, 700)
    assert (kind, found.shape) == ("PNG", expected.shape)
    assert np.abs(found - expected)[:-MARK].max() <= 1
    assert np.abs(found - expected)[-MARK:].max() > 100  # RESEARCH USE ONLY
    frame = client.retrieve_instance_frames_rendered(*names, [1], media_types=("image/png",), params=asked)
    assert frame == content
    worst, best = (
        opened(client.retrieve_instance_rendered(*names, params={**asked, "quality": quality}))
        for quality in (1, 100)
    )
    assert worst[0] == best[0] == "JPEG"
    assert np.abs(best[1] - expected)[:-MARK].mean() < 2 < np.abs(worst[1] - expected)[:-MARK].mean()


def test_a_region_is_drawn_as_large_as_the_viewport_lets_it(client: DICOMwebClient, service: Service) -> None:
    ds = service.film
    names = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    asked = {"window": "2048,4096,linear", "viewport": "80,500,,40,-40,48"}
    _, found = opened(client.retrieve_instance_rendered(*names, media_types=("image/png",), params=asked))
    expected = windowed(ds, 2048, 4096)[40:88, 39::-1]
    assert found.shape == (96, 80)
    halved = found.reshape(48, 2, 40, 2).mean((1, 3))
    assert np.abs(halved - expected)[: -MARK // 2].mean() < 4


def test_results_are_drawn_in_their_colours(service: Service, tmp_path: Path) -> None:
    sc, seg = service.objects["sc"], service.objects["seg"]
    kind, found = opened(service.get(f"{address_of(sc)}/rendered", Accept="image/png").content)
    (tmp_path / "sc.dcm").write_bytes(encoded(sc))
    expected = decompressed(tmp_path / "sc.dcm").pixel_array.astype(int)
    assert (kind, found.shape) == ("PNG", (sc.Rows, sc.Columns, 3))
    assert np.abs(found[:-MARK] - expected[:-MARK]).mean() < 0.5
    answer = service.get(f"{address_of(seg)}/rendered", Accept="image/gif")
    assert (answer.headers["Content-Type"], opened(answer.content)[0]) == ("image/gif", "GIF")
    assert answer.headers["X-Intended-Use"] == "RESEARCH USE ONLY"
    assert np.abs(opened(answer.content)[1] - seg.pixel_array)[:-MARK].max() <= 1


def test_all_frames_come_in_parts_and_each_alone(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path / "data")
    node.settings = node.settings.model_copy(update={"web": WebSettings(port=0, patient="name")})
    ds = film(rows=96, columns=80, NumberOfFrames=2)
    ds.PixelData += bytes(reversed(ds.PixelData))
    node.finish(1, StudyState.SKIPPED, "more than one frame", films=[ds], results=0)
    address = f"/dicom-web{address_of(ds)}"
    with node.browser() as browser:
        many = browser.get(f"{address}/rendered", headers={"Accept": 'multipart/related; type="image/png"'})
        assert many.headers["Content-Type"].startswith('multipart/related; type="image/png"; boundary=')
        alone = [
            browser.get(f"{address}/frames/{number}/rendered", headers={"Accept": "image/png"}).content
            for number in (1, 2)
        ]
        assert len(set(alone)) == 2
        assert [content in many.content for content in alone] == [True, True]
        assert browser.get(f"{address}/frames/2,1/rendered").content.count(b"\xff\xd8\xff\xe0") == 2
        again = browser.get(f"{address}/frames/2,1,{','.join(['1'] * 500)}/rendered").content
        assert again.count(b"\xff\xd8\xff\xe0") == 2
        numbers = ",".join(map(str, range(1, 102)))
        assert browser.get(f"{address}/frames/{numbers}/rendered").status_code == 400
        assert browser.get(f"{address}/frames/{numbers}").status_code == 400
        refused = browser.get(f"{address}/rendered", headers={"Accept": "image/png"})
        assert refused.status_code == 406
        assert "The 2 frames are sent as multipart" in refused.json()["error"]
        assert browser.get(f"{address}/frames/3/rendered").status_code == 404
    node.close()


def test_a_thumbnail_stands_for_a_study_a_series_and_an_instance(service: Service) -> None:
    one, sc, sr = service.film, service.objects["sc"], service.objects["sr"]
    study = service.get(f"/studies/{STUDY}/thumbnail")
    assert study.headers["Content-Type"] == "image/jpeg"
    assert opened(study.content)[1].shape == (96, 80)
    series = service.get(f"/studies/{STUDY}/series/{one.SeriesInstanceUID}/thumbnail")
    assert series.content == study.content
    _, small = opened(service.get(f"{address_of(sc)}/thumbnail", Accept="image/png").content)
    assert small.shape == (sc.Rows, sc.Columns, 3)
    for asked, side in (("64,64", 64), ("1000,300", 1000)):
        _, scaled = opened(service.get(f"{address_of(sc)}/thumbnail?viewport={asked}").content)
        assert max(scaled.shape) <= side
        assert scaled.shape[1] == side or scaled.shape[0] == int(asked.split(",")[1])
    missing = service.get(f"/studies/{STUDY}/series/{sr.SeriesInstanceUID}/thumbnail")
    assert (missing.status_code, missing.json()) == (404, {"error": "There is no picture of this object."})


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("viewport=100", 400),
        ("viewport=0,100", 400),
        ("viewport=100,5000", 400),
        ("viewport=a,b", 400),
        ("viewport=10,10,0,0,81,96", 400),
        ("viewport=10,10,0,0,0,96", 400),
        ("viewport=10,10,0,0,nan,96", 400),
        ("viewport=10,10,0,0,1,1,1", 400),
        ("window=1,2", 400),
        ("window=1,0,linear", 400),
        ("window=1,nan,linear", 400),
        ("window=1,2,round", 400),
        ("quality=0", 400),
        ("quality=101", 400),
        ("quality=good", 400),
        ("annotation=name", 400),
        ("iccprofile=srgb", 400),
        ("accept=image/jp2", 406),
        ("accept=application/dicom", 406),
        ("viewport=10,10,,,-80,-96&window=1,1,linear&quality=1&annotation=patient,technique", 200),
    ],
)
def test_a_picture_is_drawn_as_it_is_asked_for_or_not_at_all(
    service: Service, query: str, status: int
) -> None:
    answer = service.get(f"{address_of(service.film)}/rendered?{query}")
    assert answer.status_code == status, answer.text
    if status == 200:
        assert "annotation values are not supported: patient,technique" in answer.headers["Warning"]
        assert opened(answer.content)[1].shape == (10, 8)
    else:
        assert answer.json()["error"].endswith(".")


def test_of_what_holds_no_picture_none_is_drawn(service: Service) -> None:
    for kind in ("sr", "pdf", "ko", "pr"):
        answer = service.get(f"{address_of(service.objects[kind])}/rendered")
        assert answer.status_code == 404
        assert "holds no pixel data" in answer.json()["error"]
    assert service.get(f"{address_of(service.film)}/frames/1,2/rendered").status_code == 404
    assert service.get(f"{address_of(service.film)}/thumbnail?viewport=10,10,0,0").status_code == 400
    assert httpx.get(f"{service.root}/studies/{STUDY}/thumbnail", trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?StudyDate=yesterday", "*/*", 400),
        ("/studies?Modality=CR", "*/*", 400),
        ("/studies?Nothing=1", "*/*", 400),
        ("/studies?limit=-1", "*/*", 400),
        ("/studies?StudyDate=2024&StudyDate=2025", "*/*", 400),
        ("/studies?patientid=PAT-1", "*/*", 400),
        ("/studies?00091010=1", "*/*", 400),
        ("/series?RequestAttributesSequence.StudyDate=1", "*/*", 400),
        ("/studies", 'multipart/related; type="application/dicom+xml"', 406),
        (f"/studies/{STUDY}", "application/dicom+json", 406),
        (f"/studies/{STUDY}", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.3', 406),
        (f"/studies/{STUDY}/metadata", "image/png", 406),
        ("/studies/1.2.3", "*/*", 404),
        ("/studies/1.2.3/metadata", "*/*", 404),
        ("/studies/%00/metadata", "*/*", 404),
        ("/studies/%00/series", "*/*", 404),
        (f"/studies/{STUDY}/series/1.2.3/instances/1.2.3/frames/1", "*/*", 404),
        (f"/studies/{STUDY}/nothing", "*/*", 404),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(
    service: Service, path: str, accept: str, status: int
) -> None:
    answer = service.get(path, Accept=accept)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].endswith(".")


def test_names_that_sound_alike_are_not_looked_for(service: Service) -> None:
    answer = service.get("/studies?PatientName=Dough&fuzzymatching=true")
    assert answer.json() == []
    assert answer.headers["Content-Type"] == "application/dicom+json"
    assert "fuzzymatching parameter is not supported" in answer.headers["Warning"]


def test_only_who_has_logged_in_reads_and_it_is_written_down(service: Service) -> None:
    refused = httpx.get(f"{service.root}/studies", trust_env=False)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert httpx.post(f"{service.root}/studies", headers=service.headers, trust_env=False).status_code == 405
    assert service.get(f"/studies/{uid('study', 2)}/metadata").status_code == 200
    seen = {
        (each.reader, each.action, each.study_id) for each in AccessLog(service.node.index.engine).latest()
    }
    assert {("rita", "dicomweb search", None), ("rita", "dicomweb", 2)} <= seen


def test_a_page_of_a_named_origin_alone_may_read(service: Service) -> None:
    ask = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    allowed = httpx.options(f"{service.root}/studies", headers={"Origin": VIEWER, **ask}, trust_env=False)
    assert allowed.headers["Access-Control-Allow-Origin"] == VIEWER
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"].casefold()
    assert service.get("/studies", Origin=VIEWER).headers["Access-Control-Allow-Origin"] == VIEWER
    assert "Access-Control-Allow-Origin" not in service.get("/studies", Origin="http://evil.example").headers
    page = httpx.get(
        service.root.replace("/dicom-web", "/api/v1/studies"),
        headers={**service.headers, "Origin": VIEWER},
        trust_env=False,
    )
    assert "Access-Control-Allow-Origin" not in page.headers


def test_what_is_withdrawn_or_gone_is_not_handed_out(tmp_path: Path) -> None:
    service = Service(tmp_path)
    node = service.node
    node.settings = node.settings.model_copy(
        update={"web": node.settings.web.model_copy(update={"login": False})}
    )
    with node.browser() as browser:
        service.entered()
        films = "/dicom-web/instances?Modality=CR"
        assert len(browser.get(films).json()) == 3 - 1
        for path in node.data_dir.spool.root.glob("??/*.dcm"):
            if dcmread(path).StudyInstanceUID == STUDY:
                path.unlink()
        assert len(browser.get(films).json()) == 1
        reports = "/dicom-web/instances?Modality=SR"
        assert len(browser.get(reports).json()) == 2
        recorded = RecordedResults(node.index.engine).for_study(STUDY)
        assert recorded is not None
        note = recorded.results[0]
        RecordedResults(node.index.engine).withdraw(
            recorded,
            EncodedResult("rejection", "2.25.1", note.sop_class_uid, StoredFile(note.digest, 1, note.file)),
            (),
        )
        assert browser.get(reports).json() == []


# Other threads read headers meanwhile, and what silences warnings does so for all threads, or for none.
@pytest.mark.filterwarnings("ignore:End of file reached")
@pytest.mark.parametrize("length", [150, 500, 900])
def test_a_damaged_film_takes_nothing_else_along(tmp_path: Path, length: int) -> None:
    service = Service(tmp_path)
    node = service.node
    node.settings = node.settings.model_copy(
        update={"web": node.settings.web.model_copy(update={"login": False})}
    )
    for path in node.data_dir.spool.root.glob("??/*.dcm"):
        path.write_bytes(path.read_bytes()[:length] + b"\xff" * 40)
    names = (service.film.SeriesInstanceUID, service.film.SOPInstanceUID)
    one = f"/dicom-web/studies/{STUDY}/series/{names[0]}/instances/{names[1]}"
    with node.browser() as browser:
        assert len(browser.get("/dicom-web/studies").json()) == 3
        assert len(browser.get(f"/dicom-web/studies/{STUDY}/instances").json()) == len(service.objects) + 1
        found = browser.get(f"/dicom-web/studies/{STUDY}/metadata").json()
        assert names[1] in [each["00080018"]["Value"][0] for each in found]
        assert browser.get(f"{one}/frames/1").status_code == 404
        assert browser.get(f"{one}/bulkdata/7FE00010").status_code == 404
        assert browser.get(f"/dicom-web/studies/{STUDY}").status_code in (200, 406)


def test_films_are_kept_back_by_setting_and_everything_where_patients_have_pseudonyms(tmp_path: Path) -> None:
    service = Service(tmp_path)
    node = service.node
    shown = WebSettings(port=0, login=False, patient="name", dicomweb_films=False)
    node.settings = node.settings.model_copy(update={"web": shown})
    with node.browser() as browser:
        assert uids(browser.get("/dicom-web/studies").json()) == [STUDY]
        modalities = {
            each["00080060"]["Value"][0] for each in browser.get(f"/dicom-web/studies/{STUDY}/series").json()
        }
        assert modalities == MODALITIES - {"CR"}
        assert browser.get("/dicom-web/studies?ModalitiesInStudy=CR").json() == []
    node.settings = node.settings.model_copy(update={"web": WebSettings(port=0, login=False)})
    with node.browser() as browser:
        refused = browser.get(f"/dicom-web/studies/{STUDY}")
        assert refused.status_code == 403
        assert 'web.patient = "name"' in refused.json()["error"]
