"""Notes and tags on studies, filters of the list, and actions on several studies at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from dicom_node.store import database
from dicom_node.store.states import StudyState
from dicom_node.store.tables import access, study, study_tag
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.notes import Notes
from dicom_node.web.read_models.worklist import read_worklist
from dicom_node.web.read_models.worklist_query import Read, WorklistQuery
from dicom_node.web.saved_filters import MOST_FILTERS
from tests.support.factories import film, uid
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import Person, analysed, ask_for_logins, study_list


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node with three analysed studies, two readers and an admin."""
    one = OfflineNode(tmp_path / "data")
    ask_for_logins(one, "rita", "sven", patient="name")
    for number in (1, 2, 3):
        analysed(one, number, {"nodule": 0.9})
    yield one
    one.close()


@pytest.fixture
def people(node: OfflineNode) -> Iterator[dict[str, Person]]:
    with ExitStack() as stack:
        yield {name: Person(stack.enter_context(node.browser()), name) for name in ("ada", "rita", "sven")}


def listed(who: Person, query: str = "") -> list[int]:
    answer = who.client.get(f"/api/v1/studies?sort=arrived{query}")
    assert answer.status_code == 200, answer.text
    return sorted(each["id"] for each in answer.json()["studies"])


def post(who: Person, path: str, **form: str) -> str:
    answer = who.client.post(path, data={"csrf": who.csrf, **form}, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_a_tag_is_given_found_and_taken_back_by_anybody(people: dict[str, Person]) -> None:
    rita, sven = people["rita"], people["sven"]
    page = post(rita, "/studies/1/tags", tag=" Teaching ")
    assert re.search(r'href="/\?tag=teaching" title="given by rita', page)
    (tag,) = sven.client.get("/api/v1/studies/1/notes").json()["tags"]
    assert (tag["tag"], tag["reader"]) == ("teaching", "rita")
    post(sven, "/studies/1/tags", tag="teaching")  # who gave it first stays
    assert sven.client.get("/api/v1/studies/1/notes").json()["tags"] == [tag]
    assert listed(sven, "&tag=teaching") == listed(sven, "&tag=Teaching") == [1]
    assert 'class="word" href="/?tag=teaching"' in sven.client.get("/").text
    assert sven.client.get("/api/v1/tags").json() == ["teaching"]
    assert "teaching" not in post(sven, "/studies/1/tags", remove="teaching")
    assert (listed(sven, "&tag=teaching"), sven.client.get("/api/v1/tags").json()) == ([], [])
    post(sven, "/studies/1/tags", tag="teaching")
    assert sven.client.get("/api/v1/studies/1/notes").json()["tags"][0]["reader"] == "sven"


@pytest.mark.parametrize("word", ["two words", "", "x" * 33, "-dash", "<b>", "a/b"])
def test_a_tag_is_one_short_word(people: dict[str, Person], word: str) -> None:
    rita = people["rita"]
    answer = rita.client.post("/studies/1/tags", data={"csrf": rita.csrf, "tag": word})
    assert answer.status_code == 422
    assert "A tag is one word of at most 32 letters" in answer.text
    assert rita.client.get("/api/v1/tags").json() == []


def test_a_note_says_who_and_when_and_only_its_author_or_an_admin_takes_it_back(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    rita, sven, ada = people["rita"], people["sven"], people["ada"]
    page = post(rita, "/studies/1/notes", text="  <i>compare</i> with 2024 ")
    assert "&lt;i&gt;compare&lt;/i&gt; with 2024" in page
    post(sven, "/studies/1/notes", text="agreed")
    first, second = sven.client.get("/api/v1/studies/1/notes").json()["notes"]
    assert (first["text"], first["reader"]) == ("<i>compare</i> with 2024", "rita")
    assert abs(first["at"] - node.now) < 3600
    assert "2 notes" in sven.client.get("/").text
    taken = f"/studies/1/notes/{first['id']}/remove"
    assert sven.client.post(taken, data={"csrf": sven.csrf}).status_code == 404
    assert taken not in sven.client.get("/studies/1").text
    assert sven.client.post("/studies/2/notes/1/remove", data={"csrf": sven.csrf}).status_code == 404
    assert "compare" not in post(rita, taken)
    assert "agreed" not in post(ada, f"/studies/1/notes/{second['id']}/remove")
    assert sven.client.post("/studies/1/notes", data={"csrf": sven.csrf, "text": " "}).status_code == 400
    assert sven.client.post("/studies/1/notes", data={"text": "no token"}).status_code == 403
    assert sven.client.post("/studies/9/notes", data={"csrf": sven.csrf, "text": "x"}).status_code == 404


def test_notes_and_tags_are_in_the_access_log(node: OfflineNode, people: dict[str, Person]) -> None:
    post(people["rita"], "/studies/1/notes", text="one")
    post(people["rita"], "/studies/2/tags", tag="two")
    with database.reading(node.index.engine) as connection:
        rows = connection.execute(select(access.c.reader, access.c.action, access.c.study_id)).all()
    assert ("rita", "note", 1) in [tuple(row) for row in rows]
    assert ("rita", "tag", 2) in [tuple(row) for row in rows]


def test_open_pages_are_told_of_notes_and_tags(node: OfflineNode) -> None:
    notes = Notes(node.index.engine)
    with node.browser():
        stream = node.context.event_stream
        stream.stop()
        stream._changed()
        notes.tag([1], "new", "rita")
        assert stream._changed() == [1]
        notes.untag([1], "new", "rita")
        note = notes.write(2, "rita", "text")
        assert sorted(stream._changed()) == [1, 2]
        assert notes.take_back(2, note.id, "rita")
        assert stream._changed() == [2]


def test_notes_and_tags_of_a_study_that_is_read_blindly_are_hidden(people: dict[str, Person]) -> None:
    ada, rita = people["ada"], people["rita"]
    post(ada, "/studies/1/tags", tag="nodule")
    post(ada, "/studies/1/notes", text="the model is right")
    ada.make(
        study_list([film(rows=8, columns=8, study=1).StudyInstanceUID], {"nodule": [1]}), ["rita"], "unaided"
    )
    assert rita.client.get("/api/v1/studies/1/notes").status_code == 403
    row = next(each for each in rita.client.get("/api/v1/studies").json()["studies"] if each["id"] == 1)
    assert (row["tags"], row["notes"]) == ([], 0)
    assert listed(rita, "&tag=nodule") == []
    assert listed(ada, "&tag=nodule") == [1]
    assert rita.client.post("/studies/1/tags", data={"csrf": rita.csrf, "tag": "x"}).status_code == 403
    said = {"action": "tag", "tag": "x", "studies": [1, 2]}
    headers = {"X-CSRF-Token": rita.csrf}
    first, second = rita.client.post("/api/v1/studies/bulk", json=said, headers=headers).json()
    assert ("in a reader study" in first["error"], second["error"]) == (True, "")


def test_studies_that_nobody_or_the_reader_has_read_are_found(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    rita, sven, ada = people["rita"], people["sven"], people["ada"]
    feedback = Feedback(node.index.engine)
    feedback.record(1, "nodule", "rita", Verdict.AGREE, "")
    feedback.record(2, "nodule", "rita", Verdict.NONE, "")  # taken back
    assert listed(rita, "&read=mine") == [1]
    assert listed(rita, "&read=unread-by-me") == [2, 3]
    assert (listed(sven, "&read=mine"), listed(sven, "&read=unread-by-me")) == ([], [1, 2, 3])
    assert listed(sven, "&read=unread") == [2, 3]
    assert sven.client.get("/api/v1/studies?read=unread").json()["states"]["REPORTED"] == 2
    assert sven.client.get("/api/v1/studies?read=never").status_code == 400
    page = sven.client.get("/?read=unread").text
    assert '<option value="unread" selected>' in page
    number = ada.make(
        study_list([film(rows=8, columns=8, study=3).StudyInstanceUID], {"nodule": [1]}), ["sven"], "unaided"
    )
    case = sven.case(number)
    assert case is not None
    sven.answer(number, case[0], {"nodule": (True, 80)})
    ada.post(f"/reader-studies/{number}/close")
    assert (listed(sven, "&read=mine"), listed(rita, "&read=unread")) == ([3], [2])


def test_actions_on_selected_studies_each_have_their_outcome(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    ada, rita = people["ada"], people["rita"]
    selected = {"study-1": "on", "study-2": "on"}
    assert "2 of 2 studies were tagged." in post(rita, "/bulk", action="tag", word="Second", **selected)
    assert listed(rita, "&tag=second") == [1, 2]
    page = post(rita, "/bulk", action="untag", word="second", tag="second", **{"study-1": "on"})
    assert "1 of 1 study lost the tag." in page
    assert 'id="study-2"' in page  # the list is filtered as it was
    assert 'id="study-1"' not in page
    assert "No study is selected." in post(rita, "/bulk", action="tag", word="x")
    for action in ("retry", "retract"):
        form = {"csrf": rita.csrf, "action": action, "reason": "r", **selected}
        assert rita.client.post("/bulk", data=form).status_code == 403
        assert f'value="{action}"' not in rita.client.get("/").text
    assert rita.client.post("/bulk", data={"action": "tag", "word": "x", **selected}).status_code == 403
    node.receive(3, 2)  # a late image: the study is received again
    page = post(ada, "/bulk", action="retry", **selected, **{"study-3": "on", "study-9": "on"})
    assert "2 of 4 studies will be analysed again." in page
    assert "1 not: The study is still being processed." in page
    assert "1 not: There is no such study." in page
    with database.reading(node.index.engine) as connection:
        states = connection.execute(select(study.c.id, study.c.state).order_by(study.c.id)).all()
    assert [tuple(row) for row in states] == [(1, "COMPLETE"), (2, "COMPLETE"), (3, "RECEIVING")]


def test_results_of_selected_studies_are_withdrawn_with_a_reason(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    ada = people["ada"]
    node.finish(4, StudyState.REPORTED)
    form = {"csrf": ada.csrf, "action": "retract", "study-4": "on", "study-9": "on"}
    assert "reason of the withdrawal" in ada.client.post("/bulk", data=form).text
    page = post(ada, "/bulk", **{**form, "reason": "wrong patient"})
    assert "1 of 2 studies had their results withdrawn." in page
    assert ada.client.get("/api/v1/studies/4").json()["results"][0]["withdrawn"]


def test_a_saved_filter_is_the_readers_own_and_holds_no_words(people: dict[str, Person]) -> None:
    rita, sven = people["rita"], people["sven"]
    page = post(
        rita, "/filters", name="to read", q="meier", state="REPORTED", read="unread-by-me", sort="date"
    )
    assert (
        '<a href="/?state=REPORTED&amp;read=unread-by-me&amp;sort=date" aria-current="true">to read</a>'
        in page
    )
    assert rita.client.get("/api/v1/filters").json() == {
        "to read": "/?state=REPORTED&read=unread-by-me&sort=date"
    }
    assert sven.client.get("/api/v1/filters").json() == {}
    headers = {"X-CSRF-Token": rita.csrf}
    put = rita.client.put("/api/v1/filters/to%20read?tag=a", headers=headers)
    assert put.json() == {"to read": "/?tag=a"}
    post(rita, "/filters/remove", name="to read")
    assert rita.client.get("/api/v1/filters").json() == {}
    assert rita.client.delete("/api/v1/filters/to%20read", headers=headers).status_code == 404
    assert rita.client.post("/filters", data={"csrf": rita.csrf, "name": " "}).status_code == 422
    long = rita.client.put(f"/api/v1/filters/long?finding={'%F0%9F%A9%BB' * 60}", headers=headers)
    assert (long.status_code, "too long" in long.text) == (422, True)
    for number in range(MOST_FILTERS):
        assert rita.client.put(f"/api/v1/filters/{number}", headers=headers).status_code == 200
    refused = rita.client.put("/api/v1/filters/more", headers=headers)
    assert (refused.status_code, "remove one first" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("elements", "shown"),
    [
        ({"PatientSex": "f", "PatientAge": "063Y"}, ("F", "063Y")),
        ({"PatientSex": "female", "PatientAge": None, "PatientBirthDate": "19600302"}, ("F", "063Y")),
        ({"PatientSex": "?", "PatientAge": "63", "PatientBirthDate": "19600301"}, ("", "064Y")),
        ({"PatientSex": "O", "PatientAge": "003M"}, ("O", "003M")),
        ({"PatientSex": "M", "PatientAge": None, "PatientBirthDate": "20300101"}, ("M", "")),
    ],
)
def test_sex_and_age_are_shown_where_names_are(
    tmp_path: Path, elements: dict[str, str], shown: tuple[str, str]
) -> None:
    for named in (False, True):
        node = OfflineNode(tmp_path / str(named))
        web = node.settings.web.model_copy(update={"patient": "name" if named else "pseudonym"})
        node.settings = node.settings.model_copy(update={"web": web})
        node.receive(1, ds=film(
            rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1), StudyDate="20240301", **elements
        ))  # fmt: skip
        with node.browser() as client:
            node.context.event_stream.study_headers.update([1])
            page = client.get("/").text
        (row,) = read_worklist(node.index.engine, WorklistQuery(read=Read.UNREAD)).rows
        assert (row.sex, row.age) == (shown if named else ("", ""))
        assert ('<th scope="col">Sex</th>' in page) is named
        node.close()


def test_a_tag_that_another_reader_gives_at_the_same_moment_is_given_once(
    node: OfflineNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, held = Notes(node.index.engine), Notes._held
    raced = []

    def behind(connection: Connection, study_id: int, tag: str) -> bool | None:
        """Look as a transaction of PostgreSQL does that began before the other one ended."""
        found = held(connection, study_id, tag)
        if not raced:
            raced.append(tag)
            connection.execute(
                study_tag.insert().values(study_id=study_id, tag=tag, reader="sven", at=1.0, held=True)
            )
        return found

    monkeypatch.setattr(Notes, "_held", staticmethod(behind))
    notes.tag([1], "urgent", "rita")
    assert [each.tag for each in notes.tags_of(1)] == ["urgent"]
