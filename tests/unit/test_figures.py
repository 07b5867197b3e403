"""Figures of the documents are those that the commands wrote as JSON."""

from __future__ import annotations

import pytest

from tests.support.figures.passage import Figure, Mistake, Passage, corrected, mistakes, unsourced
from tests.support.figures.registry import passages_by_document
from tests.support.figures.sources import all_or, bundle, measured, percent, word
from tests.support.peers import ROOT

PASSAGES = passages_by_document()
#: Documents whose tables hold nothing but figures with a source.
TABLES = ["README.md"]
ROW = Passage(
    "a.md", "| films | {} ({} to {}) |", tuple(Figure(n, "a.json: x") for n in ("0.5", "0.4", "0.6"))
)


@pytest.mark.parametrize("document", PASSAGES)
def test_every_figure_is_what_its_source_says(document: str) -> None:
    """Mend it with `make figures`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert not list(map(str, mistakes(text, PASSAGES[document])))


@pytest.mark.parametrize("document", TABLES)
def test_every_number_in_a_table_has_a_source(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    left = [
        f"{document}:{line}: {number} has no source: add it to tests/support/figures"
        for line, number in unsourced(text, PASSAGES[document])
    ]
    assert not left


def test_a_wrong_number_is_named_with_its_place_and_the_right_one() -> None:
    (found,) = mistakes("# a\n\n| films | 0.5 (0.4 to 0.7) |\n", [ROW])
    assert isinstance(found, Mistake)
    assert str(found) == "a.md:3: '0.7' should be '0.6' (a.json: x); `make figures` writes it"


@pytest.mark.parametrize("document", PASSAGES)
def test_every_source_is_compared(document: str) -> None:
    """Each figure that is changed in its document is found."""
    text = corrected((ROOT / document).read_text(encoding="utf-8"), PASSAGES[document])
    for passage in PASSAGES[document]:
        match = passage.find(text)
        for group, figure in enumerate(passage.figures, start=1):
            wrong = text[: match.start(group)] + "8.888" + text[match.end(group) :]
            (found,) = mistakes(wrong, [passage])
            assert isinstance(found, Mistake)
            assert (found.said, found.right) == ("8.888", figure)


def test_lines_may_break_anywhere_and_stay_where_they_are() -> None:
    passage = Passage("a.md", "{} of {} films", (Figure("1,002", "x"), Figure("2,000", "x")))
    assert corrected("It keeps 12\nof 13\n  films.", [passage]) == "It keeps 1,002\nof 2,000\n  films."


def test_the_end_of_a_sentence_is_no_part_of_its_number() -> None:
    passage = Passage("a.md", "{}, by {}.", (Figure("1,002", "x"), Figure("0.25", "x")))
    assert corrected("7,000, by 0.37.", [passage]) == "1,002, by 0.25."


@pytest.mark.parametrize(
    ("text", "says"),
    [("nothing", "no passages of the form"), ("| films | 1 (1 to 1) |\n" * 2, "2 passages of the form")],
)
def test_a_passage_that_is_missing_or_met_twice_is_an_error(text: str, says: str) -> None:
    (found,) = mistakes(text, [ROW])
    assert isinstance(found, LookupError)
    assert says in str(found)
    with pytest.raises(LookupError, match=says):
        corrected(text, [ROW])


def test_of_equal_rows_the_one_behind_its_title_is_meant() -> None:
    text = "## One\n\n| films | 1 (1 to 1) |\n\n## Two\n\n| films | 2 (2 to 2) |\n"
    row = Passage("a.md", "| films | {} (2 to 2) |", (Figure("3", "x"),), after="## Two")
    assert corrected(text, [row]) == text.replace("| 2 (", "| 3 (")
    (found,) = mistakes(text.replace("Two", "Other"), [row])
    assert "'## Two' stands there 0 times" in str(found)


def test_a_form_needs_a_figure_for_each_hole_and_an_end() -> None:
    for form in ("{} and {} films", "films: {}"):
        with pytest.raises(ValueError, match="needs a figure for each"):
            Passage("a.md", form, (Figure("1", "x"),))


def test_a_number_without_a_source_is_found_in_tables_only() -> None:
    text = (
        "In 2 lines\n\n| F1 of 9 | [a](b-1.md) |\n|---|---|\n| films | 0.5 (0.4 to 0.6) |\n"
        "| 3 others | 0.7 |\n| none | `x-1` and [a](b-2.md) |\n"
    )
    assert list(unsourced(text, [ROW])) == [(6, "3"), (6, "0.7")]


def test_numbers_are_said_as_the_documents_say_them() -> None:
    assert [percent(1)(share) for share in (1, 0, 0.97059, 0.96)] == ["100", "0", "97.1", "96.0"]
    assert [word(value) for value in (8.97, 12, 13, 2349)] == ["nine", "twelve", "13", "2,349"]
    assert [all_or(share) for share in (1.0, 0.99)] == ["all", "99.0%"]


def test_a_figure_names_its_file_and_its_place_in_it() -> None:
    figure = bundle("openi-findings").figure("test", "macro", "auc")
    assert figure.source.endswith("/metrics.json: test.macro.auc")
    assert (ROOT / figure.source.partition(":")[0]).is_file()
    figure = measured("receive", "10 MB, 1 sender", "ratio", peer="Orthanc")
    assert figure.source.endswith(".json: receive, 10 MB, 1 sender, beside Orthanc, ratio")
    assert (ROOT / figure.source.partition(":")[0]).is_file()
    with pytest.raises(LookupError, match=r"no run in docs/benchmarks has the row 'nothing'"):
        measured("receive", "nothing")
