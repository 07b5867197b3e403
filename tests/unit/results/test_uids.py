"""UIDs: the same for the same, others for others, and valid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_node.results import uids


@given(st.lists(st.text(), max_size=5))
def test_a_derived_uid_is_valid_short_and_repeatable(parts: list[str]) -> None:
    uid = uids.derived_uid(*parts)
    assert UID(uid).is_valid
    assert len(uid) <= 44
    assert uid == uids.derived_uid(*parts)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_other_parts_give_another_uid(one: list[str], other: list[str]) -> None:
    assert (uids.derived_uid(*one) == uids.derived_uid(*other)) == (one == other)


def test_each_kind_of_result_revision_and_model_is_a_series_of_its_own() -> None:
    series = {
        uids.series_uid(study, revision, kind, model)
        for study in ("1.2", "1.3")
        for revision in (1, 2)
        for kind in ("sr", "sc")
        for model in ("a", "b")
    }
    assert len(series) == 16


def test_tracking_survives_a_revision() -> None:
    assert uids.tracking_uid("1.2", "model", "mass") == uids.tracking_uid("1.2", "model", "mass")
    assert uids.tracking_uid("1.2", "model", "mass") != uids.tracking_uid("1.2", "model", "nodule")


def test_other_content_gives_another_instance() -> None:
    assert uids.instance_uid("1.2", "sr", "", b"one") != uids.instance_uid("1.2", "sr", "", b"two")


def test_an_installation_keeps_its_uid() -> None:
    # Written once, kept for ever: results of an earlier version carry it.
    assert uids.device_uid("node") == "2.25.234158587924376027511442834621938063160"
