"""Harness, orthanc.json and forward.lua with a real Orthanc and a plain Storage SCP."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import shutil
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.config.sections import DicomSettings
from orthanc.harness import HERE, NodeAddress, Orthanc, OrthancError, configuration
from tests.support.factories import encoded, film

pytestmark = pytest.mark.peer

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "Orthanc"
RESULT = {
    "modality": "OT",
    "sop_class": SecondaryCaptureImageStorage,
    "series": "results",
    "SeriesNumber": "9902",
    "Manufacturer": "dicom-node",
    "SeriesDescription": "AI saliency – RESEARCH USE ONLY",
    "character_set": "ISO_IR 192",
}


class Peer:
    """A plain Storage SCP that counts what it takes and can refuse."""

    def __init__(self, port: int = 0, *, status: int = 0x0000) -> None:
        self.received: Counter[str] = Counter()
        self.status = status
        self._lock = threading.Lock()
        ae = AE("DICOM_NODE")
        ae.supported_contexts = AllStoragePresentationContexts
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        with self._lock:
            self.received[str(event.request.AffectedSOPInstanceUID)] += 1
        return self.status

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.close()


@pytest.fixture
def pacs(peer: Peer) -> Iterator[Orthanc]:
    with Orthanc(node=NodeAddress("DICOM_NODE", peer.port)) as one:
        yield one


def refusal(pacs: Orthanc) -> str:
    """Say why it does not answer; empty when it does."""
    try:
        pacs.get("/system")
    except OrthancError as error:
        return str(error)
    return ""


def sent(pacs: Orthanc) -> int:
    """Count the films that Orthanc knows to be with the node."""
    states = [
        pacs.get(f"/instances/{instance}/metadata?expand").get("DicomNode")
        for instance in pacs.get("/instances")
    ]
    return states.count("sent")


def stable(pacs: Orthanc) -> int:
    """Count how often a study has become stable."""
    changes = pacs.get("/changes?limit=10000")["Changes"]
    return sum(change["ChangeType"] == "StableStudy" for change in changes)


def store(pacs: Orthanc, *datasets: object, calling: str = "MODALITY") -> list[int]:
    """Send data sets to Orthanc by C-STORE and return the statuses."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.requested_contexts = [
        context
        for context in AllStoragePresentationContexts
        if context.abstract_syntax in (ComputedRadiographyImageStorage, SecondaryCaptureImageStorage)
    ]
    association = ae.associate(pacs.host, pacs.dicom_port, ae_title=pacs.ae_title)
    assert association.is_established
    statuses = [association.send_c_store(dataset).Status for dataset in datasets]
    association.release()
    return statuses


def test_it_starts_and_keeps_what_rest_and_c_store_bring(tmp_path: Path) -> None:
    first, second = film(instance=1), film(instance=2)
    with Orthanc() as pacs:
        instance = pacs.upload(encoded(first))
        assert store(pacs, second) == [0x0000]
        (study,) = pacs.studies()
        assert len(pacs.instances(study)) == 2
        assert pacs.find("Study", StudyInstanceUID=str(first.StudyInstanceUID)) == [study]
        assert pacs.find("Study", StudyInstanceUID="1.2.3") == []
        assert pacs.tags(instance)["SOPInstanceUID"] == first.SOPInstanceUID
        kept = dcmread(io.BytesIO(pacs.file(instance)))
        assert kept.PixelData == first.PixelData
    assert not pacs.running


def test_a_known_peer_may_echo_and_query_and_a_wrong_called_ae_title_is_refused(tmp_path: Path) -> None:
    with Orthanc(node=NodeAddress("DICOM_NODE", 1)) as pacs:
        pacs.upload(encoded(film()))
        ae = AE("DICOM_NODE")
        ae.acse_timeout = 20
        ae.add_requested_context(Verification)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = ae.associate(pacs.host, pacs.dicom_port, ae_title=pacs.ae_title)
        assert association.send_c_echo().Status == 0x0000
        association.release()
        assert ae.associate(pacs.host, pacs.dicom_port, ae_title="SOMEONE").is_rejected


def test_a_stable_study_goes_to_the_node_exactly_once(pacs: Orthanc, peer: Peer) -> None:
    films = [film(instance=number) for number in (1, 2)]
    pacs.upload(encoded(films[0]))
    assert store(pacs, films[1]) == [0x0000]
    pacs.wait_for("both films are with the node", lambda: sent(pacs) == 2)
    # A result comes back and makes the study stable a second time.
    pacs.upload(encoded(film(**RESULT)))
    pacs.wait_for("the study is stable again", lambda: stable(pacs) == 2)
    # Scripts run one after another: when a later study has gone out, the second event was handled.
    pacs.upload(encoded(film(study=2)))
    pacs.wait_for("the next study is with the node", lambda: sent(pacs) == 3)
    assert peer.received == Counter(str(each.SOPInstanceUID) for each in [*films, film(study=2)])
    assert not re.findall(r"^E.*", pacs.log, re.MULTILINE)


