"""Data sets by name: each is read with what reads its films, and counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.data.counts import count
from models.data.dataset import FilmDataset, LabelledStudy
from models.data.readers import DATASETS, read_dataset
from models.data.tables import read_table
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import load_vocabulary
from models.processing.transforms import Preprocessing
from models.training.film_batches import CachedFilms
from tests.support.collections_folder import write_collections
from tests.support.nih_folder import write_nih
from tests.support.openi_folder import write_openi

VOCABULARY = load_vocabulary()


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    return {
        "openi": write_openi(tmp_path / "openi", {"train": 4, "val": 2, "test": 2}),
        "nih": write_nih(tmp_path / "nih", "Data_Entry_2017_v2020.csv"),
        "collections": write_collections(tmp_path / "collections"),
    }


@pytest.mark.parametrize("name", DATASETS)
def test_films_are_read_by_what_the_caller_hands_in(roots: dict[str, Path], name: str):
    asked: list[Path] = []

    def read(path: Path) -> np.ndarray:
        asked.append(path)
        return np.linspace(0, 1, 40 * 30, dtype=np.float32).reshape(40, 30)

    studies = read_dataset(name, roots[name], VOCABULARY, read).split(
        "jsrt" if name == "collections" else "test"
    )
    assert asked == []
    assert {film.pixels.shape for film in studies[0].load().films} == {(40, 30)}
    assert tuple(asked) == studies[0].films
    cached = CachedFilms(studies[:1], Preprocessing(grid=32, size=32, channels=1))
    assert len(cached) == len(studies[0].films)
    assert tuple(asked) == studies[0].films * 2


@pytest.mark.parametrize("name", DATASETS)
def test_a_name_leads_to_its_reader(roots: dict[str, Path], name: str):
    assert read_dataset(name, roots[name], VOCABULARY).name == name


def test_an_unknown_name_says_which_there_are(tmp_path: Path):
    with pytest.raises(UsageError, match="no data set is called 'padchest'; there are: openi, nih"):
        read_dataset("padchest", tmp_path, VOCABULARY)


def test_counts_are_of_studies_patients_films_and_labels():
    def study(number: int, patient: str, films: int, *keys: str, **facts: str) -> LabelledStudy:
        return LabelledStudy(
            identifier=str(number),
            patient=patient,
            films=(Path("x.png"),) * films,
            keys=frozenset(keys),
            headings=None,
            views=("frontal", "")[:films] if films < 3 else (),
            report="Clear." if number == 1 else "",
            facts=facts,
        )

    found = count(
        FilmDataset(
            "drawn",
            "Drawn films",
            "none",
            {
                "train": (
                    study(1, "a", 2, "nodule", sex="F"),
                    study(2, "a", 3, "nodule", "mass"),
                    study(3, "b", 1),
                ),
                "test": (),
            },
            ("no tables",),
        ),
        VOCABULARY,
    )
    assert found["notes"] == ["no tables", "split test holds no study"]
    assert found["splits"]["train"] == {
        "studies": 3,
        "patients": 2,
        "films": 6,
        "reports": 1,
        "indications": 0,
        "views": {"frontal": 2, "unknown": 4},
    }
    assert found["splits"]["test"]["studies"] == 0
    assert found["facts"] == {"sex": {"train": 1, "test": 0}}
    assert set(found["labels"]) == set(VOCABULARY.lists)
    assert found["labels"]["nih"]["nodule"] == {"train": 2, "test": 0}
    assert found["labels"]["findings"]["mass"] == {"train": 1, "test": 0}


def test_lists_that_a_set_does_not_speak_of_are_not_counted(roots: dict[str, Path]):
    assert set(count(read_dataset("nih", roots["nih"], VOCABULARY), VOCABULARY)["labels"]) == {"nih"}


# --- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_a_table_is_read_by_its_columns(tmp_path: Path, name: str):
    text = '\ufefffile, label ,note\r\n1.png," a, b ",x\r\n\r\n"2\n.png",c,y\r\n'
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(read_table(tmp_path / name, ("label", "file"), ("absent",))) == [
        (2, {"label": "a, b", "file": "1.png", "absent": ""}),
        (5, {"label": "c", "file": "2\n.png", "absent": ""}),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column file"),
        (b"name\n", "no column file"),
        (b"note,file\nx\n", "line 2: a value is missing"),
        (b"\xff\xfe", "is not a CSV file in UTF-8"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "table.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        list(read_table(tmp_path / "table.csv", ("file",)))


def test_a_table_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"table\.csv cannot be read: No such file"):
        list(read_table(tmp_path / "table.csv", ("file",)))
