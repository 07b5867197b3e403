from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config.destinations import DicomDestination, RoutingRule
from dicom_node.delivery.routing import RoutingAttributes, RoutingDecision, route, view_of
from dicom_node.errors import ConfigurationError
from dicom_node.results.report import Refusal, Report, Source
from tests.support import factories
from tests.support.reports import report_of

DESTINATIONS = tuple(
    DicomDestination(name=name, ae_title=ae_title, host="127.0.0.1", port=104)
    for name, ae_title in {"pacs": "PACS", "emergency": "ER", "archive": "ARCHIVE"}.items()
)
FALLBACK = RoutingRule(name="others", fallback=True, destinations=("archive",))


def rule(name: str = "rule", to: tuple[str, ...] = ("pacs",), **conditions: Any) -> RoutingRule:
    return RoutingRule(name=name, destinations=to, **conditions)


def routed(study: RoutingAttributes, *rules: RoutingRule) -> RoutingDecision:
    return route(study, [*rules, FALLBACK], DESTINATIONS)


def test_without_rules_every_destination_gets_everything() -> None:
    assert route(RoutingAttributes(), (), DESTINATIONS).destinations == ("pacs", "emergency", "archive")


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({"calling_ae": ("ER_*",)}, True),
        ({"calling_ae": ("ER_?",)}, True),
        ({"calling_ae": ("WARD", "er_1")}, True),
        ({"calling_ae": ("ER",)}, False),
        ({"modality": ("DX",)}, True),
        ({"modality": ("CR",)}, False),
        ({"body_part": ("CHEST",)}, False),
        ({"body_part": ("CHEST", "")}, True),
        ({"view": ("lateral",)}, True),
        ({"finding": ("pneumo*",)}, True),
        ({"finding": ("effusion",)}, False),
        ({"finding": ("",)}, False),
        ({"modality": ("DX",), "finding": ("pneumothorax",)}, True),
        ({"modality": ("DX",), "finding": ("effusion",)}, False),
    ],
)
def test_a_rule_matches_when_each_condition_is_met_by_one_value(
    conditions: dict[str, Any], matches: bool
) -> None:
    study = RoutingAttributes(("ER_1",), ("DX",), (), ("frontal", "lateral"), ("pneumothorax", "nodule"))
    found = routed(study, rule(**conditions))
    assert found.destinations == (("pacs",) if matches else ("archive",))
    assert len(found.matches[0].reasons) == len(conditions)


def test_every_rule_that_matches_adds_and_the_fallback_stays_out() -> None:
    found = routed(
        RoutingAttributes(modality=("CR",)),
        rule("one", ("emergency",), modality=("CR",)),
        rule("two", ("pacs", "emergency"), modality=("*",)),
        rule("three", ("archive",), modality=("DX",)),
    )
    assert found.destinations == ("pacs", "emergency")
    assert found.rules == ("one", "two")
    assert found.matches[-1].reasons == ("fallback: another rule matches",)


def test_a_rule_may_keep_results_here() -> None:
    assert routed(RoutingAttributes(modality=("CR",)), rule(to=(), modality=("CR",))).destinations == ()


def test_results_return_to_the_sender_as_far_as_it_is_a_destination() -> None:
    found = routed(RoutingAttributes(("ER", "WARD"), ("CR",)), rule(to=("sender",), modality=("CR",)))
    assert found.destinations == ("emergency",)
    assert found.remarks == ("sender: no destination has the AE title WARD",)


def test_the_reasons_say_what_was_looked_for_and_what_was_there() -> None:
    found = routed(RoutingAttributes(modality=("CR",)), rule(modality=("CR",), view=("frontal",)))
    assert found.matches[0].reasons == ("modality: CR is 'CR'", "view: nothing is none of 'frontal'")


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", "frontal"), ("AP", "frontal"), ("ap", "frontal"), ("AP_SUPINE", "frontal"), ("LL", "lateral"),
        ("RL", "lateral"), ("LATERAL", "lateral"), ("LARGE LATERAL", "lateral"), ("RLD", ""), ("", ""),
        ("XX", ""), ("PAX", ""), (None, ""),
    ],
)  # fmt: skip
def test_view_position_is_read_as_it_is_met(position: str | None, view: str) -> None:
    assert view_of(factories.film(view=position)) == view


