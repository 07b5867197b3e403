"""Reading the Open-i films: a fault of the folder is one sentence, and no patient is in two splits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.errors import DatasetError
from models.training.dataset import FilmDataset, read_film, targets
from models.training.openi import read_openi
from models.vocabulary import load_vocabulary

from .conftest import write_openi

VOCABULARY = load_vocabulary()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_openi(tmp_path / "openi", {"train": 6, "val": 4, "test": 4})


def spoil(root: Path, old: str, new: str) -> None:
    index = root / "index.csv"
    text = index.read_text(encoding="utf-8")
    assert old in text
    index.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_films_are_grouped_by_report_and_split(root: Path):
    dataset = read_openi(root, VOCABULARY)
    assert {split: len(studies) for split, studies in dataset.studies.items()} == {
        "train": 6,
        "val": 4,
        "test": 4,
    }
    first = dataset.split("train")[0]
    assert first.identifier == first.patient == "1"
    assert len(first.films) == 2
    assert first.keys == {"cardiomegaly", "cardiac_group", "abnormal"}
    assert first.headings == {"cardiomegaly", "cardiomegaly/mild"}


def test_the_truth_table_follows_the_keys(root: Path):
    studies = read_openi(root, VOCABULARY).split("train")
    table = targets(studies, ("nodule", "normal"))
    assert table.shape == (6, 2)
    assert table[:, 0].tolist() == ["nodule" in study.keys for study in studies]


def test_a_study_is_loaded_as_films(root: Path):
    loaded = read_openi(root, VOCABULARY).split("train")[0].load()
    assert [film.pixels.shape for film in loaded.films] == [(64, 64), (64, 64)]
    assert loaded.text is None


def test_reports_that_were_not_indexed_are_left_out(root: Path):
    spoil(root, "12_IM-0.png,12,normal,test", "12_IM-0.png,12,No Indexing,test")
    assert len(read_openi(root, VOCABULARY).split("test")) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mesh_major", "mesh", "no column mesh_major"),
        (",train", ",hold out", "'hold out' is no name of a split"),
        ("1_IM-0.png", "99_IM-0.png", "99_IM-0.png is not in"),
        (",train", ",test", "report 1 has another split"),
        ("Cardiomegaly/mild", "normal", "report 1 has another split or other headings"),
        ("1_IM-0.png,1,", "1_IM-0.png,,", "line 2: a value is missing"),
        ("1_IM-0.png,1,Cardiomegaly/mild,train", "1_IM-0.png,1", "line 2: a value is missing"),
    ],
)
def test_a_wrong_index_is_refused_with_the_place(root: Path, old: str, new: str, message: str):
    spoil(root, old, new)
    with pytest.raises(DatasetError, match=message):
        read_openi(root, VOCABULARY)


def test_a_folder_without_an_index_is_one_sentence(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"index\.csv cannot be read"):
        read_openi(tmp_path, VOCABULARY)


def test_an_index_that_is_no_text_is_one_sentence(root: Path):
    (root / "index.csv").write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(DatasetError, match="not a CSV file"):
        read_openi(root, VOCABULARY)


def test_a_film_that_vanished_or_broke_is_named(root: Path):
    study = read_openi(root, VOCABULARY).split("train")[0]
    study.films[0].write_bytes(b"no image")
    with pytest.raises(DatasetError, match="cannot be read as an image"):
        study.load()
    study.films[0].unlink()
    with pytest.raises(DatasetError, match="is missing"):
        study.load()


def test_a_truncated_film_is_named(root: Path):
    path = read_openi(root, VOCABULARY).split("train")[0].films[0]
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DatasetError, match=path.name):
        read_film(path)


def test_a_patient_in_two_splits_is_refused(root: Path):
    dataset = read_openi(root, VOCABULARY)
    stray = dataclasses.replace(dataset.split("train")[0], identifier="1b")
    with pytest.raises(DatasetError, match="patient 1 is in"):
        FilmDataset("leaky", "", "", {**dataset.studies, "test": (stray,)})


def test_a_study_that_is_listed_twice_is_refused(root: Path):
    dataset = read_openi(root, VOCABULARY)
    with pytest.raises(DatasetError, match="listed twice"):
        FilmDataset("double", "", "", {"train": dataset.split("train") * 2})


def test_an_unknown_or_empty_split_is_named(root: Path):
    dataset = read_openi(root, VOCABULARY)
    with pytest.raises(DatasetError, match="no split 'holdout'"):
        dataset.split("holdout")
    with pytest.raises(DatasetError, match="holds no study"):
        FilmDataset("empty", "", "", {"test": ()}).split("test")


@pytest.mark.films
def test_no_patient_of_open_i_is_in_two_splits(films_root: Path):
    dataset = read_openi(films_root / "openi", VOCABULARY)
    patients = [{study.patient for study in dataset.split(split)} for split in ("train", "val", "test")]
    assert [len(found) for found in patients] == [2349, 302, 517]
    assert len(set.union(*patients)) == 2349 + 302 + 517
    film = read_film(dataset.split("val")[0].films[0])
    assert film.shape == (256, 256)
    assert film.dtype == np.float32
