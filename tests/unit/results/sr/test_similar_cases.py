"""Similar cases are reported by name, rank and similarity, and never by a reference to their images."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from highdicom.sr import Comprehensive3DSR, srread
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import SimilarCase, SimilarCases
from dicom_node.results.sr.document import SOP_CLASSES, Predecessor, SrClass
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.sr.similar_cases import write_similar
from dicom_node.results.validation import check_result
from tests.support.factories import film
from tests.support.reports import CARDIOMEGALY, EQUIPMENT, SIMILAR, report_of
from tests.support.sr_content import child, children, measurement_groups, value_of


def written(similar: SimilarCases = SIMILAR, **options: object) -> Dataset:
    report = report_of(film(rows=96, columns=80), film(rows=96, columns=80, instance=2), similar=similar)
    ds = write_similar(report, equipment=EQUIPMENT, **options)
    check_result(ds)
    return ds


def test_each_case_has_its_group_by_rank_and_the_set_has_one() -> None:
    *cases, together = measurement_groups(written())
    assert [child(group, codes.TRACKING_IDENTIFIER).TextValue for group in cases] == [
        "openi:CXR1234 rank 1",
        "openi:CXR77 rank 2",
        "openi:CXR9 rank 3",
    ]
    similarities = [child(group, codes.COSINE_SIMILARITY).MeasuredValueSequence[0] for group in cases]
    assert [float(item.NumericValue) for item in similarities] == pytest.approx([0.912346, 0.85, -0.1])
    ranks = [child(group, codes.RANK).MeasuredValueSequence[0].NumericValue for group in cases]
    assert list(map(int, ranks)) == [1, 2, 3]
    assert value_of(child(together, codes.FINDING)) == codes.SIMILAR_CASES.value
    agreement = child(together, codes.AGREEMENT).MeasuredValueSequence[0]
    assert float(agreement.NumericValue) == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize(("disagrees", "value"), [(True, "373066001"), (False, "373067005")])
def test_disagreement_is_coded(disagrees: bool, value: str) -> None:
    together = measurement_groups(written(replace(SIMILAR, disagrees=disagrees)))[-1]
    assert value_of(child(together, codes.DISAGREES)) == value


def test_findings_of_a_case_keep_their_names_where_they_share_a_code() -> None:
    first, second, third, _ = measurement_groups(written())
    assert value_of(child(first, codes.REFERENCE_FINDING)) == CARDIOMEGALY.value
    names = [child(item, codes.LABEL_NAME).TextValue for item in children(second, codes.REFERENCE_FINDING)]
    assert names == ["Calcified Granuloma", "Granuloma"]
    assert not children(third, codes.REFERENCE_FINDING)


def test_encoder_and_index_are_identified_by_their_hashes() -> None:
    measurements = child(written(), codes.IMAGING_MEASUREMENTS)
    parameters = [item.TextValue for item in children(measurements, codes.ALGORITHM_PARAMETERS)]
    assert parameters == [f"weights_sha256={'a' * 64}", "index=openi-train", f"index_sha256={'b' * 64}"]


def test_it_refers_to_the_patient_s_own_images_only() -> None:
    ds = written()
    own = {film(rows=96, columns=80, instance=number).SOPInstanceUID for number in (1, 2)}
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in measurement_groups(ds)
        for item in children(group, codes.SOURCE_OF_MEASUREMENT)
    }
    assert referred == own


@pytest.mark.parametrize("sop_class", SOP_CLASSES)
def test_it_is_a_series_of_its_own_in_every_class(sop_class: SrClass) -> None:
    ds = written(sop_class=sop_class)
    report = report_of(film(rows=96, columns=80), similar=SIMILAR)
    assert ds.SOPClassUID == SOP_CLASSES[sop_class]
    assert ds.SeriesNumber == 9907
    assert ds.SeriesInstanceUID != write_sr(report, equipment=EQUIPMENT).SeriesInstanceUID
    assert "RESEARCH USE ONLY" in ds.SeriesDescription


def test_highdicom_reads_it() -> None:
    read = srread(io.BytesIO(encoded(written())))
    assert isinstance(read, Comprehensive3DSR)
    found = read.content.get_image_measurement_groups()
    assert found[0].tracking_identifier == "openi:CXR1234 rank 1"


def test_it_names_its_predecessor_and_repeats_itself() -> None:
    first = written()
    second = written(
        predecessor=Predecessor(first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    )
    (study,) = second.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert encoded(first) == encoded(written())


def test_without_similar_cases_there_is_nothing_to_write() -> None:
    with pytest.raises(EncodingFailed, match="no similar cases"):
        write_similar(report_of(film(rows=96, columns=80)), equipment=EQUIPMENT)


def test_ranks_shares_and_similarities_are_what_they_are_called() -> None:
    with pytest.raises(ValueError, match="ranked"):
        replace(SIMILAR, cases=SIMILAR.cases[1:])
    with pytest.raises(ValueError, match="agreement"):
        replace(SIMILAR, agreement=1.1)
    with pytest.raises(ValueError, match="similarity"):
        SimilarCase(1, "openi:CXR1", 1.5, ())
