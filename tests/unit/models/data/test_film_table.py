"""Table of a site's own films: what it says, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.data.film_table import read_film_table
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
LABELS = tuple(VOCABULARY.labels[key] for key in ("nodule", "pleural_effusion"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"read later")
    path = tmp_path / "films.csv"
    path.write_text("path,Nodule,pleural_effusion,patient,split\na.dcm,1,0,P1,val\nb.dcm,,1.0,P2,test\n")
    return path


def test_a_cell_is_present_absent_or_unknown(table: Path) -> None:
    films = read_film_table(table, LABELS)
    (first,), (second,) = films.split("val"), films.split("test")
    assert (first.patient, first.keys, first.films) == ("P1", {"nodule"}, (table.parent / "a.dcm",))
    assert [first.knows(label.key) for label in LABELS] == [True, True]
    assert (second.keys, second.knows("nodule")) == ({"pleural_effusion"}, False)
    assert films.notes == ()


def test_rows_without_a_split_are_of_the_one_that_is_asked_for_and_a_note_says_so(table: Path) -> None:
    table.write_text("path,nodule\na.dcm,1\nb.dcm,0\n")
    films = read_film_table(table, LABELS, split="test")
    assert len(films.split("test")) == 2
    assert films.notes == (
        "no column split: all 2 rows count as test",
        "no column patient: every film counts as a patient of its own",
        "no column for pleural_effusion",
    )


def test_a_column_that_is_nearly_a_label_is_named_with_it(table: Path) -> None:
    table.write_text("path,nodule,pleural efusion,ward,split\na.dcm,1,0,4b,val\n")
    assert read_film_table(table, LABELS).notes[:2] == (
        "no label of the bundle is called pleural efusion (did you mean pleural_effusion?); left out",
        "no label of the bundle is called ward; left out",
    )


def test_a_split_or_table_that_is_not_there_is_a_wrong_name(table: Path) -> None:
    with pytest.raises(UsageError, match="has no split 'tset'; it has val, test"):
        read_film_table(table, LABELS).split("tset")
    with pytest.raises(UsageError, match="there is no such file"):
        read_film_table(table.with_name("none.csv"), LABELS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("nodule\n1\n", "needs a row for each film, a column path"),
        ("path,ward\na.dcm,4b\n", "and one for each label: nodule, pleural_effusion"),
        ("path,nodule\n", "needs a row for each film"),
        ("path,nodule\na.dcm,yes\n", "line 2: nodule is 'yes'; write 1, 0 or nothing"),
        ("path,nodule\na.dcm,1\nc.dcm,1\n", "line 3: there is no film"),
        ("path,nodule,patient,split\na.dcm,1,P1,val\nb.dcm,1,P1,test\n", "patient P1 is in val and test"),
        ("path,nodule\n\xff,1\n", "cannot be read"),
        ("path,nodule,Nodule\na.dcm,1,0\n", "two columns for one label"),
        ("path,nodule,nodule\na.dcm,1,0\n", "two columns for one label, or of one name"),
        ("path,nodule\na.dcm,1\n./a.dcm,0\n", "line 3: film .*a.dcm stands in line 2 already"),
        ("path,nodule,split\na.dcm,1,val\nb.dcm,1,\n", "line 3: split is empty; write train, val or test"),
    ],
)
def test_a_mistake_is_one_sentence(table: Path, content: str, sentence: str) -> None:
    table.write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=sentence):
        read_film_table(table, LABELS)
