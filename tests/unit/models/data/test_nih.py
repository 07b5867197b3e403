"""Reading ChestX-ray14: both forms of a folder, the published test list, boxes on the films."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.data.boxes import Box, read_boxes
from models.data.dataset import FilmDataset
from models.data.nih import SHARES, read_nih
from models.data.splits import derived_split
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import load_vocabulary
from tests.support.nih_folder import HEADERS, write_film, write_nih

VOCABULARY = load_vocabulary()


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return write_nih(tmp_path, "Data_Entry_2017_v2020.csv")


def studies_of(dataset: FilmDataset) -> dict:
    return {study.identifier: study for found in dataset.studies.values() for study in found}


@pytest.mark.parametrize("entries", HEADERS)
def test_the_collection_is_read_in_both_spellings(tmp_path: Path, entries: str):
    dataset = read_nih(write_nih(tmp_path, entries), VOCABULARY)
    studies = studies_of(dataset)
    assert len(studies) == 40
    study = studies["00000003_000.png"]
    assert study.patient == "3"
    assert study.films == (tmp_path / "images_002" / "images" / "00000003_000.png",)
    assert study.keys == {"pleural_effusion", "pleural_thickening"}
    assert studies["00000003_001.png"].keys == frozenset()
    assert study.knows("hernia")
    assert not study.knows("normal")
    assert study.views == ("frontal",)
    assert study.facts == {"age": "58", "sex": "M", "view": "PA"}
    assert study.load().films[0].pixels.shape == (16, 16)


def test_the_correction_is_read_where_both_tables_are_there(official: Path):
    text = (official / "Data_Entry_2017_v2020.csv").read_text()
    (official / "Data_Entry_2017.csv").write_text(text.replace("Effusion", "Hernia"))
    assert studies_of(read_nih(official, VOCABULARY))["00000001_000.png"].keys >= {"pleural_effusion"}


def test_the_test_list_is_kept_and_val_is_drawn_by_patient(official: Path):
    dataset = read_nih(official, VOCABULARY)
    patients = {split: {study.patient for study in found} for split, found in dataset.studies.items()}
    assert patients["test"] == {"17", "18", "19", "20"}
    assert patients["train"] | patients["val"] == {str(patient) for patient in range(1, 17)}
    for split in ("train", "val"):
        assert {derived_split("nih", patient, SHARES) for patient in patients[split]} <= {split}


def test_films_may_lie_together(official: Path):
    (official / "images").mkdir()
    for path in official.glob("images_*/images/*.png"):
        path.rename(official / "images" / path.name)
    assert len(studies_of(read_nih(official, VOCABULARY))) == 40


def test_part_of_the_films_is_enough_and_the_rest_is_told(official: Path):
    for path in (official / "images_001").rglob("*.png"):
        path.unlink()
    dataset = read_nih(official, VOCABULARY)
    assert len(studies_of(dataset)) == 20
    assert f"20 films of the table are not in {official}: they are left out" in dataset.notes


def test_a_film_in_no_list_is_left_out_and_told(official: Path):
    lines = (official / "test_list.txt").read_text().splitlines()
    (official / "test_list.txt").write_text("\n".join(lines[1:]))
    dataset = read_nih(official, VOCABULARY)
    assert lines[0] not in studies_of(dataset)
    assert "1 films are in neither train_val_list.txt nor test_list.txt: they are left out" in dataset.notes


def test_a_film_in_both_lists_is_refused(official: Path):
    with (official / "test_list.txt").open("a") as file:
        file.write("00000001_000.png\n")
    with pytest.raises(
        DatasetError, match=r"00000001_000\.png is in train_val_list\.txt and in test_list\.txt"
    ):
        read_nih(official, VOCABULARY)


def test_a_patient_in_both_lists_is_refused(official: Path):
    lines = (official / "train_val_list.txt").read_text().splitlines()
    (official / "train_val_list.txt").write_text("\n".join(lines[1:]))
    with (official / "test_list.txt").open("a") as file:
        file.write("00000001_000.png\n")
    with pytest.raises(DatasetError, match="patient 1 is in"):
        read_nih(official, VOCABULARY)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test_list.txt").unlink(), r"test_list\.txt cannot be read: .*put it there"),
        (lambda root: (root / "test_list.txt").write_bytes(b"\xff\xfe"), "is no list of file names"),
        (
            lambda root: (root / "Data_Entry_2017_v2020.csv").write_text("Image Index,Finding Labels\n"),
            "no column Patient ID",
        ),
        (
            lambda root: (root / "Data_Entry_2017_v2020.csv").write_text(
                "Image Index,Finding Labels,Patient ID\n00000001_000.png,Cough,1\n"
            ),
            "ChestX-ray14 has no label 'Cough'",
        ),
    ],
)
def test_a_fault_of_the_collection_is_one_sentence(official: Path, spoil, message: str):
    spoil(official)
    with pytest.raises(DatasetError, match=message):
        read_nih(official, VOCABULARY)


def test_tables_without_films_say_what_to_unpack(official: Path):
    for path in official.rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no film: unpack images_001\.tar\.gz"):
        read_nih(official, VOCABULARY)


def test_films_of_other_names_are_no_films_of_the_collection(official: Path):
    for path in official.rglob("*.png"):
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(DatasetError, match="holds no film that its tables list"):
        read_nih(official, VOCABULARY)


def test_a_folder_of_neither_form_names_what_was_looked_for(tmp_path: Path):
    with pytest.raises(UsageError, match=r"neither index\.csv nor Data_Entry_2017\*\.csv"):
        read_nih(tmp_path, VOCABULARY)


# --- with an index ----------------------------------------------------------------------------


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    rows = ["file,patient,split,labels,view,source_width,source_height"]
    for patient, split in ((1, "train"), (2, "test")):
        name = f"{patient:08d}_000.jpg"
        write_film(tmp_path / "images" / name)
        rows.append(f"{name},{patient},{split},Mass|Nodule,AP,1024,2048")
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_an_index_is_read_and_the_table_beside_it_adds_facts(indexed: Path):
    (study,) = read_nih(indexed, VOCABULARY).split("test")
    assert (study.patient, study.keys, study.facts) == ("2", {"mass", "nodule"}, {"view": "AP"})
    (indexed / "Data_Entry_2017_v2020.csv").write_text(
        "Image Index,Patient Age,Patient Sex,View Position\n00000002_000.png,414,F,PA\n"
    )
    (study,) = read_nih(indexed, VOCABULARY).split("test")
    assert study.facts == {"view": "AP", "sex": "F"}  # nobody is 414 years old


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("labels", "names", "no column labels"),
        ("00000002_000", "00000009_000", r"line 3: 00000009_000\.jpg is not in"),
        (",2,test", ",1,test", "patient 1 is in train and test"),
        (",test,", ",,", "line 3: '' is no name of a split"),
        ("Mass|", "Masses|", "ChestX-ray14 has no label 'Masses'"),
    ],
)
def test_a_wrong_index_is_refused_with_the_place(indexed: Path, old: str, new: str, message: str):
    text = (indexed / "index.csv").read_text()
    assert old in text
    (indexed / "index.csv").write_text(text.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        read_nih(indexed, VOCABULARY)


# --- boxes ------------------------------------------------------------------------------------


def test_boxes_beside_an_index_are_scaled_by_the_source(indexed: Path):
    (indexed / "bbox.csv").write_text(
        "file,label,x,y,w,h\n"
        "00000001_000.jpg,Infiltrate,256,512,128,1024\n"
        "00000001_000.jpg,Mass,1000,-1,100,10\n"
    )
    assert read_boxes(indexed) == {
        "00000001_000.jpg": (
            Box("infiltration", 0.25, 0.25, 0.125, 0.5),
            Box("mass", 1000 / 1024, 0, 24 / 1024, 9 / 2048),
        )
    }


def test_boxes_of_the_collection_are_on_films_of_1024_pixels(tmp_path: Path):
    (tmp_path / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00013118_008.png,Atelectasis,512,256,128,64,,,\n"
    )
    assert read_boxes(tmp_path) == {"00013118_008.png": (Box("atelectasis", 0.5, 0.25, 0.125, 0.0625),)}


def test_a_folder_without_boxes_has_none(indexed: Path):
    assert read_boxes(indexed) == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("00000001_000.jpg,Cough,1,2,3,4", "line 2: ChestX-ray14 has no label 'Cough'"),
        ("00000001_000.jpg,No Finding,1,2,3,4", "line 2: "),
        ("00000001_000.jpg,Mass,1,two,3,4", "line 2: could not convert"),
        ("00000001_000.jpg,Mass,1,nan,3,4", "line 2: a box of mass does not lie within"),
        ("00000001_000.jpg,Mass,2000,2,3,4", "line 2: a box of mass does not lie within"),
        ("00000001_000.jpg,Mass,1,2,0,4", "line 2: a box of mass does not lie within"),
        ("00000009_000.jpg,Mass,1,2,3,4", "line 2: the index beside it does not list"),
        ("00000001_000.jpg,Mass,1,2,3", "line 2: a value is missing"),
    ],
)
def test_a_wrong_box_is_refused_with_the_place(indexed: Path, row: str, message: str):
    (indexed / "bbox.csv").write_text(f"file,label,x,y,w,h\n{row}\n")
    with pytest.raises(DatasetError, match=message):
        read_boxes(indexed)


@pytest.mark.films
def test_no_patient_of_the_real_index_is_in_two_splits(films_root: Path):
    dataset = read_nih(films_root / "nih", VOCABULARY)
    patients = [{study.patient for study in found} for found in dataset.studies.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert len(studies_of(dataset)) == 1366


@pytest.mark.films
def test_the_real_boxes_agree_with_the_labels_of_their_films(films_root: Path):
    boxes = read_boxes(films_root / "nih")
    studies = studies_of(read_nih(films_root / "nih", VOCABULARY))
    assert sum(map(len, boxes.values())) == 49
    for file, found in boxes.items():
        assert {box.key for box in found} <= studies[file].keys
