"""Comparison with the prior study, or a stated reason why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.config.sections import PriorSettings
from dicom_node.config.settings import Settings
from dicom_node.results import codes
from dicom_node.results.content_rules import descendants, name_of
from dicom_node.results.validation import inspect_file
from dicom_node.store.analysis_records import AnalysisRecords, PriorComparisonRecord
from dicom_node.store.audit import IndexQueries
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.states import StudyState
from models.bundles.predictor import Predictor
from models.errors import ModelError
from tests.support.pipeline_harness import PipelineHarness
from worker.replay import replay


@pytest.fixture
def settings(settings: Settings) -> Settings:
    wanted = settings.results.model_copy(update={"objects": ("sr", "pdf"), "saliency_limit": 0})
    return settings.model_copy(
        update={"priors": PriorSettings(source="pacs", wait_seconds=5), "results": wanted}
    )


class Pair:
    """A study and its prior, which was fetched or is read already."""

    def __init__(self, bench: PipelineHarness, *, read: bool = False, **elements: object) -> None:
        self.bench = bench
        self.priors = PriorPairs(bench.index.engine)
        self.prior = str(bench.receive(study="then", series="then", seed=5, StudyDate="20230101", **elements))
        self.now = bench.receive(study="now", series="now", seed=6)
        bench.complete()
        if read:
            assert bench.pipeline.analyse(self.prior, 1) is StudyState.REPORTED
        self.id = next(
            row.id for row in IndexQueries(bench.index.engine).studies() if row.study_instance_uid == self.now
        )

    def analyse(self, pairing: PriorPairing | None = None) -> tuple[Dataset, PriorComparisonRecord]:
        pairing = pairing or PriorPairing(self.prior, self.priors.film_files(self.prior))
        self.priors.pair(self.id, 1, pairing)
        assert self.bench.pipeline.analyse(self.now, 1) is StudyState.REPORTED
        report = self.report()
        assert inspect_file(Path(report.filename)) == []  # type: ignore[arg-type]
        stored = AnalysisRecords(self.bench.index.engine).latest(self.id)
        assert stored is not None
        assert stored.record.prior is not None
        return report, stored.record.prior

    def report(self) -> Dataset:
        names = self.bench.data_dir.results.names()
        reports = [dcmread(self.bench.data_dir.results.path(name)) for name in names]
        (report,) = [ds for ds in reports if ds.Modality == "SR" and ds.StudyInstanceUID == self.now]
        return report


def said(report: Dataset) -> list[Dataset]:
    return [item for item in descendants(report) if name_of(item) == codes.QUALITATIVE_DIFFERENCE.value]


def compared(report: Dataset) -> tuple[str, list[str]]:
    (item,) = [each for each in descendants(report) if name_of(each) == codes.COMPARED_WITH_PRIOR.value]
    return item.ConceptCodeSequence[0].CodeMeaning, [
        str(child.get("TextValue")) for child in item.ContentSequence
    ]


def test_the_report_says_what_became_of_each_finding_and_refers_to_the_prior(bench: PipelineHarness) -> None:
    pair = Pair(bench)
    report, kept = pair.analyse()
    assert compared(report)[0] == "Yes"
    assert (kept.study_instance_uid, kept.study_date, kept.reason) == (pair.prior, "20230101", "")
    assert len(said(report)) == len(kept.changes) > 0
    (evidence,) = report.PertinentOtherEvidenceSequence
    assert evidence.StudyInstanceUID == pair.prior
    (image,) = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    for item, change in zip(said(report), kept.changes, strict=True):
        number, *images = item.ContentSequence
        value = float(number.MeasuredValueSequence[0].NumericValue)
        assert value == pytest.approx(
            change.score if change.certainty is None else 100 * change.certainty, rel=1e-4
        )
        assert [child.UID for child in number.ContentSequence] == [pair.prior]
        assert [each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in images] == [
            image.ReferencedSOPInstanceUID
        ]
    assert {entry.difference for entry in replay(bench.settings, bench.index, pair.now)} == {""}


def test_a_prior_that_this_bundle_read_is_not_read_again_and_says_the_same(
    bench: PipelineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, anew = Pair(bench).analyse()
    other = PipelineHarness(bench.settings.model_copy(update={"data_dir": tmp_path / "other"}))
    reads: list[object] = []
    read = Predictor.trace

    def counted(self: Predictor, studies: object, **options: object) -> object:
        reads.append(studies)
        return read(self, studies, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "trace", counted)
    with other.pipeline:
        pair = Pair(other, read=True)
        reads.clear()
        _, again = pair.analyse()
        assert len(reads) == 1
        assert again == anew
        assert {entry.difference for entry in replay(other.settings, other.index, pair.now)} == {""}


@pytest.mark.parametrize("elements", [{"view": "LL"}, {"PixelData": b"\0\0"}])
def test_a_prior_without_a_readable_frontal_film_is_said_to_be_none(
    bench: PipelineHarness, elements: dict[str, object]
) -> None:
    report, kept = Pair(bench, **elements).analyse()
    assert compared(report) == ("No", ["prior: not available: no frontal film of it can be analysed"])
    assert kept.reason == "no frontal film of it can be analysed"
    assert said(report) == []
    assert "PertinentOtherEvidenceSequence" not in report


def test_a_model_that_fails_on_the_prior_costs_the_comparison_alone(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(bench)
    read = Predictor.trace

    def once(self: Predictor, studies: object, seen: list[int] = [], **options: object) -> object:  # noqa: B006
        seen.append(1)
        if len(seen) > 1:
            raise ModelError("the model's answer is not a number")
        return read(self, studies, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "trace", once)
    report, kept = pair.analyse()
    assert compared(report)[0] == "No"
    assert "no usable answer" in kept.reason


def test_a_study_whose_prior_nobody_found_in_time_is_read_and_stays_so(bench: PipelineHarness) -> None:
    pair = Pair(bench)
    assert bench.pipeline.analyse(pair.now, 1) is StudyState.REPORTED
    assert compared(pair.report()) == ("No", ["prior: not available: it did not come within 5 s"])
    late = pair.priors.pair(pair.id, 1, PriorPairing(pair.prior))
    assert late.reason == "it did not come within 5 s"
    assert {entry.difference for entry in replay(bench.settings, bench.index, pair.now)} == {""}


def test_without_the_setting_nothing_is_said_of_priors(bench: PipelineHarness, tmp_path: Path) -> None:
    off = bench.settings.model_copy(update={"priors": PriorSettings(), "data_dir": tmp_path / "off"})
    other = PipelineHarness(off)
    with other.pipeline:
        pair = Pair(other)
        assert other.pipeline.analyse(pair.now, 1) is StudyState.REPORTED
        assert codes.COMPARED_WITH_PRIOR.value not in map(name_of, descendants(pair.report()))
        assert pair.priors.get(pair.id, 1) is None
