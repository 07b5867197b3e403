"""Nothing shows a reader what the model says of a study that they are to read without it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from dicom_node.web import app
from dicom_node.web.blinding import FILM_ROUTES, JOINED_ROUTES, MAP_ROUTES
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import Person, analysed, ask_for_logins, study_list

STUDIES = [film(rows=8, columns=8, study=number).StudyInstanceUID for number in (1, 2)]
#: What no answer to a blinded reader may contain: the model's answers on the study.
SECRETS = ("0.8765", "88 %", "Grad-CAM")
ANSWERS = {"nodule": (True, 80)}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node with one study in reader studies, and one that is in none."""
    one = OfflineNode(tmp_path / "data")
    ask_for_logins(one, "rita", "sven", patient="name")
    for number in (1, 2):
        analysed(one, number, {"nodule": 0.8765})
    yield one
    one.close()


@pytest.fixture
def people(node: OfflineNode) -> Iterator[dict[str, Person]]:
    with ExitStack() as stack:
        names = ("ada", "rita", "sven")
        yield {name: Person(stack.enter_context(node.browser()), name) for name in names}


def studies_of(node: OfflineNode) -> str:
    return study_list([STUDIES[0]], {"nodule": [1]})


def leaks(person: Person, path: str) -> bool:
    """Whether an answer shows what the model says of study 1."""
    answer = person.client.get(path)
    return answer.status_code == 200 and any(secret in answer.text for secret in SECRETS)


OPEN = ["/studies/1", "/api/v1/studies/1"]


@pytest.mark.parametrize("design", ["unaided", "aided", "sequential", "crossover"])
def test_an_answer_is_hidden_from_the_readers_alone(
    node: OfflineNode, people: dict[str, Person], design: str
) -> None:
    people["ada"].make(studies_of(node), ["rita"], design)
    for path in OPEN:
        refused = people["rita"].client.get(path)
        assert refused.status_code == 403
        assert "hidden from you while you read it in a reader study" in refused.text
        assert leaks(people["sven"], path)
        assert leaks(people["ada"], path)
        assert leaks(people["rita"], path.replace("1", "2") if path == "/studies/1" else "/api/v1/studies/2")


def test_a_design_says_when_the_answer_is_shown(node: OfflineNode, people: dict[str, Person]) -> None:
    ada, rita = people["ada"], people["rita"]
    seen = {}
    for design in ("unaided", "aided", "sequential"):
        number = ada.make(studies_of(node), ["rita"], design)
        pages = []
        while (opened := rita.case(number)) is not None:
            page = rita.client.get(f"/reader-studies/{number}/read").text
            pages.append(("88 %" in page, rita.client.get("/studies/1").status_code == 200))
            assert rita.answer(number, opened[0], ANSWERS) == 303
        seen[design] = (pages, rita.client.get("/studies/1").status_code == 200)
        ada.post(f"/reader-studies/{number}/close")
        assert rita.client.get("/studies/1").status_code == 200
    assert seen == {
        "unaided": ([(False, False)], False),
        "aided": ([(True, True)], True),
        "sequential": ([(False, False), (True, True)], True),
    }


