"""De-identified films and results are valid objects, by dciodvfy (dicom3tools)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.imaging.deidentification import DeidentificationOptions, Retention
from dicom_node.imaging.deidentifier import Deidentifier
from dicom_node.imaging.pseudonyms import Pseudonyms
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.validation import dciodvfy
from tests.support import factories
from tests.support.reports import report_of
from tests.support.result_objects import objects_of

KINDS = ("sr", "sc", "ko", "seg", "pr", "pm")


@pytest.mark.peer
@pytest.mark.parametrize("kept", [frozenset(), frozenset(Retention), frozenset({Retention.DATES})])
def test_dciodvfy_finds_no_new_error(kept: frozenset[Retention], tmp_path: Path) -> None:
    film = factories.film(rows=64, columns=64, BurnedInAnnotation="NO")
    files = {"film": factories.encoded(film)}
    files |= {kind: encoded(ds) for kind, ds in objects_of(report_of(film), KINDS)}
    assert set(files) == {"film", *KINDS}
    deidentifier = Deidentifier(Pseudonyms(b"v" * 32), DeidentificationOptions(kept))
    for name, content in files.items():
        before, after = tmp_path / f"{name}.dcm", tmp_path / f"{name}-out.dcm"
        before.write_bytes(content)
        after.write_bytes(deidentifier.file(before).content)
        assert set(dciodvfy(after)) <= set(dciodvfy(before)), name
