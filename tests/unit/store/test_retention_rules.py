from __future__ import annotations

from pathlib import Path

from dicom_node.config.retention import RetentionSettings
from dicom_node.store import database
from dicom_node.store.index import Index
from dicom_node.store.retention_rules import COLUMNS, FILE_RULES, candidates
from dicom_node.store.row_rules import ROW_RULES
from dicom_node.store.states import FILE_TRANSITIONS, FileState, StudyState
from tests.support.clock import Clock
from tests.support.holdings import DAY, Holdings


def test_every_setting_has_its_rule() -> None:
    settings = {name for name in RetentionSettings.model_fields if name.endswith("_days")}
    rules = {rule.setting for rule in (*FILE_RULES, *ROW_RULES)}
    assert settings - {"least_days", "warn_days"} == rules
    assert RetentionSettings(**dict.fromkeys(rules, 5)).limits.days == dict.fromkeys(rules, 5.0)


def test_no_row_falls_under_two_rules(index: Index, tmp_path: Path, clock: Clock) -> None:
    held = Holdings(index, tmp_path / "data", clock)
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    for number, state in enumerate((StudyState.REPORTED, StudyState.SKIPPED, StudyState.FAILED), 2):
        held.film(f"1.{number}")
        held.end(f"1.{number}", state, destinations=())
    held.trial("1.5")
    held.end("1.5", destinations=())
    held.film("1.6", own_result=True)
    held.end("1.6", StudyState.SKIPPED, destinations=(), results=0)
    clock.now += DAY
    found: list[tuple[object, int]] = []
    with database.reading(index.engine) as connection:
        for rule in FILE_RULES:
            query = candidates(rule, clock.now, 1, COLUMNS[rule.holding].table.c.id)
            found += [(rule.holding, key) for key in connection.execute(query).scalars()]
    assert len(found) == len(set(found))
    assert len(found) == 6 + 5 + 6


def test_every_state_of_a_file_is_reached() -> None:
    assert set(FILE_TRANSITIONS) == set(FileState)
    assert {target for targets in FILE_TRANSITIONS.values() for target in targets} == set(FileState)
