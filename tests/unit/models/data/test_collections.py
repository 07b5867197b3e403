"""Films of several collections: what each source covers, splits by patient, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.data.collections import read_collections
from models.errors import DatasetError
from models.labels.vocabulary import load_vocabulary
from tests.support.collections_folder import write_collections

VOCABULARY = load_vocabulary()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_collections(tmp_path)


def test_a_study_knows_what_its_source_covers_and_nothing_else(folder: Path):
    dataset = read_collections(folder, VOCABULARY)
    studies = {study.identifier: study for found in dataset.studies.values() for study in found}
    assert studies["a.png"].keys == {"pleural_effusion", "mass"}
    assert studies["a.png"].knows("hernia")
    assert not studies["a.png"].knows("abnormal")
    assert (studies["c.png"].keys, studies["d.png"].keys) == ({"nodule"}, frozenset())
    assert studies["d.png"].known == {"nodule"}
    assert (studies["e.png"].keys, studies["e.png"].known) == ({"abnormal"}, {"abnormal"})
    assert (studies["f.png"].keys, studies["g.png"].keys) == ({"pneumonia"}, frozenset())
    assert studies["i.png"].known == frozenset()
    assert studies["i.png"].facts == {"view": "AP", "source": "cohen"}
    assert studies["i.png"].load().films[0].pixels.shape == (16, 16)


def test_words_of_the_sources_and_views_are_headings(folder: Path):
    studies = {
        study.identifier: study for s in read_collections(folder, VOCABULARY).studies.values() for study in s
    }
    assert studies["a.png"].headings == {"view PA"}
    assert studies["b.png"].headings == {"No Finding", "view AP"}
    assert studies["g.png"].headings == {"No Finding", "view AP"}
    assert studies["i.png"].headings == {"COVID-19", "view AP"}
    assert studies["h.png"].headings is None


def test_external_films_are_splits_of_their_own_and_never_trained_on(folder: Path):
    dataset = read_collections(folder, VOCABULARY)
    assert {study.identifier for study in dataset.split("jsrt")} == {"c.png", "d.png"}
    assert {study.identifier for study in dataset.split("shenzhen")} == {"e.png"}
    trained = {study.identifier for split in ("train", "val") for study in dataset.studies[split]}
    assert trained == {"a.png", "b.png", "f.png", "g.png", "h.png", "i.png"}
    assert dataset.notes == ("1 films that may be turned are left out",)


def test_films_of_a_patient_are_in_one_split_and_a_series_of_names_is_no_patient(folder: Path):
    rows = "".join(f"{name},kermany_224px,N2,Normal,AP,train,\n" for name in ("a.png", "b.png"))
    write_collections(folder, rows)
    dataset = read_collections(folder, VOCABULARY)
    assert len({study.patient for found in dataset.studies.values() for study in found}) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("z.png,nih_128px,1,Mass,PA,train,", r"index\.csv line 2: z\.png is not in"),
        ("a.png,nih_128px,1,Rickets,PA,train,", r"index\.csv line 2: .*Rickets"),
        ("a.png,nih_128px", "a value is missing"),
    ],
)
def test_a_wrong_row_is_refused_in_one_sentence(folder: Path, row: str, message: str):
    write_collections(folder, row + "\n")
    with pytest.raises(DatasetError, match=message):
        read_collections(folder, VOCABULARY)


@pytest.mark.films
def test_the_films_of_the_collections_are_read(films_root: Path):
    dataset = read_collections(films_root / "extra", VOCABULARY)
    assert {
        split: len(found) for split, found in dataset.studies.items() if split in ("jsrt", "shenzhen")
    } == {
        "jsrt": 247,
        "shenzhen": 550,
    }
    assert 0.03 < len(dataset.split("val")) / len(dataset.split("train")) < 0.08
