"""Reading the Open-i films: both forms, facts, faults in one sentence, and no patient in two splits."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dicom_node.imaging import pixels
from models.data.dataset import FilmDataset, read_film, targets
from models.data.openi import SHARES, read_openi
from models.data.openi_reports import film_name, read_reports
from models.data.splits import derived_split
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import load_vocabulary
from tests.support import factories
from tests.support.openi_folder import image_names, write_openi, write_pngs, write_reports

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


def test_a_folder_of_neither_form_names_what_was_looked_for(tmp_path: Path):
    with pytest.raises(UsageError, match=r"neither index\.csv nor reports \(NLMCXR_reports\.tgz"):
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
    with pytest.raises(UsageError, match="no split 'holdout'"):
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


HEADER_COLUMNS = (
    "imageid", "Manufacturer", "Patient's Birth Date", "Patient's Sex", "Photometric Interpretation",
    "Study Date", "filename",
)  # fmt: skip


def write_headers(root: Path, rows: list[tuple[str, ...]]) -> None:
    with gzip.open(root / "nlmcxr_dicom_metadata.csv.gz", "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER_COLUMNS, *rows])


def test_facts_come_from_the_headers_where_the_films_agree(root: Path):
    write_headers(
        root,
        [
            ("CXR1_IM-0", "Agfa", "19560820", "M", "MONOCHROME1", "20110819", "./1_IM-0.dcm"),
            ("CXR1_IM-1", "Siemens", "19560820", "", "MONOCHROME1", "20110819", "./1_IM-1.dcm"),
            ("CXR2_IM-0", "", "18560820", "", "MONOCHROME2", "20110819", "./2_IM-0.dcm"),
        ],
    )
    first, second, third, *_ = read_openi(root, VOCABULARY).split("train")
    assert first.facts == {"age": "54", "sex": "M", "photometric": "MONOCHROME1"}
    assert second.facts == {"photometric": "MONOCHROME2"}
    assert third.facts == {}


def test_headers_without_the_column_that_names_the_film_are_refused(root: Path):
    with gzip.open(root / "nlmcxr_dicom_metadata.csv.gz", "wt") as file:
        file.write("imageid,Study Date\n")
    with pytest.raises(DatasetError, match="no column filename"):
        read_openi(root, VOCABULARY)


def test_headers_that_are_cut_off_are_one_sentence(root: Path):
    write_headers(root, [("", "", "", "", "", "", f"./{number}_IM.dcm") for number in range(500)])
    path = root / "nlmcxr_dicom_metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="not a CSV file"):
        read_openi(root, VOCABULARY)


# --- as the collection is distributed ---------------------------------------------------------


@pytest.fixture
def official(tmp_path: Path) -> Path:
    write_reports(tmp_path / "ecgen-radiology")
    write_pngs(tmp_path / "NLMCXR_png")
    return tmp_path


def studies_of(dataset: FilmDataset) -> dict:
    return {study.identifier: study for found in dataset.studies.values() for study in found}


def test_the_collection_is_read_without_an_index(official: Path):
    dataset = read_openi(official, VOCABULARY)
    studies = studies_of(dataset)
    assert set(studies) == {str(number) for number in range(1, 31) if number % 3 != 2}
    first = studies["1"]
    assert [path.name for path in first.films] == ["CXR1_1_IM-0001-1001.png", "CXR1_1_IM-0001-2001.png"]
    assert first.keys >= {"cardiomegaly", "abnormal"}
    assert first.headings == {"cardiomegaly", "cardiomegaly/mild"}
    assert first.report == "The heart is large. Cardiomegaly."
    assert first.indication == "XXXX-year-old male, cough."
    assert first.views == ()
    assert (first.facts, studies["3"].facts) == ({"sex": "M"}, {"sex": "F"})
    assert "normal" in studies["3"].keys
    assert first.load().films[0].pixels.shape == (64, 48)
    assert dataset.title.endswith(", PNG")


def test_the_splits_of_the_collection_are_those_of_the_hash(official: Path):
    dataset = read_openi(official, VOCABULARY)
    for split, studies in dataset.studies.items():
        assert {derived_split("openi", study.patient, SHARES) for study in studies} == {split}
    assert any("derived from the report numbers" in note for note in dataset.notes)


def test_reports_are_read_from_the_archive_as_from_the_folder(official: Path, tmp_path: Path):
    unpacked = read_openi(official, VOCABULARY)
    with tarfile.open(official / "NLMCXR_reports.tgz", "w:gz") as tar:
        tar.add(official / "ecgen-radiology", "ecgen-radiology")
    for path in (official / "ecgen-radiology").iterdir():
        path.unlink()
    packed = read_openi(official, VOCABULARY)
    assert packed.studies == unpacked.studies


def test_reports_may_lie_in_a_folder_of_their_own(tmp_path: Path):
    write_reports(tmp_path / "NLMCXR_reports" / "ecgen-radiology", 6)
    write_pngs(tmp_path / "NLMCXR_png", 6)
    assert set(studies_of(read_openi(tmp_path, VOCABULARY))) == {"1", "3", "4", "6"}


def test_films_in_dicom_are_read_by_what_the_caller_hands_in(tmp_path: Path):
    write_reports(tmp_path / "ecgen-radiology", 1)
    (tmp_path / "NLMCXR_dcm" / "1").mkdir(parents=True)
    for name in image_names(1):
        film = factories.film(rows=80, columns=70, photometric="MONOCHROME1", view="PA")
        factories.write(film, tmp_path / "NLMCXR_dcm" / "1" / f"{name.removeprefix('CXR1_')}.dcm")
    (study,) = studies_of(
        read_openi(tmp_path, VOCABULARY, read=lambda path: pixels.read_film(path, max_pixels=10**6).pixels)
    ).values()
    assert study.views == ()  # View Position is not believed
    films = study.load().films
    assert [film.pixels.shape for film in films] == [(80, 70)] * 2
    assert np.abs(films[0].pixels - factories.chest(80, 70)).mean() < 0.02


def test_an_index_beside_the_collection_says_who_is_in_which_split(official: Path):
    (official / "index.csv").write_text(
        "file,uid,mesh_major,split,projection\n"
        "4_IM-0004-1001.jpg,4,Cardiomegaly/mild,val,Frontal\n"
        "3_IM-0003-2001.jpg,3,normal,test,Lateral\n"
    )
    dataset = read_openi(official, VOCABULARY)
    assert {split: [s.identifier for s in found] for split, found in dataset.studies.items()} == {
        "train": [],
        "val": ["4"],
        "test": ["3"],
    }
    assert dataset.split("test")[0].views == ("lateral",)
    assert dataset.split("test")[0].films == (official / "NLMCXR_png" / "CXR3_IM-0003-2001.png",)


def test_films_that_are_not_there_are_left_out_and_told(official: Path):
    (official / "NLMCXR_png" / "CXR1_1_IM-0001-2001.png").unlink()
    (official / "NLMCXR_png" / "CXR4_IM-0004-1001.png").unlink()
    dataset = read_openi(official, VOCABULARY)
    studies = studies_of(dataset)
    assert "4" not in studies
    assert len(studies["1"].films) == 1
    assert any(note.startswith("2 films that reports name are not in") for note in dataset.notes)


def test_reports_without_films_say_what_to_unpack(tmp_path: Path):
    write_reports(tmp_path / "ecgen-radiology", 2)
    with pytest.raises(DatasetError, match=r"no film: unpack NLMCXR_png\.tgz"):
        read_openi(tmp_path, VOCABULARY)


def test_films_of_other_names_are_no_films_of_the_collection(tmp_path: Path):
    write_reports(tmp_path / "ecgen-radiology", 3)
    write_pngs(tmp_path / "NLMCXR_png", 3)
    for path in (tmp_path / "NLMCXR_png").iterdir():
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(DatasetError, match="holds no film of a report that was indexed"):
        read_openi(tmp_path, VOCABULARY)


@pytest.mark.parametrize(
    "xml", ["<eCitation><MeSH>", '<!DOCTYPE x [<!ENTITY a "aaaa">]><eCitation>&a;</eCitation>', ""]
)
def test_a_damaged_report_is_named(official: Path, xml: str):
    (official / "ecgen-radiology" / "7.xml").write_text(xml)
    with pytest.raises(DatasetError, match=r"report ecgen-radiology/7\.xml in .* cannot be read"):
        read_openi(official, VOCABULARY)


def test_a_damaged_archive_of_reports_is_named(official: Path):
    with tarfile.open(official / "NLMCXR_reports.tgz", "w:gz") as tar:
        tar.add(official / "ecgen-radiology", "ecgen-radiology")
    archive = official / "NLMCXR_reports.tgz"
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:400] + b"\0" * 64 + whole[464:], b"no archive"):
        archive.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"reports? .* cannot be read"):
            read_openi(official, VOCABULARY)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("CXR1000_IM-0003-1001", "1000_IM-0003-1001"),
        ("CXR1_1_IM-0001-3001.png", "1_IM-0001-3001"),
        ("./1000_IM-0003-2001.dcm", "1000_IM-0003-2001"),
        ("11_1_IM-0001.jpg", "11_1_IM-0001"),
        ("icon.png", "icon"),
    ],
)
def test_the_three_spellings_of_a_film_are_one(name: str, same: str):
    assert film_name(name) == same


@pytest.mark.films
def test_reports_and_index_say_the_same_of_open_i(films_root: Path):
    dataset = read_openi(films_root / "openi", VOCABULARY)
    reports = read_reports(films_root / "openi")
    assert len(reports) == 3955
    assert sum(len(report.films) for report in reports.values()) == 7470
    studies = studies_of(dataset)
    assert all(studies[number].keys == VOCABULARY.derive(reports[number].majors) for number in studies)
    films = {film_name(path.name) for study in studies.values() for path in study.films}
    assert films <= {name for report in reports.values() for name in report.films}
    ages = [int(study.facts["age"]) for study in studies.values() if "age" in study.facts]
    assert len(ages) == len(studies)
    assert 45 < np.mean(ages) < 60
    assert {study.facts.get("sex") for study in studies.values()} == {"M", "F", None}
    assert dataset.notes == ()
