"""Reports of the Open-i collection: one XML file per report, in the archive or unpacked."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from models.errors import DatasetError

#: Archive as it is distributed, and the folder that it holds.
ARCHIVE = "NLMCXR_reports.tgz"
FOLDER = "ecgen-radiology"

_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError, ParseError, DefusedXmlException)
_FILM = re.compile(r"(?:CXR)?(\d+)_(?:\1_)?(.+)")


@dataclass(frozen=True, slots=True)
class OpeniReport:
    """One report of the Open-i collection.

    Attributes
    ----------
    number
        Number of the report; in this collection also of the patient.
    films
        Names of its films as :func:`film_name` writes them.
    majors
        Major MeSH headings, with their qualifiers.
    text
        Findings and impression; empty where there is neither.
    indication
        Indication or history, known before the films were read; empty where there is none.
    """

    number: str
    films: tuple[str, ...]
    majors: tuple[str, ...]
    text: str
    indication: str


def film_name(name: str) -> str:
    """Uniform spelling of a film's name, without its extension.

    The reports write ``CXR1000_IM-0003-1001`` (and of report 1 ``CXR1_1_IM-0001-3001``), the headers
    ``1000_IM-0003-1001``.
    """
    stem = Path(name).stem
    match = _FILM.fullmatch(stem)
    return f"{match[1]}_{match[2]}" if match else stem


def read_reports(root: Path) -> dict[str, OpeniReport]:
    """Read all reports by number, from the archive or else the unpacked folder; none where both are absent.

    Raises
    ------
    DatasetError
        If the archive or a report is damaged.
    """
    reports = {}
    for name, xml in _files(root):
        number = Path(name).stem
        try:
            reports[number] = _report(number, xml)
        except (ParseError, DefusedXmlException) as error:
            raise DatasetError(f"report {name} in {root} cannot be read: {error}") from error
    return reports


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each report."""
    archive = root / ARCHIVE
    place = archive if archive.exists() else root
    try:
        if archive.exists():
            with tarfile.open(archive) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.name.endswith(".xml") else None
                    if file is not None:
                        yield member.name, file.read()
        else:
            folders = [*root.glob(FOLDER), *root.glob(f"*/{FOLDER}")]
            for path in (path for folder in sorted(folders) for path in sorted(folder.glob("*.xml"))):
                yield str(path.relative_to(root)), path.read_bytes()
    except _BROKEN as error:
        raise DatasetError(f"reports {place} cannot be read: {error}") from error


def _report(number: str, xml: bytes) -> OpeniReport:
    root = fromstring(xml)
    sections = {
        text.get("Label", ""): " ".join(text.text.split()) for text in root.iter("AbstractText") if text.text
    }
    return OpeniReport(
        number=number,
        films=tuple(film_name(image.get("id", "")) for image in root.iter("parentImage")),
        majors=tuple(" ".join(major.text.split()) for major in root.iter("major") if major.text),
        text=" ".join(sections[part] for part in ("FINDINGS", "IMPRESSION") if part in sections),
        indication=sections.get("INDICATION", ""),
    )