def test_a_late_film_goes_alone(pacs: Orthanc, peer: Peer) -> None:
    pacs.upload(encoded(film(instance=1)))
    pacs.wait_for("the first film is with the node", lambda: sent(pacs) == 1)
    pacs.upload(encoded(film(instance=2)))
    pacs.wait_for("the late film is with the node", lambda: sent(pacs) == 2)
    assert peer.received == Counter(str(film(instance=number).SOPInstanceUID) for number in (1, 2))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Manufacturer": "ACME"}, id="named as ours"),
        pytest.param({"SeriesDescription": "saliency"}, id="made by us"),
        pytest.param(
            {
                "sop_class": Comprehensive3DSRStorage,
                "modality": "SR",
                "Manufacturer": "ACME",
                "SeriesDescription": None,
            },
            id="not an image",
        ),
    ],
)
def test_a_result_is_never_forwarded(pacs: Orthanc, peer: Peer, changes: dict[str, object]) -> None:
    pacs.upload(encoded(film(**(RESULT | changes))))
    pacs.upload(encoded(film(study=2)))
    pacs.wait_for("both studies are stable", lambda: stable(pacs) == 2)
    pacs.wait_for("the film is with the node", lambda: sent(pacs) == 1)
    assert peer.received == Counter([str(film(study=2).SOPInstanceUID)])


def test_what_the_node_itself_stored_is_never_forwarded(pacs: Orthanc, peer: Peer) -> None:
    anonymous = film(**(RESULT | {"Manufacturer": "ACME", "SeriesDescription": "saliency"}))
    assert store(pacs, anonymous, calling="DICOM_NODE") == [0x0000]
    assert store(pacs, film(study=2)) == [0x0000]
    pacs.wait_for("both studies are stable", lambda: stable(pacs) == 2)
    pacs.wait_for("the film is with the node", lambda: sent(pacs) == 1)
    assert peer.received == Counter([str(film(study=2).SOPInstanceUID)])


def test_a_secondary_capture_of_another_maker_is_a_film(pacs: Orthanc, peer: Peer) -> None:
    digitised = film(sop_class=SecondaryCaptureImageStorage, Manufacturer="ACME", SeriesDescription="Chest")
    pacs.upload(encoded(digitised))
    pacs.wait_for("it is with the node", lambda: sent(pacs) == 1)
    assert peer.received == Counter([str(digitised.SOPInstanceUID)])


def test_films_that_met_no_node_go_out_after_a_restart(tmp_path: Path) -> None:
    absent = Peer()
    absent.close()
    with Orthanc(node=NodeAddress("DICOM_NODE", absent.port)) as pacs:
        pacs.upload(encoded(film()))
        pacs.wait_for("the failure is told", lambda: "tried again" in pacs.log)
        assert sent(pacs) == 0
        peer = Peer(absent.port)
        try:
            pacs.restart()
            pacs.wait_for("the film is with the node", lambda: sent(pacs) == 1)
            pacs.restart()
            pacs.upload(encoded(film(study=2)))
            pacs.wait_for("the second film is with the node", lambda: sent(pacs) == 2)
        finally:
            peer.close()
    assert peer.received == Counter(str(film(study=number).SOPInstanceUID) for number in (1, 2))


def test_a_film_that_the_node_refused_is_repeated_when_its_pause_is_over(tmp_path: Path) -> None:
    """The pause is shortened in a copy of the script; newer releases drive it by their heart beat."""
    script = (HERE / "forward.lua").read_text(encoding="utf-8")
    hasty = tmp_path / "forward.lua"
    hasty.write_text(re.sub(r"FIRST_PAUSE = \d+", "FIRST_PAUSE = 0", script), encoding="utf-8")
    peer = Peer(status=0xA700)
    overrides = {"LuaScripts": [str(hasty)], "ExecuteLuaEnabled": True}
    try:
        with Orthanc(
            tmp_path / "orthanc", node=NodeAddress("DICOM_NODE", peer.port), overrides=overrides
        ) as pacs:
            pacs.upload(encoded(film()))
            pacs.wait_for("the refusal is told", lambda: "tried again" in pacs.log)
            peer.status = 0x0000
            pacs.request("POST", "/tools/execute-script", b"OnHeartBeat()")
            pacs.wait_for("the film is with the node", lambda: sent(pacs) == 1)
    finally:
        peer.close()
    assert set(peer.received) == {str(film().SOPInstanceUID)}


