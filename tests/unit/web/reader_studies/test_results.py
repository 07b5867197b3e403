"""A simulated reader study of 3 readers and 40 studies through the page; its results beside libraries."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, recall_score, roc_auc_score
from statsmodels.stats import inter_rater

from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import ReaderStudies
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import FINDINGS, THRESHOLD, Person, analysed, ask_for_logins, study_list

# 480 requests, each with its line in the audit trail, durable before the answer: a slow disk takes its time.
pytestmark = pytest.mark.timeout(900)

READERS = ("rita", "sven", "tess")
COUNT = 40


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A crossover study that all have read to the end, what they answered, and what the page says of it."""
    folder: Path = tmp_path_factory.mktemp("simulated")
    node = OfflineNode(folder)
    ask_for_logins(node, *READERS)
    random = np.random.default_rng(19)
    truth = {key: random.random(COUNT) < 0.4 for key in FINDINGS}
    model = {key: np.clip(0.3 + 0.3 * truth[key] + random.normal(0, 0.2, COUNT), 0, 1) for key in FINDINGS}
    uids = [
        analysed(node, number, {key: float(model[key][number]) for key in FINDINGS})
        for number in range(COUNT)
    ]
    known = {key: [int(each) for each in truth[key]] for key in FINDINGS}
    known["nodule"][3] = None  # a study without a reference for one of the findings
    said: dict[tuple[str, bool], dict[int, dict[str, tuple[bool, int]]]] = {}
    with ExitStack() as stack:
        ada, *readers = (Person(stack.enter_context(node.browser()), name) for name in ("ada", *READERS))
        number = ada.make(study_list(uids, known), READERS, "crossover")
        numbers = {each.study_id: each for each in ReaderStudies(node.index.engine).cases(
            ReaderStudies(node.index.engine).find(number)
        )}  # fmt: skip
        orders: dict[str, list[int]] = {}
        for skill, (name, person) in enumerate(zip(READERS, readers, strict=True)):
            while (opened := person.case(number)) is not None:
                reading, study = opened
                place = uids.index(numbers[study].study_instance_uid)
                aided = len(orders.setdefault(name, [])) >= COUNT
                orders[name].append(study)
                answers = {}
                for key in FINDINGS:
                    right = random.random() < 0.7 + 0.05 * skill + 0.1 * aided
                    answers[key] = (bool(truth[key][place] == right), int(random.integers(0, 101)))
                said.setdefault((name, aided), {})[place] = answers
                assert person.answer(number, reading, answers, visible_seconds="1.5") == 303
        yield {
            "truth": truth,
            "known": known,
            "model": model,
            "said": said,
            "orders": orders,
            "answer": ada.client.get(f"/api/v1/reader-studies/{number}/results").json(),
            "readings": ada.client.get(f"/api/v1/reader-studies/{number}/readings.csv").text,
            "results": ada.client.get(f"/api/v1/reader-studies/{number}/results.csv").text,
            "page": ada.client.get(f"/reader-studies/{number}").text,
            "stored": CaseReadings(node.index.engine).readings(ReaderStudies(node.index.engine).find(number)),
        }
    node.close()


def votes(simulated: dict[str, Any], name: str, aided: bool, key: str) -> tuple[list[bool], list[int]]:
    """Answers and ratings of one reader, in the order of the study list."""
    answers = [simulated["said"][name, aided][place][key] for place in range(COUNT)]
    return [present for present, _ in answers], [sure if present else -sure for present, sure in answers]


def raters(simulated: dict[str, Any], key: str) -> dict[tuple[str, bool | None], tuple[Any, Any]]:
    found: dict[tuple[str, bool | None], tuple[Any, Any]] = {
        (name, aided): votes(simulated, name, aided, key) for name in READERS for aided in (False, True)
    }
    certainty = simulated["model"][key]
    found["(model)", None] = (list(certainty >= THRESHOLD), list(certainty))
    return found


@pytest.mark.parametrize("key", FINDINGS)
def test_accuracies_are_those_of_scikit_learn(simulated: dict[str, Any], key: str) -> None:
    places = [place for place in range(COUNT) if simulated["known"][key][place] is not None]
    truth = [bool(simulated["truth"][key][place]) for place in places]
    rows = {
        (each["reader"], each["aided"]): each
        for each in simulated["answer"]["results"]["accuracies"]
        if each["finding"] == key
    }
    expected = raters(simulated, key)
    assert rows.keys() == expected.keys()
    for who, (present, ratings) in expected.items():
        row, here = rows[who], [present[place] for place in places]
        assert row["n"] == COUNT
        assert (row["positives"], row["negatives"]) == (sum(truth), len(truth) - sum(truth))
        assert row["sensitivity"]["value"] == pytest.approx(recall_score(truth, here))
        assert row["specificity"]["value"] == pytest.approx(recall_score(truth, here, pos_label=False))
        assert row["auc"]["value"] == pytest.approx(roc_auc_score(truth, [ratings[each] for each in places]))
        assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"]


