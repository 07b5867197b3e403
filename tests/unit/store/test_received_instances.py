"""Instances that are added together leave the same rows as instances that are added one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from dicom_node.store.index import Index
from dicom_node.store.prior_requests import PriorRequests
from dicom_node.store.received_instances import Admission, ReceivedInstance
from dicom_node.store.states import FileState, StudyState
from dicom_node.store.tables import instance, prior_request, result, study
from tests.support.clock import Clock
from tests.support.index_records import received_instance

Earlier = tuple[ReceivedInstance, StudyState, FileState]
STUDIES = ("1.2.1", "1.2.2")

instances = st.builds(
    lambda study, number, content, **fields: received_instance(
        f"{study}.{number}", study, f"{study}{number}{content}".ljust(64, "0"), **fields
    ),
    st.sampled_from(STUDIES),
    st.integers(1, 3),
    st.sampled_from("ab"),
    own_result=st.sampled_from([False, False, False, True]),
    moved_for=st.sampled_from(["", "", "DICOM_NODE"]),
    placed_at=st.sampled_from([0.0, 0.0, 1e12]),
)
before = st.lists(
    st.tuples(instances, st.sampled_from(sorted(StudyState)), st.sampled_from(sorted(FileState))), max_size=4
)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Index]]:
    folder: Path = tmp_path_factory.mktemp("indexes")
    opened = [Index.open(f"sqlite:///{folder / name}.sqlite") for name in ("together", "apart")]
    for each in opened:
        each._clock = Clock()
    yield opened
    for each in opened:
        each.close()


def begin(index: Index, earlier: list[Earlier], *, asked: bool) -> None:
    """Empty the index, and enter what was received before."""
    with index.engine.begin() as connection:
        for table in (instance, result, study, prior_request):
            connection.execute(delete(table))
    if asked:
        requests = PriorRequests(index.engine, index._clock)
        requests.record(STUDIES[0], source_ae="PACS", move_destination="DICOM_NODE")
    for received, state, file_state in earlier:
        index.add_instance(received)
        with index.engine.begin() as connection:
            its_study = study.c.study_instance_uid == received.study_instance_uid
            connection.execute(update(study).where(its_study).values(state=state, owner="w", reason="r"))
            its_row = instance.c.digest == received.digest
            connection.execute(update(instance).where(its_row).values(file_state=file_state))


def rows(index: Index) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows without the numbers that depend on the order of insertion."""
    with index.engine.connect().execution_options(reading=True) as connection:
        joined = select(instance, study.c.study_instance_uid).join(study).order_by(instance.c.digest)
        received = [dict(row) for row in connection.execute(joined).mappings()]
        studies = [
            dict(row)
            for row in connection.execute(select(study).order_by(study.c.study_instance_uid)).mappings()
        ]
    for row in [*received, *studies]:
        row.pop("id")
        row.pop("study_id", None)
    return received, studies


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(instances, min_size=2, max_size=6), before, st.booleans())
def test_a_group_leaves_what_its_instances_leave_one_by_one(
    indexes: list[Index],
    group: list[ReceivedInstance],
    earlier: list[Earlier],
    asked: bool,
) -> None:
    together, apart = indexes
    for index in indexes:
        begin(index, earlier, asked=asked)
    outcomes = together._add_group(group)
    in_order = sorted(
        range(len(group)), key=lambda at: (group[at].study_instance_uid, group[at].sop_instance_uid)
    )
    alone: dict[int, Admission] = {at: apart.add_instance(group[at]) for at in in_order}
    assert [alone[at] for at in range(len(group))] == outcomes
    assert rows(together) == rows(apart)
