"""``dicom-node serve`` as its users run it: films arrive by C-STORE, reports and heat maps go back."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node.results.validation import dciodvfy
from tests.support import factories
from tests.support.dicom_tools import storescu
from tests.support.film_file import read_by_study, write_films
from tests.support.peers import Node, Redis, StoreSCP, cli, free_port, listening, postgresql, until
from tests.support.sr_content import scores, text_of


def check_results(pacs: StoreSCP, sent: list[Path]) -> None:
    """Assert that each study got one readable SR, and that every object is valid and in its study."""
    results = read_by_study(pacs.files())
    assert set(results) == set(read_by_study(sent))
    for objects in results.values():
        kinds = [str(ds.SOPClassUID) for ds in objects]
        assert kinds.count(Comprehensive3DSRStorage) == 1
        assert set(kinds) <= {Comprehensive3DSRStorage, SecondaryCaptureImageStorage}
    for path in pacs.files():
        assert dciodvfy(path) == [], path
        ds = dcmread(path)
        if ds.SOPClassUID == Comprehensive3DSRStorage:
            assert "RESEARCH USE ONLY" in text_of(ds)
            dump = subprocess.run(
                ["dsrdump", str(path)], capture_output=True, text=True, errors="replace", check=False
            )
            assert dump.returncode == 0, dump.stderr
            assert "RESEARCH USE ONLY" in dump.stdout
        else:
            assert "RESEARCH USE ONLY" in ds.SeriesDescription


def check_replay(node: Node) -> None:
    """Assert that a replay on the page makes the results of a study again, byte by byte."""
    with urllib.request.urlopen(f"{node.page}studies/1") as answer:
        token = re.search(r'X-CSRF-Token": "(\w+)"', answer.read().decode())
        cookie = (answer.headers["Set-Cookie"] or "").split(";")[0]
    assert token
    headers = {"X-CSRF-Token": token[1], "Cookie": cookie}
    replay = urllib.request.Request(f"{node.page}api/v1/studies/1/replay", headers=headers, method="POST")
    with urllib.request.urlopen(replay) as answer:
        results = json.load(answer)["results"]
    assert results
    assert [entry["difference"] for entry in results] == [""] * len(results)


@pytest.mark.timeout(400)
def test_real_films_come_back_as_reports(tmp_path: Path, cr_films: list[Path], films_root: Path) -> None:
    real = sorted((films_root / "dicom").glob("*.dcm"))
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], parallel=True, worker__gate="gate") as node,
    ):
        assert storescu(node.port, cr_films).returncode == 0
        target = f"DICOM_NODE@127.0.0.1:{node.port}"
        sent = node.cli("send", "--json", *map(str, real), "--to", target)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert json.loads(sent.stdout)["sent"] == len(real)
        studies = len(read_by_study([*cr_films, *real]))
        status = node.settled(studies, seconds=120)
        assert status["audit"]["conserved"], status
        assert status["studies"]["FAILED"] == 0
        check_results(pacs, [*cr_films, *real])
        check_replay(node)
        assert node.stop() == 0


def test_it_is_ready_soon_answers_on_its_page_and_ends_in_order(tmp_path: Path) -> None:
    with Node(tmp_path / "node") as node:
        assert "ae_title=DICOM_NODE" in node.ready_line
        with urllib.request.urlopen(node.page, timeout=60) as page:
            assert "RESEARCH USE ONLY" in page.read().decode()
        echo = subprocess.run(
            ["echoscu", "-aec", "DICOM_NODE", "127.0.0.1", str(node.port)], capture_output=True, check=False
        )
        assert echo.returncode == 0
        second = node.cli("serve")
        assert second.returncode == 3
        assert "another node uses it" in second.stderr
        assert "Traceback" not in second.stderr
        began = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - began < 30
        assert not listening(node.port)


def test_a_taken_port_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {"DICOM_NODE_DATA_DIR": str(tmp_path), "DICOM_NODE_DICOM__PORT": port}
        done = cli("serve", environment=environment)
    assert done.returncode == 2
    assert port in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_study_of_two_films_is_one_report_and_a_late_image_a_second(tmp_path: Path) -> None:
    frontal = factories.write(factories.film(study="two", instance=1), tmp_path / "1.dcm")
    lateral = factories.write(factories.film(study="two", instance=2, view="LL", seed=2), tmp_path / "2.dcm")
    late = factories.write(factories.film(study="two", instance=3, seed=3), tmp_path / "3.dcm")
    with StoreSCP(tmp_path / "pacs") as pacs, Node(tmp_path / "node", [pacs.destination]) as node:
        assert storescu(node.port, [frontal, lateral]).returncode == 0
        node.settled(1)
        reports = [ds for ds in map(dcmread, pacs.files()) if ds.SOPClassUID == Comprehensive3DSRStorage]
        assert len(reports) == 1
        evidence = reports[0].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        named = [item.ReferencedSOPClassUID for series in evidence for item in series.ReferencedSOPSequence]
        pictures = named.count(SecondaryCaptureImageStorage)  # that explain findings
        assert len(named) - pictures == 2
        assert storescu(node.port, [frontal]).returncode == 0  # a repeat changes nothing
        assert storescu(node.port, [late]).returncode == 0
        until(
            lambda: len([1 for p in pacs.files() if dcmread(p).SOPClassUID == Comprehensive3DSRStorage]) == 2,
            60,
            "a second SR",
        )
        assert node.settled(1)["audit"]["received"] == 3


def test_bad_input_has_an_outcome_each_and_harms_no_good_film(tmp_path: Path) -> None:
    def bad(name: str, **elements: object) -> Path:
        path = tmp_path / f"{name}.dcm"
        return factories.write(factories.film(study=name, series=name, **elements), path)  # type: ignore[arg-type]

    huge = bad("huge", Rows=65535, Columns=65535, PixelData=bytes(100))
    short = bad("short", PixelData=bytes(100))
    black = bad("black", pixels=_black())
    dates = bad("dates", StudyDate="20110328090650123", PatientBirthDate="19550820000000000")
    cyrillic = bad("cyrillic", patient_name="Тест^Пациент", character_set="ISO_IR 192")
    chinese = bad("chinese", patient_name="王^小东", character_set="GB18030")
    hand = bad("hand", body_part="HAND")
    good = write_films(tmp_path / "good", 2)
    with StoreSCP(tmp_path / "pacs") as pacs, Node(tmp_path / "node", [pacs.destination]) as node:
        accepted = [huge, good[0], short, black, dates, cyrillic, chinese, hand]
        assert storescu(node.port, accepted).returncode == 0
        _check_refusals(tmp_path, node)
        assert storescu(node.port, [good[1]]).returncode == 0
        status = node.settled(9, seconds=120)
        assert status["audit"]["conserved"]
        assert status["studies"]["REPORTED"] == 5
        assert status["studies"]["SKIPPED"] == 4
        check_results(pacs, [*accepted, good[1]])
        answers = read_by_study(pacs.files())
        for path in (huge, short, black, hand):
            (answer,) = answers[str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)]
            assert scores(answer) == {}
        named = answers[str(dcmread(cyrillic).StudyInstanceUID)][0]
        assert str(named.PatientName) == "Тест^Пациент"
        # Results of the node itself are kept and set aside: no new revision, no new result.
        results = pacs.files()
        captures = [path for path in results if dcmread(path).SOPClassUID == SecondaryCaptureImageStorage]
        if captures:
            assert storescu(node.port, captures).returncode == 0
        node.settled(9)
        assert pacs.files() == results
        assert node.status("--audit")["audit"]["fates"]["set_aside"] == len(captures)


def _black() -> object:
    import numpy as np

    return np.zeros((512, 448), np.int64)


def _check_refusals(tmp_path: Path, node: Node) -> None:
    """Assert that objects which are never accepted are refused, and that nothing of them is kept."""
    before = node.status("--audit")["audit"]["received"]
    good = write_films(tmp_path / "refused", 1, prefix="refused")[0]
    assert storescu(node.port, [good], called="WRONG").returncode != 0
    report = factories.film(study="sr", sop_class=Comprehensive3DSRStorage)
    assert storescu(node.port, [factories.write(report, tmp_path / "sr.dcm")]).returncode != 0
    for name, elements in {
        "traversal": {"SOPInstanceUID": "../../x"},
        "no-study": {"StudyInstanceUID": None},
    }.items():
        path = factories.write(factories.film(study=name, **elements), tmp_path / f"{name}.dcm")  # type: ignore[arg-type]
        sent = node.cli("send", str(path), "--to", f"DICOM_NODE@127.0.0.1:{node.port}")
        assert sent.returncode == 1, (name, sent.stdout, sent.stderr)
        assert "Traceback" not in sent.stderr
    text = tmp_path / "text.dcm"
    text.write_text("not DICOM")
    sent = node.cli("send", str(text), "--to", f"DICOM_NODE@127.0.0.1:{node.port}")
    assert sent.returncode == 1
    assert "text.dcm" in sent.stdout + sent.stderr
    assert node.status("--audit")["audit"]["received"] == before


def test_a_destination_that_is_away_gets_everything_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    away = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
    settings = {"sender__backoff_seconds": "0.2", "sender__backoff_cap_seconds": "1"}
    sent = write_films(tmp_path / "films", 3)
    with Node(tmp_path / "node", [away], **settings) as node:
        assert storescu(node.port, sent).returncode == 0
        until(lambda: node.status()["studies"]["REPORTED"] == 3, 60, "three studies reported")
        (destination,) = until(
            lambda: [d for d in node.status()["destinations"] if d["error"]], 20, "an error"
        )
        assert str(port) in destination["error"]
        with StoreSCP(tmp_path / "pacs", port=port) as pacs:
            assert node.settled(3)["audit"]["conserved"]
            check_results(pacs, sent)


@pytest.mark.timeout(600)
def test_whatever_is_killed_nothing_is_lost_and_nothing_delivered_twice(tmp_path: Path) -> None:
    sent = write_films(tmp_path / "films", 30)
    settings = {"worker__lease_seconds": "3", "sender__lease_seconds": "3"}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], parallel=True, **settings) as node,
    ):
        victims = ["scp", "sweep", "worker", "sender", "web", "broker"]
        acknowledged: list[Path] = []
        for number, victim in enumerate(victims):
            batch = sent[5 * number : 5 * number + 5]
            assert storescu(node.port, batch).returncode == 0
            acknowledged += batch
            for pid in node.children().get(victim, []):
                subprocess.run(["kill", "-9", str(pid)], check=False)
            until(lambda part=victim: node.children().get(part), 30, f"{victim} started again")
            until(lambda: listening(node.port), 20, "the port answers")
        status = node.settled(len(acknowledged), seconds=180)
        assert status["audit"]["conserved"], status
        assert status["audit"]["received"] == len(acknowledged)
        assert status["studies"]["REPORTED"] == len(acknowledged)
        check_results(pacs, acknowledged)
        # A sender that dies between an answer and its record repeats that one object, byte for byte.
        assert pacs.receptions() <= len(pacs.files()) + 5


@pytest.mark.timeout(400)
def test_a_node_that_is_killed_whole_goes_on_where_it_was(tmp_path: Path) -> None:
    sent = write_films(tmp_path / "films", 6)
    with StoreSCP(tmp_path / "pacs") as pacs:
        with Node(tmp_path / "node", [pacs.destination], parallel=True, study__quiet_seconds="3") as node:
            assert storescu(node.port, sent).returncode == 0
            node.stop(signal.SIGKILL)
        with Node(tmp_path / "node", [pacs.destination]) as node:
            assert node.settled(6, seconds=90)["audit"]["conserved"]
            check_results(pacs, sent)


@pytest.mark.timeout(400)
def test_the_parts_run_apart_over_redis_and_postgresql(tmp_path: Path) -> None:
    sent = write_films(tmp_path / "films", 2)
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Redis(tmp_path) as redis,
        postgresql(tmp_path) as address,
    ):
        settings = {"broker_url": redis.url, "database_url": address}
        data_dir = tmp_path / "node"
        with (
            Node(data_dir, [pacs.destination], "scp", **settings) as scp,
            Node(data_dir, [pacs.destination], "worker", **settings),
            Node(data_dir, [pacs.destination], "sender", **settings),
            Node(data_dir, [pacs.destination], "web", **settings) as web,
        ):
            assert storescu(scp.port, sent).returncode == 0
            assert scp.settled(2)["audit"]["conserved"]
            check_results(pacs, sent)
            with urllib.request.urlopen(web.page + "readyz", timeout=10) as answer:
                assert answer.status == 200