def test_the_attributes_are_those_of_the_report() -> None:
    told = report_of(factories.film())
    study = RoutingAttributes.of([told], ["ER", "ER", "WARD"])
    present = [item.key for item in told.findings if item.presence.value == "present"]
    assert study.calling_ae == ("ER", "WARD")
    assert present
    assert list(study.finding) == present
    assert study.modality == ("CR",)
    assert RoutingAttributes.of([], ["ER"]) == RoutingAttributes(("ER",))


def test_what_the_gate_saw_goes_before_view_position() -> None:
    source = Source(factories.film(view="PA"), view="lateral")
    refused = Report(
        "1.2", 1, datetime(2026, 1, 1, tzinfo=UTC), (source,), None, refusal=Refusal("set_aside", "no")
    )
    assert RoutingAttributes.of([refused], []).view == ("lateral",)


@given(
    st.lists(st.sampled_from(["CR", "DX", "SC"]), max_size=2),
    st.lists(st.sampled_from(["CR", "DX", "*", ""]), min_size=1, max_size=3),
)
def test_exactly_one_of_rule_and_fallback_matches(values: list[str], patterns: list[str]) -> None:
    found = routed(RoutingAttributes(modality=tuple(values)), rule(modality=tuple(patterns)))
    assert sum(match.matched for match in found.matches) == 1


# -- dicom-node rules test ------------------------------------------------------------------------------

CONFIG = """
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104

[[rules]]
name = "urgent"
finding = ["pneumothorax"]
view = ["frontal"]
destinations = ["pacs"]

[[rules]]
name = "others"
fallback = true
destinations = ["sender"]
"""


def rules_test(tmp_path: Path, *words: str, config: str = CONFIG) -> Any:
    (tmp_path / "node.toml").write_text(config)
    film = factories.write(factories.film(view="PA"), tmp_path / "film.dcm")
    return CliRunner().invoke(
        app, ["--config", str(tmp_path / "node.toml"), "rules", "test", str(film), *words]
    )


def test_the_command_explains_which_rule_matched_and_why(tmp_path: Path) -> None:
    answer = rules_test(tmp_path, "--finding", "pneumothorax")
    assert answer.exit_code == 0, answer.output
    for line in (
        "modality: CR",
        "view: frontal",
        "matches: urgent",
        "    finding: pneumothorax is 'pneumothorax'",
        "does not match: others",
        "    fallback: another rule matches",
        "destinations: pacs",
    ):
        assert line in answer.output.splitlines(), answer.output


def test_the_command_speaks_to_scripts(tmp_path: Path) -> None:
    answer = rules_test(tmp_path, "--calling-ae", "WARD", "--json")
    table = json.loads(answer.output)
    assert [entry["matched"] for entry in table["rules"]] == [False, True]
    assert table["remarks"] == ["sender: no destination has the AE title WARD"]
    assert table["destinations"] == []


def test_a_finding_that_no_model_has_is_refused_and_in_a_rule_it_is_said(tmp_path: Path) -> None:
    answer = rules_test(tmp_path, "--finding", "pneumotorax")
    assert isinstance(answer.exception, ConfigurationError)
    assert str(answer.exception) == (
        "--finding pneumotorax: no label of openi-findings; did you mean 'pneumothorax'?"
    )
    wrong = CONFIG.replace('"pneumothorax"', '"pneumotorax"')
    assert wrong != CONFIG
    said = rules_test(tmp_path, config=wrong).output
    assert "no label of openi-findings matches 'pneumotorax'; did you mean 'pneumothorax'?" in said


def test_the_command_says_what_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    answer = CliRunner().invoke(app, ["rules", "test", str(tmp_path / "notes.txt")])
    assert answer.exit_code == 1
    assert "name DICOM files" in str(answer.exception)


def test_without_rules_the_command_says_so(tmp_path: Path) -> None:
    answer = rules_test(tmp_path, config=CONFIG.partition("[[rules]]")[0])
    assert "no rules: every destination gets everything" in answer.output
    assert "destinations: pacs" in answer.output
