"""Public films of real devices, whose headers contradict their pixels: each is read, and says how."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.store.states import StudyState
from worker.study_reader import StudyReader
from worker.study_revision import StudyRevision

pytestmark = pytest.mark.films

REMARKS = {
    "Fake_MONOHR1.dcm": "low values are dark, although the header says MONOCHROME1",
    "ge-dx-lateral-j2k.dcm": "window 1 (center -600, width 1600) does not fit the film's values and "
    "was set aside",
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[StudyReader]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("node"))
    worker = settings.worker.model_copy(update={"bundle": str(tiny_bundle), "gate": "gate", "device": "cpu"})
    with StudyReader.open(settings.model_copy(update={"worker": worker})) as opened:
        yield opened


def test_every_film_is_reported_and_says_what_was_set_aside(reader: StudyReader, films_root: Path) -> None:
    outcomes, remarks = {}, {}
    for path in sorted((films_root / "dicom").glob("*.dcm")):
        analysis = reader.read(StudyRevision("2.25.1", 1, datetime.now(UTC)), [path])
        outcomes[path.name] = (analysis.state, analysis.reason)
        assert analysis.report is not None
        (source,) = analysis.report.sources
        if source.remarks:
            (remarks[path.name],) = source.remarks
    assert len(outcomes) >= 9
    assert set(outcomes.values()) == {(StudyState.REPORTED, "")}, outcomes
    assert remarks == REMARKS