@pytest.mark.parametrize("key", FINDINGS)
@pytest.mark.parametrize("aided", [False, True])
def test_kappas_are_those_of_the_libraries(simulated: dict[str, Any], key: str, aided: bool) -> None:
    present = {name: votes(simulated, name, aided, key)[0] for name in READERS}
    present["(model)"] = raters(simulated, key)["(model)", None][0]
    rows = [
        each
        for each in simulated["answer"]["results"]["agreements"]
        if each["finding"] == key and each["aided"] is aided
    ]
    pairs = {tuple(each["readers"]): each["kappa"] for each in rows if each["statistic"] == "cohen"}
    expected = {
        pair: cohen_kappa_score(present[pair[0]], present[pair[1]])
        for pair in itertools.combinations([*READERS, "(model)"], 2)
    }
    assert pairs == pytest.approx(expected)
    table, _ = inter_rater.aggregate_raters(np.array([present[name] for name in READERS]).T.astype(int))
    (fleiss,) = [each for each in rows if each["statistic"] == "fleiss"]
    assert fleiss["kappa"] == pytest.approx(inter_rater.fleiss_kappa(table))
    assert fleiss["n"] == COUNT


def test_comparisons_are_differences_and_means_of_the_aucs(simulated: dict[str, Any]) -> None:
    key = "pleural_effusion"
    area = {
        who: roc_auc_score(simulated["truth"][key], ratings)
        for who, (_, ratings) in raters(simulated, key).items()
    }
    found = {
        each["what"]: each["estimate"]["value"]
        for each in simulated["answer"]["results"]["comparisons"]
        if each["finding"] == key
    }
    means = {aided: statistics.mean(area[name, aided] for name in READERS) for aided in (False, True)}
    expected = {
        "mean AUC of the readers, unaided": means[False],
        "mean AUC of the readers, aided": means[True],
        "mean over the readers of AUC: aided - unaided": means[True] - means[False],
    }
    for name in READERS:
        for aided, word in ((False, "unaided"), (True, "aided")):
            expected[f"AUC: model - {name} {word}"] = area["(model)", None] - area[name, aided]
        expected[f"AUC: {name} aided - {name} unaided"] = area[name, True] - area[name, False]
    assert found == pytest.approx(expected)


def test_times_are_those_between_display_and_answer(simulated: dict[str, Any]) -> None:
    for row in simulated["answer"]["results"]["accuracies"]:
        own = [
            each.answered_at - each.displayed_at
            for each in simulated["stored"]
            if (each.reader, each.aided) == (row["reader"], row["aided"])
        ]
        if row["reader"] == "(model)":
            assert row["median_seconds"] is row["median_visible_seconds"] is None
        else:
            assert row["median_seconds"] == pytest.approx(statistics.median(own))
            assert row["median_visible_seconds"] == 1.5


def test_each_reader_has_an_order_of_their_own_in_each_session(simulated: dict[str, Any]) -> None:
    sessions = [
        order[start : start + COUNT] for order in simulated["orders"].values() for start in (0, COUNT)
    ]
    assert all(sorted(each) == sorted(sessions[0]) for each in sessions)
    assert len({tuple(each) for each in sessions}) == 2 * len(READERS)


def test_the_file_of_readings_has_every_answer(simulated: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(simulated["readings"])))
    assert len(rows) == 2 * len(READERS) * COUNT * len(FINDINGS)
    assert {each["intended_use"] for each in rows} == {"research use only"}
    for name, aided in simulated["said"]:
        for key in FINDINGS:
            ratings = [
                int(each["rating"])
                for each in rows
                if (each["reader"], each["aided"], each["finding"]) == (name, str(int(aided)), key)
            ]
            assert sorted(ratings) == sorted(votes(simulated, name, aided, key)[1])
    assert sum(each["reference"] == "" for each in rows) == 2 * len(READERS)


def test_the_file_of_results_and_the_page_say_the_same(simulated: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(simulated["results"])))
    found = simulated["answer"]["results"]
    figures = 5 * len(found["accuracies"]) + len(found["agreements"]) + len(found["comparisons"])
    assert len(rows) == figures
    for each in found["accuracies"]:
        assert f"{each['auc']['value']:.2f}" in simulated["page"]
    assert "Not computed: p-values" in simulated["page"]
