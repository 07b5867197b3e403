"""Studies of more films than are analysed: which are read, what is said of the others, what it takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.grayscale import GreyTransform
from dicom_node.imaging.pixels import FloatArray
from dicom_node.results import codes
from tests.support import factories
from tests.support.sr_content import text_of
from worker.study_reader import StudyAnalysis, StudyReader
from worker.study_revision import StudyRevision


def read(settings: Settings, paths: list[Path], max_films: int) -> StudyAnalysis:
    worker = settings.worker.model_copy(update={"max_films": max_films})
    with StudyReader.open(settings.model_copy(update={"worker": worker})) as reader:
        return reader.read(StudyRevision(factories.uid("study"), 1, datetime(2026, 1, 1, tzinfo=UTC)), paths)


def films(folder: Path, *each: dict[str, object]) -> list[Path]:
    return [
        factories.write(factories.film(instance=number, seed=number, rows=128, columns=112, **elements),  # type: ignore[arg-type]
        folder / f"{number}.dcm")
        for number, elements in enumerate(each)
    ]  # fmt: skip


def analysed(analysis: StudyAnalysis) -> list[int]:
    """Numbers of the films that were analysed."""
    assert analysis.report is not None
    return [number for number, source in enumerate(analysis.report.sources) if source.analysed]


def test_frontal_films_come_first_then_the_newest(settings: Settings, tmp_path: Path) -> None:
    paths = films(
        tmp_path,
        {"view": "LL", "AcquisitionDate": "20260105", "AcquisitionTime": "120000"},
        {"view": "PA", "AcquisitionDate": "20260101", "AcquisitionTime": "080000"},
        {"view": None, "AcquisitionDate": "20260101", "AcquisitionTime": "090000"},
        {"view": "AP"},
        {"view": "PA", "AcquisitionDate": "20260104", "AcquisitionTime": "070000"},
    )
    chosen = [set(analysed(read(settings, paths, most))) for most in range(1, 6)]
    assert chosen == [{4}, {2, 4}, {1, 2, 4}, {1, 2, 3, 4}, {0, 1, 2, 3, 4}]


def test_the_report_names_the_others_with_a_coded_reason(settings: Settings, tmp_path: Path) -> None:
    analysis = read(settings, films(tmp_path, {}, {}, {}), 1)
    assert analysis.report is not None
    others = [source for source in analysis.report.sources if not source.analysed]
    assert [source.reason for source in others] == ["too_many", "too_many"]
    said = text_of(analysis.objects[0][1])
    assert "more films than the 1 that are analysed (worker.max_films)" in said
    assert said.count("more films than") == 2
    assert codes.REFUSALS["too_many"].code.value == "TOO_MANY"


def test_a_film_that_is_refused_leaves_its_place_to_the_next(settings: Settings, tmp_path: Path) -> None:
    analysis = read(settings, films(tmp_path, {"PixelData": b"\0\0"}, {"PixelData": b"\0\0"}, {}, {}), 1)
    assert analysed(analysis) == [2]


@pytest.mark.timeout(300)
def test_a_study_of_2000_films_takes_the_descriptors_of_a_few(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = factories.film(rows=64, columns=64)
    content, uid = factories.encoded(film), str(film.SOPInstanceUID).encode()
    paths = [tmp_path / f"{number}.dcm" for number in range(2000)]
    for number, path in enumerate(paths):
        path.write_bytes(content.replace(uid, uid[:-4] + b"%04d" % number))
    opened, decode = [], Decoder.decode_as_seen

    def counted(self: Decoder, path: Path) -> tuple[FloatArray, GreyTransform]:
        seen = decode(self, path)
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
        return seen

    monkeypatch.setattr(Decoder, "decode_as_seen", counted)
    analysis = read(settings, paths, 16)
    assert len(analysed(analysis)) == len(opened) == 16
    assert analysis.report is not None
    assert len(analysis.report.sources) == 2000
    assert max(opened) - min(opened) <= 16
