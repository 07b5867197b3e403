"""The Open-i chest radiographs of Indiana University at 256 x 256 pixels, with labels from their reports.

The folder holds ``images/`` and ``index.csv`` with one row an image and the columns of :data:`COLUMNS`;
``uid`` is the report, and in this collection also the patient.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import fromstring

from models.errors import DatasetError
from models.training.dataset import SPLITS, FilmDataset, LabelledStudy
from models.vocabulary import Vocabulary, mesh_terms

NAME = "openi"
TITLE = "Open-i chest radiographs of Indiana University (Demner-Fushman et al. 2016), 256 x 256 pixels"
TERMS = "CC BY-NC-ND 4.0"
COLUMNS = ("file", "uid", "mesh_major", "split")

#: Archive of the reports beside the index; without it the studies have no text.
REPORTS = "NLMCXR_reports.tgz"


def read_openi(root: Path, vocabulary: Vocabulary) -> FilmDataset:
    """Read the index; films are opened later.

    Parameters
    ----------
    root
        Folder of the set.
    vocabulary
        Derives the labels from the reports' major MeSH headings.

    Raises
    ------
    DatasetError
        If the index is missing or malformed, a listed film is not there, or the films of one report are in
        different splits or differ in their headings.
    """
    index = root / "index.csv"
    try:
        with index.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{index} has no column {', '.join(missing)}")
            rows = list(reader)
    except OSError as error:
        raise DatasetError(
            f"{index} cannot be read: {error.strerror}; point to the folder that holds it"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{index} is not a CSV file in UTF-8: {error}") from error
    return FilmDataset(NAME, TITLE, TERMS, _studies(root, index, rows, vocabulary))


def _studies(
    root: Path, index: Path, rows: Iterable[Mapping[str, str]], vocabulary: Vocabulary
) -> dict[str, tuple[LabelledStudy, ...]]:
    here = {path.name for path in (root / "images").glob("*")}
    films: dict[str, list[Path]] = {}
    views: dict[str, list[str]] = {}
    reports = read_reports(root / REPORTS)
    facts: dict[str, tuple[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        values = [row[column] for column in COLUMNS]
        if any(value is None for value in values) or not row["file"] or not row["uid"]:
            raise DatasetError(f"{index} line {line}: a value is missing")
        if not row["split"].isidentifier():
            raise DatasetError(f"{index} line {line}: {row['split']!r} is no name of a split")
        if row["file"] not in here:
            raise DatasetError(f"{index} line {line}: {row['file']} is not in {root / 'images'}")
        if facts.setdefault(row["uid"], (row["split"], row["mesh_major"])) != (
            row["split"],
            row["mesh_major"],
        ):
            raise DatasetError(
                f"{index} line {line}: report {row['uid']} has another split or other headings above"
            )
        films.setdefault(row["uid"], []).append(root / "images" / row["file"])
        views.setdefault(row["uid"], []).append((row.get("projection") or "").casefold())
    named = dict.fromkeys([*SPLITS, *sorted({split for split, _ in facts.values()})])
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in named}
    for uid, paths in films.items():
        split, joined = facts[uid]
        majors = joined.split("|")
        if vocabulary.indexed(majors):
            report = reports.get(uid, {})
            studies[split].append(
                LabelledStudy(
                    identifier=uid,
                    patient=uid,
                    films=tuple(paths),
                    keys=vocabulary.derive(majors),
                    headings=frozenset(term for major in majors for term in mesh_terms(major)),
                    views=tuple(views[uid]),
                    report=" ".join(report[part] for part in ("FINDINGS", "IMPRESSION") if part in report),
                    indication=report.get("INDICATION", ""),
                )
            )
    return {split: tuple(found) for split, found in studies.items()}


def read_reports(archive: Path) -> dict[str, dict[str, str]]:
    """Read the sections of all reports, by report number and by heading, such as ``FINDINGS``.

    Parameters
    ----------
    archive
        Of one XML file a report, as the collection is distributed; no reports when it is not there.

    Raises
    ------
    DatasetError
        If the archive or a report in it is damaged.
    """
    if not archive.exists():
        return {}
    reports = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".xml") else None
                if file is not None:
                    reports[Path(member.name).stem] = _sections(file.read())
    except (OSError, tarfile.TarError, ParseError) as error:
        raise DatasetError(f"reports {archive} cannot be read: {error}") from error
    return reports


def _sections(xml: bytes) -> dict[str, str]:
    texts = fromstring(xml).iter("AbstractText")
    return {text.get("Label", ""): " ".join(text.text.split()) for text in texts if text.text}
