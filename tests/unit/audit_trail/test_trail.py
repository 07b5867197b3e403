"""The trail records durably, disturbs nobody while it cannot be written, and gathers what would flood it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.audit_trail import events
from dicom_node.audit_trail import trail as trail_module
from dicom_node.audit_trail.alerts import PER_MINUTE, Alerts
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.settings_change import changed_settings, record_changed_settings
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.audit_trail.transfers import LONGEST_SECONDS, MOST_STUDIES, Transfers
from dicom_node.config.audit_trail import AuditTrailSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFull
from tests.support import factories
from tests.support.audit_messages import Said, said
from tests.support.clock import Clock
from tests.support.offline_node import OfflineNode
from tests.support.peers import until

READER = Actor("ada", "192.0.2.7")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def trail(node: OfflineNode) -> AuditTrail:
    return AuditTrail.open(node.settings, node.index.engine)


def test_many_threads_record_at_once(node: OfflineNode, trail: AuditTrail) -> None:
    threads = [
        threading.Thread(target=lambda: [trail.record(events.logged_in(READER)) for _ in range(10)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said(node.data_dir.audit_trail)) == 80
    assert not trail.chain.verify().problems


class FullDisk:
    """Chain that takes nothing until it is mended."""

    def __init__(self, trail: AuditTrail) -> None:
        self._append = trail.chain.append
        self.full = True
        trail.chain.append = self  # type: ignore[method-assign,assignment]

    def __call__(self, messages: list[str]) -> None:
        if self.full:
            raise StorageFull("audit: No space left on device; free space on its disk")
        self._append(messages)


def test_entries_wait_while_the_disk_is_full_and_are_written_when_it_is_not(
    node: OfflineNode, trail: AuditTrail
) -> None:
    disk = FullDisk(trail)
    trail.record(events.logged_in(READER))
    assert "No space left" in trail.trouble
    trail.record(events.logged_out(READER))
    disk.full = False
    trail.close()
    assert trail.trouble == ""
    assert [each.types for each in said(node.data_dir.audit_trail)] == [("110122",), ("110123",)]


def test_what_had_to_be_dropped_is_said_by_the_next_entry(
    node: OfflineNode, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "WAITING", 3)
    disk = FullDisk(trail)
    for _ in range(5):
        trail.record(events.logged_in(READER))
        trail.close()
    disk.full = False
    trail.close()
    first, *others = said(node.data_dir.audit_trail)
    assert (first.event, first.types) == ("110113", ("110133",))
    assert first.description.startswith("2 entries were lost")
    assert [each.event for each in others] == ["110114"] * 3


def test_an_entry_that_cannot_be_made_goes_no_further(node: OfflineNode, trail: AuditTrail) -> None:
    def make():
        raise KeyError("x")

    trail.record_about(make)
    assert said(node.data_dir.audit_trail) == []


# -- subjects


@pytest.mark.parametrize(("patient", "is_id"), [("pseudonym", False), ("id", True)])
def test_a_patient_is_named_as_the_setting_says(node: OfflineNode, patient: str, is_id: bool) -> None:
    node.receive(1, ds=factories.film(rows=64, columns=64, study=1, PatientID="MRN-77", PatientName="Doe^J"))
    settings = node.settings.model_copy(update={"audit_trail": AuditTrailSettings(patient=patient)})
    trail = AuditTrail.open(settings, node.index.engine)
    subject = trail.subjects.of_study(1)
    assert subject is not None
    trail.record(events.exported(READER, "x", subject))
    assert (subject.patient == "MRN-77") is is_id
    assert subject.patient.startswith("P-") is not is_id
    written = b"".join(path.read_bytes() for path in node.data_dir.audit_trail.glob("*.jsonl"))
    assert (b"MRN-77" in written) is is_id
    assert b"Doe" not in written


def test_the_trail_names_a_patient_as_the_page_does(node: OfflineNode, trail: AuditTrail) -> None:
    node.receive(1)
    with node.browser() as page:
        (shown,) = page.get("/api/v1/studies").json()["studies"]
    subject = trail.subjects.of_study(1)
    assert subject is not None
    assert shown["patient"] == subject.patient
    assert trail.subjects.of_study(2) is None
    assert trail.subjects.of_uid("1.2.9").patient == ""


# -- transfers


def written(node: OfflineNode, trail: AuditTrail) -> list[Said]:
    trail.close()
    return said(node.data_dir.audit_trail)


def note(transfers: Transfers, association: object, study: int, **more: bool) -> None:
    transfers.note(
        association,
        Actor("", "192.0.2.10", "PACS"),
        study_instance_uid=f"1.2.{study}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        path=Path("nowhere"),
        **more,
    )


def test_one_message_for_each_study_of_an_association(node: OfflineNode, trail: AuditTrail) -> None:
    transfers = Transfers(trail, "DICOM_NODE", incoming=True)
    for study in (1, 1, 2, 1):
        note(transfers, "a", study)
    note(transfers, "b", 1)
    note(transfers, "a", 1, known=True)
    assert written(node, trail) == []
    transfers.finish("a")
    found = [(each.objects[0], each.action, each.instances) for each in written(node, trail)]
    assert found == [("1.2.1", "C", 3), ("1.2.2", "C", 1), ("1.2.1", "R", 1)]
    transfers.finish("b")
    transfers.finish("a")
    assert len(written(node, trail)) == 4


def test_an_association_that_stays_open_is_written_meanwhile(node: OfflineNode, trail: AuditTrail) -> None:
    clock = Clock()
    transfers = Transfers(trail, "DICOM_NODE", incoming=True, clock=clock)
    note(transfers, "a", 1)
    clock.now += LONGEST_SECONDS
    note(transfers, "a", 1)
    assert [each.instances for each in written(node, trail)] == [2]
    transfers.finish("a")
    assert len(written(node, trail)) == 1


def test_many_studies_of_one_association_are_not_gathered_without_end(
    node: OfflineNode, trail: AuditTrail
) -> None:
    transfers = Transfers(trail, "DICOM_NODE", incoming=True)
    for study in range(MOST_STUDIES + 1):
        note(transfers, "a", study)
    assert len(written(node, trail)) == MOST_STUDIES + 1


def test_what_is_gathered_is_written_soon_and_together(node: OfflineNode, trail: AuditTrail) -> None:
    appended: list[int] = []
    append = trail.chain.append
    trail.chain.append = lambda messages: (appended.append(len(messages)), append(messages))  # type: ignore[method-assign,assignment]
    transfers = Transfers(trail, "DICOM_NODE", incoming=True)
    for association in range(5):
        note(transfers, association, 1)
        transfers.finish(association)
    until(lambda: len(said(node.data_dir.audit_trail)) == 5, 10, "five entries")
    assert sum(appended) == 5
    assert len(appended) < 5


# -- alerts


def test_a_flood_of_refusals_is_few_entries_and_the_number_left_out(
    node: OfflineNode, trail: AuditTrail
) -> None:
    clock = Clock()
    clock.now = 1_700_000_040.0  # a minute begins
    alerts = Alerts(trail, clock)
    for _ in range(3):
        alerts.association_refused(Actor("", "192.0.2.1", "A"), "calling AE title", detail="A is unknown")
    assert len(said(node.data_dir.audit_trail)) == 1
    for number in range(2 * PER_MINUTE):
        alerts.association_refused(Actor("", f"192.0.2.{number}", "B"), "other", detail="")
    assert len(said(node.data_dir.audit_trail)) == PER_MINUTE
    clock.now += 60
    alerts.access_refused(READER, "GET /access")
    *_, last = said(node.data_dir.audit_trail)
    assert last.types == ("110132",)
    assert f"({PER_MINUTE + 1} other refusals before this one were left out)" in last.objects[0]


# -- settings


def test_a_changed_setting_is_recorded_by_name_and_not_by_value(node: OfflineNode, trail: AuditTrail) -> None:
    folder = node.data_dir.audit_trail
    record_changed_settings(trail, node.settings, folder)
    record_changed_settings(trail, node.settings, folder)
    assert said(folder) == []
    changed = node.settings.model_copy(
        update={"web": node.settings.web.model_copy(update={"session_hours": 3.5}), "log_level": "DEBUG"}
    )
    record_changed_settings(trail, changed, folder)
    (found,) = said(folder)
    assert (found.event, found.types) == ("110113", ("110131",))
    assert found.description == "settings changed: log_level, web.session_hours"
    assert (folder / "settings.json").stat().st_mode & 0o077 == 0


def test_a_damaged_record_of_settings_counts_as_none(tmp_path: Path) -> None:
    record = tmp_path / "audit" / "settings.json"
    assert changed_settings(Settings(), record) == []
    record.write_text("[")
    assert changed_settings(Settings(log_level="DEBUG"), record) == []
    assert changed_settings(Settings(), record) == ["log_level"]
