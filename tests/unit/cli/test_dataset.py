"""``dataset``: collections are downloaded after their terms are accepted, unpacked, and counted."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.cli.published_collections import COLLECTIONS
from dicom_node.errors import ConfigurationError, NodeError
from models.data import collections, readers
from tests.support.file_server import FileServer, serving
from tests.support.nih_folder import write_nih
from tests.support.openi_folder import write_pngs, write_reports
from tests.support.peers import cli, free_port


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["dataset", *words])


def pack(folder: Path, archive: Path, inside: str = "") -> Path:
    """Pack a folder's files as the collections do, and remove the folder."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(Path(inside) / path.relative_to(folder)), recursive=False)
    shutil.rmtree(folder)
    return archive


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """The films of Open-i on a server."""
    served = tmp_path / "served"
    served.mkdir()
    write_pngs(tmp_path / "films")
    pack(tmp_path / "films", served / "NLMCXR_png.tgz")
    with serving(served) as web:
        yield web


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The reports of Open-i, brought by hand."""
    write_reports(tmp_path / "reports")
    (tmp_path / "openi").mkdir()
    pack(tmp_path / "reports", tmp_path / "openi" / "NLMCXR_reports.tgz", "ecgen-radiology")
    return tmp_path / "openi"


def counts(name: str, root: Path, *words: str) -> dict:
    done = run(name, "--data", str(root), "--json", *words)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_every_data_set_that_one_collection_is_can_be_brought():
    assert set(COLLECTIONS) == set(readers.DATASETS) - {collections.NAME}


def test_nothing_is_downloaded_before_the_terms_are_accepted(web: FileServer, root: Path):
    done = run("openi", "--data", str(root), "--mirror", web.url)
    assert isinstance(done.exception, ConfigurationError)
    assert "holds reports but no film" in str(done.exception)
    assert "missing: NLMCXR_png.tgz; give --accept-terms to download" in str(done.exception)
    assert "CC BY-NC-ND 4.0" in done.stderr
    assert web.asked == []


def test_what_is_missing_is_downloaded_unpacked_and_counted(web: FileServer, root: Path):
    found = counts("openi", root, "--accept-terms", "--mirror", web.url)
    assert [path for path, _ in web.asked] == ["/NLMCXR_png.tgz"]
    assert len(list((root / "NLMCXR_png").glob("*.png"))) == 45
    splits = found["splits"]
    # Ten of the thirty reports were not indexed.
    assert sum(split["studies"] for split in splits.values()) == 20
    assert sum(split["films"] for split in splits.values()) == 30
    assert sum(split["views"].get("unknown", 0) for split in splits.values()) == 30
    assert sum(found["labels"]["findings"]["cardiomegaly"].values()) == 10
    assert sum(found["labels"]["findings"]["normal"].values()) == 10
    assert sum(found["facts"]["sex"].values()) == 20
    assert found["boxes"] == {}
    again = counts("openi", root, "--accept-terms", "--mirror", web.url)
    assert again == found
    assert len(web.asked) == 1


def test_without_a_way_to_the_server_the_files_to_bring_are_named(root: Path):
    done = run("openi", "--data", str(root), "--accept-terms", "--mirror", f"http://127.0.0.1:{free_port()}")
    assert isinstance(done.exception, NodeError)
    sentence = str(done.exception)
    assert "cannot be reached (Connection refused)" in sentence
    assert f"copy NLMCXR_png.tgz from https://openi.nlm.nih.gov/faq#collection into {root}" in sentence


def test_a_folder_with_an_index_is_counted_and_nothing_is_brought(web: FileServer, tmp_path: Path):
    write_pngs(tmp_path / "openi" / "images", 2)
    (tmp_path / "openi" / "index.csv").write_text(
        "file,uid,mesh_major,split,projection\nCXR2_IM-0002-1001.png,2,Nodule,test,Frontal\n"
    )
    found = counts("openi", tmp_path / "openi", "--accept-terms", "--mirror", web.url)
    assert web.asked == []
    assert found["splits"]["test"] == {
        "studies": 1,
        "patients": 1,
        "films": 1,
        "reports": 0,
        "indications": 0,
        "views": {"frontal": 1},
    }
    assert found["notes"] == [
        "no NLMCXR_reports.tgz: the studies have no text",
        "no nlmcxr_dicom_metadata.csv.gz: neither age nor equipment is known",
        "split train holds no study",
        "split val holds no study",
    ]


def test_the_table_for_a_person_holds_what_the_json_does(web: FileServer, root: Path):
    found = counts("openi", root, "--accept-terms", "--mirror", web.url)
    shown = run("openi", "--data", str(root)).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["cardiomegaly", *map(str, found["labels"]["findings"]["cardiomegaly"].values())] in lines
    assert ["films", *(str(split["films"]) for split in found["splits"].values())] in lines
    assert "the splits are derived from the report numbers" in shown


def test_tables_without_an_address_are_asked_for_before_anything_is_downloaded(tmp_path: Path):
    done = run("nih", "--data", str(tmp_path), "--accept-terms")
    assert isinstance(done.exception, NodeError)
    assert (
        "no permanent address is known of Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt: copy "
        f"it from https://nihcc.app.box.com/v/ChestXray-NIHCC into {tmp_path}" in str(done.exception)
    )
    assert list(tmp_path.iterdir()) == []


def test_archives_that_were_brought_are_unpacked_and_what_is_missing_is_told(tmp_path: Path):
    write_nih(tmp_path, "Data_Entry_2017.csv")
    for number in ("001", "002"):
        pack(tmp_path / f"images_{number}" / "images", tmp_path / f"images_{number}.tar.gz", "images")
        (tmp_path / f"images_{number}").rmdir()
    (tmp_path / "images_002.tar.gz").rename(tmp_path / "later.tar.gz")
    (tmp_path / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000002_000.png,Infiltrate,1,2,3,4,,,\n"
    )
    found = counts("nih", tmp_path)
    assert sum(split["films"] for split in found["splits"].values()) == 20
    assert set(found["labels"]) == {"nih"}
    assert sum(found["labels"]["nih"]["pleural_effusion"].values()) == 10
    assert found["facts"]["age"] == {name: split["studies"] for name, split in found["splits"].items()}
    assert found["boxes"] == {"infiltration": 1}
    assert any(note.startswith("missing: images_002.tar.gz, images_003.tar.gz") for note in found["notes"])
    (tmp_path / "later.tar.gz").rename(tmp_path / "images_002.tar.gz")
    assert sum(split["films"] for split in counts("nih", tmp_path)["splits"].values()) == 40


def test_an_archive_that_is_damaged_leaves_no_half_folder(web: FileServer, root: Path):
    whole = (web.folder / "NLMCXR_png.tgz").read_bytes()
    (root / "NLMCXR_png.tgz").write_bytes(whole[: len(whole) * 2 // 3])
    done = run("openi", "--data", str(root))
    assert isinstance(done.exception, NodeError)
    assert "NLMCXR_png.tgz cannot be unpacked: " in str(done.exception)
    assert {path.name for path in root.iterdir()} == {"NLMCXR_png.tgz", "NLMCXR_reports.tgz"}


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil-of-an-archive.png", "link"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(root: Path, name: str):
    with tarfile.open(root / "NLMCXR_png.tgz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../secret"
        tar.addfile(member, io.BytesIO())
    done = run("openi", "--data", str(root))
    assert isinstance(done.exception, NodeError)
    assert "cannot be unpacked" in str(done.exception)
    assert not Path("/tmp/evil-of-an-archive.png").exists()
    assert not (root / "evil.png").exists()


def test_a_disk_without_room_is_told_before_the_download(
    web: FileServer, root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=70_000_000_000))
    done = run("openi", "--data", str(root), "--films", "dicom", "--accept-terms", "--mirror", web.url)
    assert isinstance(done.exception, NodeError)
    assert "the download needs 80.7 GB, but only 70.0 GB are free" in str(done.exception)
    assert web.asked == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["padchest"], "no collection is called 'padchest'; there are: openi, nih"),
        (["nih", "--films", "dicom"], "--films dicom: nih has films as png"),
        (["nih", "--data", "/dev/null/nih", "--accept-terms", "--mirror", "http://127.0.0.1:9"], "--data"),
    ],
)
def test_wrong_words_are_one_sentence(words: Sequence[str], sentence: str):
    done = run(*words)
    assert isinstance(done.exception, NodeError)
    assert sentence in str(done.exception)


def test_a_mistake_is_one_line_and_an_exit_code(tmp_path: Path):
    done = cli("dataset", "nih", "--data", str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Wang et al., ChestX-ray8" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.films
def test_the_real_reports_have_the_digest_that_is_known(films_root: Path, tmp_path: Path):
    write_pngs(tmp_path / "openi" / "NLMCXR_png", 1)
    film = next((tmp_path / "openi" / "NLMCXR_png").iterdir())
    film.rename(film.with_name("CXR1000_IM-0003-1001.png"))
    with serving(films_root / "openi") as web:
        found = counts("openi", tmp_path / "openi", "--accept-terms", "--mirror", web.url)
    assert [path for path, _ in web.asked] == ["/NLMCXR_reports.tgz"]
    assert sum(split["studies"] for split in found["splits"].values()) == 1
    assert any("films that reports name are not in" in note for note in found["notes"])


@pytest.mark.films
def test_the_real_sets_are_counted(films_root: Path):
    openi = counts("openi", films_root / "openi")
    assert {name: split["studies"] for name, split in openi["splits"].items()} == {
        "train": 2349,
        "val": 302,
        "test": 517,
    }
    assert openi["notes"] == []
    assert (
        openi["labels"]["normality"]["abnormal"]["test"] + openi["labels"]["groups"]["normal"]["test"] == 517
    )
    nih = counts("nih", films_root / "nih")
    assert set(nih["labels"]) == {"nih"}
    assert nih["labels"]["nih"]["hernia"] == {"train": 0, "val": 0, "test": 20}
    assert sum(nih["boxes"].values()) == 49
