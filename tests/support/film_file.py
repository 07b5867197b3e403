"""DICOM files of drawn films and of Open-i films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.support import factories
from tests.support.raw_association import data_set_of


class FilmFile:
    """Small drawn film on disk.

    Attributes
    ----------
    ds
        The film.
    data_set
        Encoded data set, without preamble and file meta information.
    """

    def __init__(self, folder: Path, number: int = 1, **options: Any) -> None:
        options = {"rows": 64, "columns": 56, "instance": number, **options}
        self.ds: Dataset = factories.film(**options)
        self.uid = str(self.ds.SOPInstanceUID)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = factories.write(self.ds, folder / f"{number}.dcm")
        self.data_set = data_set_of(self.path)


def write_films(folder: Path, count: int, prefix: str = "e2e", **elements: object) -> list[Path]:
    """Write drawn films, each a study of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        factories.write(
            factories.film(study=f"{prefix}-{n}", series=f"{prefix}-{n}", seed=n, **elements),  # type: ignore[arg-type]
            folder / f"{prefix}-{n}.dcm",
        )
        for n in range(count)
    ]


def write_openi_films(films_root: Path, folder: Path, count: int) -> list[Path]:
    """Write Open-i films with their original headers, each of another patient, half of them MONOCHROME1."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = factories.openi_headers(films_root)
    chosen: list[tuple[Mapping[str, str], Path]] = []
    patients: set[str] = set()
    wanted = {"MONOCHROME1": count // 2, "MONOCHROME2": count - count // 2}
    for image in sorted((films_root / "openi" / "images").iterdir()):
        row = headers.get(image.name)
        patient = image.stem.split("_")[0]
        if row is None or patient in patients or not wanted.get(row["Photometric Interpretation"]):
            continue
        wanted[row["Photometric Interpretation"]] -= 1
        patients.add(patient)
        chosen.append((row, image))
        if not any(wanted.values()):
            break
    assert len(chosen) == count
    return [
        factories.write(factories.openi_film(row, image), folder / f"{image.stem}.dcm")
        for row, image in chosen
    ]


def read_by_study(paths: Sequence[Path]) -> dict[str, list[Dataset]]:
    """Read files; returns their data sets by Study Instance UID."""
    found: dict[str, list[Dataset]] = {}
    for path in paths:
        ds = dcmread(path, force=True)  # one real film was stored without file meta information
        found.setdefault(str(ds.StudyInstanceUID), []).append(ds)
    return found
