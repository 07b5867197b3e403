"""No patient is in two splits: a generated index that puts one there is refused, derived splits never do."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.nih import read_nih
from models.data.openi import SHARES, read_openi
from models.data.splits import derived_split
from models.errors import DatasetError
from models.labels.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
SPLITS = st.sampled_from(["train", "val", "test", "holdout"])


def write(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


@given(st.lists(st.tuples(st.integers(1, 6), SPLITS), min_size=1, max_size=12))
@settings(max_examples=60)
def test_an_index_is_read_if_and_only_if_every_patient_has_one_split(rows: list[tuple[int, str]]):
    torn = any(len({split for patient, split in rows if patient == one}) > 1 for one, _ in rows)
    films = [f"{patient}_IM-{number:04d}.png" for number, (patient, _) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root / "images", films)
        openi = [
            [film, str(patient), "Nodule", split] for film, (patient, split) in zip(films, rows, strict=True)
        ]
        nih = [
            [film, str(patient), "Nodule", split, "PA"]
            for film, (patient, split) in zip(films, rows, strict=True)
        ]
        for read, columns, table in (
            (read_openi, ["file", "uid", "mesh_major", "split"], openi),
            (read_nih, ["file", "patient", "labels", "split", "view"], nih),
        ):
            write(root / "index.csv", columns, table)
            if torn:
                with pytest.raises(DatasetError, match=r"(report|patient) \d+ "):
                    read(root, VOCABULARY)
                continue
            dataset = read(root, VOCABULARY)
            said = {(study.patient, split) for split, found in dataset.studies.items() for study in found}
            assert said == {(str(patient), split) for patient, split in rows}


@given(
    st.dictionaries(st.integers(1, 400), st.integers(1, 4), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_the_films_of_a_patient_never_part(counts: dict[int, int], random):
    films = [
        (f"{patient:08d}_{n:03d}.png", patient) for patient, count in counts.items() for n in range(count)
    ]
    random.shuffle(films)
    tested = set(random.sample(sorted(counts), len(counts) // 3))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root / "images", [file for file, _ in films])
        write(
            root / "Data_Entry_2017_v2020.csv",
            ["Image Index", "Finding Labels", "Patient ID"],
            [[file, "Mass", str(patient)] for file, patient in films],
        )
        for name, inside in (("train_val_list.txt", False), ("test_list.txt", True)):
            (root / name).write_text("\n".join(f for f, patient in films if (patient in tested) == inside))
        dataset = read_nih(root, VOCABULARY)
    patients = {split: {study.patient for study in found} for split, found in dataset.studies.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == len(counts)
    assert patients["test"] == {str(patient) for patient in tested}


@given(st.text(), st.dictionaries(st.text(min_size=1), st.integers(1, 100), min_size=1, max_size=5))
def test_a_derived_split_is_one_of_those_asked_for_and_always_the_same(patient: str, shares: dict[str, int]):
    split = derived_split("openi", patient, shares)
    assert split in shares
    assert split == derived_split("openi", patient, dict(shares))


@given(st.sampled_from(["openi", "nih", "another"]))
@settings(max_examples=3)
def test_derived_splits_have_the_shares_that_were_asked_for(collection: str):
    count = 4000
    found = [derived_split(collection, str(patient), SHARES) for patient in range(count)]
    for split, share in SHARES.items():
        # Six standard deviations of the binomial distribution.
        assert abs(found.count(split) - count * share / 100) < 6 * (count * share / 100) ** 0.5


def test_derived_splits_stay_what_they_were_when_bundles_were_trained_with_them():
    found = {number: derived_split("openi", str(number), SHARES) for number in range(1, 13)}
    assert [number for number, split in found.items() if split == "val"] == [7]
    assert [number for number, split in found.items() if split == "test"] == [2, 5]