def test_every_route_of_a_study_is_refused_but_those_of_its_films(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    """Also routes that are made later: what is not listed is refused."""
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    known = set()
    for route in itertools.chain.from_iterable(each.routes for each in app._ROUTERS):
        if not isinstance(route, APIRoute):
            continue
        known.add(route.path)
        of_study = "{study_id}" in route.path or "{study}" in route.path
        if not (of_study or route.path in JOINED_ROUTES) or route.path in FILM_ROUTES:
            continue
        values = {"{study_id}": "1", "{study}": STUDIES[0], "{series}": "1.2", "{instance}": "1.2"}
        path = route.path
        for name, value in values.items():
            path = path.replace(name, value)
        for name in ("{image_id}", "{number}", "{rank}", "{key}", "{frames}", "{tag}"):
            path = path.replace(name, "1")
        for method in sorted(route.methods - {"HEAD"}):
            answer = people["rita"].client.request(
                method, path, headers={"X-CSRF-Token": people["rita"].csrf}
            )
            assert answer.status_code == 403, (method, path)
            assert "reader study" in answer.text, (method, path)
    assert known >= FILM_ROUTES | MAP_ROUTES | JOINED_ROUTES


@pytest.mark.parametrize("number", ["1.0", "01", "+1", "%201", "1_0", "\uff11"])
def test_no_other_spelling_of_a_number_leads_around_it(
    node: OfflineNode, people: dict[str, Person], number: str
) -> None:
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    assert not leaks(people["rita"], f"/studies/{number}")
    assert not leaks(people["rita"], f"/api/v1/studies/{number}")


def test_lists_leave_the_answers_out_and_filters_find_none(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    rita, sven = people["rita"].client, people["sven"].client
    rows = {each["id"]: each for each in rita.get("/api/v1/studies").json()["studies"]}
    assert (rows[1]["findings"], rows[1]["normality"], rows[1]["deliveries"]) == ([], "", {})
    assert rows[2]["findings"]
    assert rita.get("/").text.count("88 %") == 1
    for who, found in ((rita, [2]), (sven, [1, 2])):
        listed = who.get("/api/v1/studies?finding=nodule").json()
        assert sorted(each["id"] for each in listed["studies"]) == found
        assert sum(listed["states"].values()) == len(found)
        searched = who.post(
            "/api/v1/studies/search",
            json={"finding": "nodule"},
            headers={"X-CSRF-Token": people["rita" if who is rita else "sven"].csrf},
        ).json()
        assert sorted(each["id"] for each in searched["studies"]) == found


def test_the_viewer_shows_the_films_without_maps(node: OfflineNode, people: dict[str, Person]) -> None:
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    shown = people["rita"].client.get("/api/v1/studies/1/viewer").json()
    assert len(shown["images"]) == 1
    assert shown["maps"] == []
    assert people["rita"].client.get(shown["images"][0]["pixels"]).status_code == 200


def test_a_search_by_dicomweb_finds_no_result_of_the_study(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    rita, sven = people["rita"].client, people["sven"].client
    for level in ("studies", "series", "instances"):
        assert STUDIES[0] not in rita.get(f"/dicom-web/{level}").text
        assert STUDIES[1] in rita.get(f"/dicom-web/{level}").text
        assert STUDIES[0] in sven.get(f"/dicom-web/{level}").text


def test_an_admin_who_reads_sees_the_results_at_the_end(node: OfflineNode, people: dict[str, Person]) -> None:
    ada = people["ada"]
    number = ada.make(studies_of(node), ["ada"], "unaided")
    files = [f"/api/v1/reader-studies/{number}/{what}" for what in ("results", "results.csv", "readings.csv")]
    for path in files:
        assert ada.client.get(path).status_code == 403
        assert people["rita"].client.get(path).status_code == 403
    assert "ROC AUC" not in ada.client.get(f"/reader-studies/{number}").text
    assert people["rita"].client.get(f"/reader-studies/{number}").status_code == 404
    ada.post(f"/reader-studies/{number}/close")
    assert all(ada.client.get(path).status_code == 200 for path in files)
    assert "ROC AUC" in ada.client.get(f"/reader-studies/{number}").text


def test_no_other_reader_study_over_the_cases_tells_the_answers(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    ada = people["ada"]
    other = ada.make(studies_of(node), ["rita"], "unaided")
    files = [f"/api/v1/reader-studies/{other}/{what}" for what in ("results", "results.csv", "readings.csv")]
    assert all(ada.client.get(path).status_code == 200 for path in files)
    own = ada.make(studies_of(node), ["ada"], "unaided", name="of her own")
    assert all(ada.client.get(path).status_code == 403 for path in files)
    assert "ROC AUC" not in ada.client.get(f"/reader-studies/{other}").text
    ada.post(f"/reader-studies/{own}/close")
    assert all(ada.client.get(path).status_code == 200 for path in files)


def test_a_study_that_is_compared_with_a_hidden_one_is_hidden_too(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    from dicom_node.store import database
    from dicom_node.store.tables import prior

    with database.writing(node.index.engine) as connection:
        connection.execute(
            prior.insert().values(
                study_id=2,
                revision=1,
                patient="p",
                taken="20260101",
                prior_uid=STUDIES[0],
                files="[]",
                reason="",
            )
        )
    people["ada"].make(studies_of(node), ["rita"], "unaided")
    assert people["rita"].client.get("/studies/2").status_code == 403
    assert people["sven"].client.get("/studies/2").status_code == 200