def test_films_from_before_the_script_are_left_alone(tmp_path: Path, peer: Peer) -> None:
    directory = tmp_path / "orthanc"
    with Orthanc(directory) as pacs:
        pacs.upload(encoded(film()))
    with Orthanc(directory, node=NodeAddress("DICOM_NODE", peer.port)) as pacs:
        pacs.upload(encoded(film(study=2)))
        pacs.wait_for("the new film is with the node", lambda: sent(pacs) == 1)
    assert peer.received == Counter([str(film(study=2).SOPInstanceUID)])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_comes_back_with_its_storage_on_the_same_ports(tmp_path: Path, end: str) -> None:
    with Orthanc() as pacs:
        instance = pacs.upload(encoded(film()))
        address = (pacs.http_port, pacs.dicom_port)
        getattr(pacs, end)()
        assert not pacs.running
        with pytest.raises(OrthancError, match="does not answer"):
            pacs.studies()
        pacs.start()
        assert (pacs.http_port, pacs.dicom_port) == address
        assert pacs.get("/instances") == [instance]
        assert dcmread(io.BytesIO(pacs.file(instance))).SOPInstanceUID == film().SOPInstanceUID


def test_it_serves_dicomweb_when_asked(tmp_path: Path) -> None:
    with Orthanc(dicomweb=True) as pacs:
        pacs.upload(encoded(film()))
        (study,) = pacs.get("/dicom-web/studies")
        assert study["0020000D"]["Value"] == [film().StudyInstanceUID]


def test_a_temporary_folder_goes_with_it() -> None:
    with Orthanc() as pacs:
        folder = pacs.directory
        assert folder.is_dir()
    assert not folder.exists()


def test_a_missing_program_is_named_with_its_debian_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(OrthancError, match="install the Debian package orthanc"):
        Orthanc(tmp_path).start()


def test_an_orthanc_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with pytest.raises(OrthancError, match=r"Orthanc ended with .*StableAge"):
        Orthanc(tmp_path, overrides={"StableAge": "soon"}).start()


@contextlib.contextmanager
def shipped(folder: Path, argument: str) -> Iterator[Orthanc]:
    """Run Orthanc over a folder with the shipped orthanc.json, in which only the ports are changed."""
    text = (HERE / "orthanc.json").read_text(encoding="utf-8")
    with Orthanc() as pacs:
        http_port, dicom_port = pacs.http_port, pacs.dicom_port
        pacs.kill()
        for default, free in ((8042, http_port), (4242, dicom_port)):
            assert str(default) in text
            text = text.replace(str(default), str(free))
        (folder / "orthanc.json").write_text(text, encoding="utf-8")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([PROGRAM, argument], stdout=log, stderr=log, cwd="/")
        try:
            yield pacs
        finally:
            process.terminate()
            process.wait(20)


def test_the_shipped_files_forward_as_they_are(
    tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orthanc reads the comments, the ${VARIABLE:-default} and the script's place beside the file itself."""
    shutil.copy(HERE / "forward.lua", tmp_path)
    monkeypatch.setenv("NODE_DICOM_PORT", str(peer.port))
    with shipped(tmp_path, str(tmp_path / "orthanc.json")) as pacs:
        pacs.wait_for("it answers", lambda: not refusal(pacs))
        pacs.upload(encoded(film()))
        pacs.wait_for("the film is with the node", lambda: sent(pacs) == 1)
    assert (tmp_path / "OrthancStorage" / "index").exists()


def test_in_a_container_it_asks_for_a_login_and_forwards(
    tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder as deploy/compose.yaml mounts it."""
    shutil.copy(HERE / "forward.lua", tmp_path)
    shutil.copy(HERE.parent / "deploy" / "orthanc-remote.json", tmp_path / "remote.json")
    values = {"NODE_DICOM_PORT": str(peer.port), "ORTHANC_USER": "reader", "ORTHANC_PASSWORD": "secret"}
    for name, value in {**values, "ORTHANC_STORAGE": str(tmp_path / "db")}.items():
        monkeypatch.setenv(name, value)
    with shipped(tmp_path, str(tmp_path)) as pacs:
        pacs.wait_for("it answers", lambda: "401" in refusal(pacs))
        login = base64.b64encode(b"reader:secret").decode()
        request = urllib.request.Request(
            f"{pacs.url}/instances", encoded(film()), {"Authorization": f"Basic {login}"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        pacs.wait_for("the film is with the node", lambda: sum(peer.received.values()) == 1)
    assert (tmp_path / "db" / "index").exists()


def test_the_shipped_configuration_agrees_with_the_defaults_of_the_node() -> None:
    (node,) = configuration()["DicomModalities"].values()
    defaults = DicomSettings()
    assert node["AET"] == f"${{NODE_AE_TITLE:-{defaults.ae_title}}}"
    assert node["Host"] == f"${{NODE_HOST:-{defaults.host}}}"
    assert node["Port"] == f"${{NODE_DICOM_PORT:-{defaults.port}}}"
    assert "RemoteAccessAllowed" not in configuration()


def test_the_script_forwards_the_sop_classes_that_the_node_accepts() -> None:
    from dicom_node.imaging.radiographs import ACCEPTED_SOP_CLASSES

    script = (HERE / "forward.lua").read_text(encoding="utf-8")
    assert set(re.findall(r"\['([\d.]+)'\] = true", script)) == set(ACCEPTED_SOP_CLASSES)
