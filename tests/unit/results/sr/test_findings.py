"""The structured report: everything that is said, readable by another library, and nothing else."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace

import pytest
from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, EnhancedSR, srread
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.results import codes, content_rules, uids
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Change, Code, Presence, PriorComparison, Refusal, Report, Source
from dicom_node.results.sr.document import Predecessor, SrClass
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.sr.parser import parse_findings
from dicom_node.results.validation import check_result
from tests.support.factories import film, header, put, write
from tests.support.reports import (
    ALGORITHM,
    CARDIOMEGALY,
    CREATED,
    EQUIPMENT,
    GRANULOMA,
    LUNG,
    compared,
    finding,
    report_of,
    saliency_of,
)
from tests.support.source_headers import SOURCES
from tests.support.sr_content import child, children, measurement_groups, value_of


def films() -> tuple[Dataset, Dataset]:
    return film(rows=96, columns=80, instance=1), film(rows=90, columns=100, instance=2, view="LL")


def written(report: Report, **options: object) -> Dataset:
    ds = write_sr(report, equipment=EQUIPMENT, **options)
    check_result(ds)
    return ds


def read(ds: Dataset) -> Dataset:
    return srread(io.BytesIO(encoded(ds)))


def test_each_label_has_its_group_in_order_absent_ones_too() -> None:
    report = report_of(*films())
    found = measurement_groups(written(report))
    assert [child(group, codes.TRACKING_IDENTIFIER).TextValue for group in found] == [
        f"openi-findings/{item.key}" for item in report.findings
    ]
    presences = [value_of(child(group, codes.PRESENCE)) for group in found]
    assert presences == ["52101004", "272519000", "373068000"]


def test_highdicom_reads_what_was_said() -> None:
    one, other = films()
    content = read(written(report_of(one, other))).content
    (with_region,) = content.get_planar_roi_measurement_groups()
    assert with_region.finding_type == codes_of(CARDIOMEGALY)
    assert with_region.tracking_uid == uids.tracking_uid(
        one.StudyInstanceUID, "openi-findings", "cardiomegaly"
    )
    assert with_region.roi.graphic_type.value == "POLYLINE"
    effusion, granuloma = content.get_image_measurement_groups()
    assert granuloma.finding_type == codes_of(GRANULOMA)
    assert [site.value for site in granuloma.finding_sites] == [codes_of(LUNG)]
    (measured,) = effusion.get_measurements()
    assert (measured.value, measured.unit) == (10.0, codes_of(codes.PERCENT))
    images = content.get_image_measurement_groups()[0].get_qualitative_evaluations()
    assert [str(item.value.value) for item in images] == ["49755003", "272519000"]


def codes_of(code: Code) -> object:
    from pydicom.sr.coding import Code as PydicomCode

    return PydicomCode(code.value, code.scheme, code.meaning)


def test_a_calibrated_answer_is_a_percentage_and_a_score_is_not() -> None:
    calibrated, _, uncalibrated = measurement_groups(written(report_of(*films())))
    certainty = child(calibrated, codes.CERTAINTY).MeasuredValueSequence[0]
    assert float(certainty.NumericValue) == pytest.approx(81.2346)
    assert certainty.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert not children(calibrated, codes.MODEL_SCORE)
    score = child(uncalibrated, codes.MODEL_SCORE).MeasuredValueSequence[0]
    assert float(score.NumericValue) == pytest.approx(0.31)
    assert score.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert not children(uncalibrated, codes.CERTAINTY)


def test_how_well_the_calibration_is_placed_stands_beside_the_percentage() -> None:
    ds = written(report_of(*films(), findings=[finding(certainty=0.8, interval=(0.65, 0.875))]))
    number = child(measurement_groups(ds)[0], codes.CERTAINTY)
    below, above = (child(number, each) for each in (codes.UNCERTAINTY_BELOW, codes.UNCERTAINTY_ABOVE))
    for item, span in ((below, 15.0), (above, 7.5)):
        assert item.RelationshipType == "HAS PROPERTIES"
        assert float(item.MeasuredValueSequence[0].NumericValue) == pytest.approx(span)
        assert item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    (unknown, *_) = measurement_groups(written(report_of(*films(), findings=[finding(interval=None)])))
    assert not children(child(unknown, codes.CERTAINTY), codes.UNCERTAINTY_ABOVE)


@pytest.mark.parametrize("certainty", [0.0, 1.0, 1e-12, 0.123456789, 1 / 3])
def test_every_certainty_fits_a_decimal_string(certainty: float) -> None:
    ds = written(report_of(*films(), findings=[finding(certainty=certainty)]))
    number = child(measurement_groups(ds)[0], codes.CERTAINTY).MeasuredValueSequence[0].NumericValue
    assert len(str(number)) <= 16
    assert float(number) == pytest.approx(100 * certainty, rel=1e-5)


def test_a_measurement_names_its_algorithm_and_threshold() -> None:
    ds = written(report_of(*films()))
    number = child(measurement_groups(ds)[0], codes.CERTAINTY)
    assert child(number, codes.ALGORITHM_NAME).TextValue == "openi-findings"
    assert child(number, codes.ALGORITHM_VERSION).TextValue == "1.0.0"
    assert child(number, codes.ALGORITHM_PARAMETERS).TextValue == "threshold=0.5"


def test_the_algorithm_is_identified_down_to_its_weights() -> None:
    measurements = child(written(report_of(*films())), codes.IMAGING_MEASUREMENTS)
    assert value_of(child(measurements, codes.ALGORITHM_FAMILY)) == "123110"
    assert child(measurements, codes.ALGORITHM_MANUFACTURER).TextValue == EQUIPMENT.manufacturer
    parameters = [item.TextValue for item in children(measurements, codes.ALGORITHM_PARAMETERS)]
    assert tuple(parameters) == ALGORITHM.parameters


def test_a_certainty_has_its_interval_as_properties() -> None:
    # TID 300 includes TID 310 by HAS PROPERTIES; its uncertainties are those of CID 225.
    one, _ = films()
    (group,) = measurement_groups(
        written(report_of(one, findings=[finding(certainty=0.8, interval=(0.7, 0.95))]))
    )
    found = {
        name: child(group, codes.CERTAINTY, name)
        for name in (codes.UNCERTAINTY_BELOW, codes.UNCERTAINTY_ABOVE)
    }
    assert {item.RelationshipType for item in found.values()} == {"HAS PROPERTIES"}
    values = [float(item.MeasuredValueSequence[0].NumericValue) for item in found.values()]
    assert values == pytest.approx([10, 15])


def test_an_observation_is_named_by_its_content_and_carries_its_moment() -> None:
    one, _ = films()
    groups = measurement_groups(written(report_of(one)))
    moments = {dt.datetime.strptime(group.ObservationDateTime, "%Y%m%d%H%M%S.%f%z") for group in groups}
    assert moments == {CREATED}
    first = [group.ObservationUID for group in groups]
    assert len(set(first)) == len(groups)
    assert [group.ObservationUID for group in measurement_groups(written(report_of(one)))] == first
    later = report_of(one, created=CREATED + dt.timedelta(seconds=1))
    assert not {group.ObservationUID for group in measurement_groups(written(later))} & set(first)
    changed = [finding(certainty=0.8123457, saliency=[saliency_of(one)], interval=(0.7, 0.9))]
    (group,) = measurement_groups(written(report_of(one, findings=changed)))
    assert group.ObservationUID != first[0]
    assert child(group, codes.TRACKING_UID).UID == child(groups[0], codes.TRACKING_UID).UID


def test_an_observation_s_moment_is_in_the_zone_of_the_source() -> None:
    group = measurement_groups(written(report_of(SOURCES["time zone"]())))[0]
    assert group.ObservationDateTime == "20240301080015.123456-0430"


def test_a_finding_has_a_category_that_highdicom_finds() -> None:
    normal = finding("normal", "Normal", code=Code("17621005", "SCT", "Normal"))
    (group, other) = read(
        written(report_of(films()[0], findings=[finding(), normal]))
    ).content.get_image_measurement_groups()
    assert group.finding_category == codes_of(codes.ABNORMAL_STRUCTURE)
    assert other.finding_category == codes_of(codes.ANATOMICAL_STRUCTURE)


def test_a_qualifier_narrows_its_finding() -> None:
    granuloma = measurement_groups(written(report_of(*films())))[2]
    assert value_of(child(granuloma, codes.FINDING, codes.QUALIFIER)) == "CALCIFIED"


def test_a_present_finding_points_at_where_the_model_looked() -> None:
    one, other = films()
    first, *rest = measurement_groups(written(report_of(one, other)))
    region = child(first, codes.IMAGE_REGION)
    points = [float(number) for number in region.GraphicData]
    assert points[:2] == points[-2:]
    assert len(points) == 10
    columns, rows = points[::2], points[1::2]
    assert min(columns) < 0.4 * one.Columns < max(columns) <= one.Columns
    assert min(rows) < 0.6 * one.Rows < max(rows) <= one.Rows
    (source,) = region.ContentSequence
    assert source.RelationshipType == "SELECTED FROM"
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert [child(group, codes.TRACKING_UID).UID for group in rest] != [child(first, codes.TRACKING_UID).UID]
    templates = [group.ContentTemplateSequence[0].TemplateIdentifier for group in (first, *rest)]
    assert templates == ["1410", "1501", "1501"]


def test_a_heat_map_that_is_withheld_is_said_to_be() -> None:
    shown, hidden = finding(), finding("nodule", "Nodule", withheld="it is flat")
    first, second = measurement_groups(written(report_of(films()[0], findings=[shown, hidden])))
    assert not children(first, codes.MAP_WITHHELD)
    assert child(second, codes.MAP_WITHHELD).TextValue == "The heat map of Nodule is not shown: it is flat"


def test_an_absent_finding_has_no_region_even_with_a_heat_map() -> None:
    one, other = films()
    absent = finding(presence=Presence.ABSENT, saliency=[saliency_of(one)])
    (group,) = measurement_groups(written(report_of(one, other, findings=[absent])))
    assert not children(group, codes.IMAGE_REGION)


def test_each_view_is_a_source_and_an_entry_of_the_library() -> None:
    one, other = films()
    ds = written(report_of(one, other))
    expected = [one.SOPInstanceUID, other.SOPInstanceUID]
    for group in measurement_groups(ds):
        images = children(group, codes.SOURCE_OF_MEASUREMENT)
        assert [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images] == expected
    library = child(ds, codes.IMAGE_LIBRARY, codes.IMAGE_LIBRARY_GROUP).ContentSequence
    assert [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in library] == expected
    assert [value_of(child(image, codes.IMAGE_VIEW)) for image in library] == ["272479007", "399173006"]
    assert [value_of(child(image, codes.MODALITY)) for image in library] == ["CR", "CR"]


@pytest.mark.parametrize(
    ("stated", "seen", "said"),
    [
        ("PA", "", "PA"),
        ("PA", "frontal", "PA"),
        ("LL", "lateral", "LL"),
        ("PA", "lateral", "LATERAL"),
        ("", "lateral", "LATERAL"),
        ("LL", "frontal", None),
        ("", "frontal", None),
    ],
)
def test_where_header_and_picture_disagree_on_the_view_the_picture_is_right(
    stated: str, seen: str, said: str | None
) -> None:
    one, _ = films()
    one.ViewPosition = stated
    report = replace(report_of(one), sources=(Source(header(one), view=seen),))
    (image,) = child(written(report), codes.IMAGE_LIBRARY, codes.IMAGE_LIBRARY_GROUP).ContentSequence
    expected = [] if said is None else [codes.VIEWS[said].value]
    assert [value_of(item) for item in children(image, codes.IMAGE_VIEW)] == expected


def test_the_evidence_is_grouped_by_study_and_series() -> None:
    one, other = film(rows=96, columns=80, series=1), film(rows=96, columns=80, series=2)
    third = film(rows=96, columns=80, series=2, instance=2)
    (study,) = written(report_of(one, other, third)).CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == one.StudyInstanceUID
    assert [len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence] == [1, 2]


@pytest.mark.parametrize(
    ("normality", "value"),
    [(Presence.PRESENT, "17621005"), (Presence.ABSENT, "263654008"), (Presence.UNDETERMINED, "371934000")],
)
def test_the_study_is_called_normal_or_not(normality: Presence, value: str) -> None:
    ds = written(report_of(*films(), normality=normality))
    assert value_of(child(ds, codes.QUALITATIVE_EVALUATIONS, codes.NORMALITY)) == value


@pytest.mark.parametrize("refused", [False, True])
def test_every_report_says_that_it_is_for_research(refused: bool) -> None:
    refusal = Refusal("blank", "the picture is blank") if refused else None
    ds = written(report_of(*films(), refusal=refusal))
    statement = child(ds, codes.QUALITATIVE_EVALUATIONS, codes.INTENDED_USE_STATEMENT).TextValue
    assert statement.startswith("RESEARCH USE ONLY")
    assert "RESEARCH USE ONLY" in ds.SeriesDescription
    assert (ds.PreliminaryFlag, ds.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_a_refusal_is_the_same_document_with_a_coded_reason() -> None:
    one, other = films()
    excluded = [(one, "the picture is blank"), (other, "the picture is blank")]
    refused = report_of(excluded=excluded, refusal=Refusal("blank", "the picture is blank"))
    ds = written(refused)
    assert ds.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert not children(ds, codes.IMAGING_MEASUREMENTS)
    evaluations = child(ds, codes.QUALITATIVE_EVALUATIONS)
    assert value_of(child(evaluations, codes.PROCESSING_SUMMARY)) == "111245"
    assert value_of(child(evaluations, codes.REASON_NOT_ANALYSED)) == codes.REFUSALS["blank"].code.value
    assert child(evaluations, codes.EXPLANATION).TextValue == "the picture is blank"
    assert not children(evaluations, codes.NORMALITY)
    assert ds.CompletionFlag == "PARTIAL"
    assert isinstance(read(ds), Comprehensive3DSR)


@pytest.mark.parametrize("reason", sorted(codes.REFUSALS))
def test_every_reason_can_be_written(reason: str) -> None:
    ds = written(report_of(*films(), refusal=Refusal(reason, "")))
    explanation = child(ds, codes.QUALITATIVE_EVALUATIONS, codes.EXPLANATION).TextValue
    assert explanation == codes.REFUSALS[reason].sentence


def test_an_unknown_reason_is_a_mistake_of_ours() -> None:
    with pytest.raises(EncodingFailed, match="no_such_reason"):
        write_sr(report_of(*films(), refusal=Refusal("no_such_reason", "")), equipment=EQUIPMENT)


def test_an_image_that_was_left_out_is_named_with_its_reason() -> None:
    one, other = films()
    ds = written(report_of(one, excluded=[(other, "the picture is blank")]))
    item = child(ds, codes.QUALITATIVE_EVALUATIONS, codes.IMAGE_NOT_ANALYSED)
    assert item.TextValue == "series 1, image 2: the picture is blank"
    (image,) = item.ContentSequence
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == other.SOPInstanceUID
    assert (ds.CompletionFlag, ds.CompletionFlagDescription) == (
        "PARTIAL",
        "Not every received image was analysed",
    )
    assert written(report_of(one, other)).CompletionFlag == "COMPLETE"


def test_what_was_set_aside_to_read_an_image_is_said_of_that_image() -> None:
    one, other = films()
    report = report_of(one, excluded=[(other, "the picture is blank")])
    said = ("window 1 was set aside", "the film was turned by 90 degrees"), ("one decimal comma was read",)
    remarked = tuple(replace(source, remarks=each) for source, each in zip(report.sources, said, strict=True))
    evaluations = child(written(replace(report, sources=remarked)), codes.QUALITATIVE_EVALUATIONS)
    items = children(evaluations, codes.IMAGE_REMARK)
    assert [item.TextValue for item in items] == [
        "series 1, image 1: window 1 was set aside",
        "series 1, image 1: the film was turned by 90 degrees",
        "series 1, image 2: one decimal comma was read",
    ]
    named = [item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items]
    assert named == [one.SOPInstanceUID, one.SOPInstanceUID, other.SOPInstanceUID]
    assert not children(child(written(report), codes.QUALITATIVE_EVALUATIONS), codes.IMAGE_REMARK)


@pytest.mark.parametrize("missing", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"])
def test_an_image_without_a_uid_is_named_but_not_referred_to(missing: str) -> None:
    one, other = films()
    ds = written(report_of(one, excluded=[(put(other, {missing: None}), "it lacks a UID")]))
    item = child(ds, codes.QUALITATIVE_EVALUATIONS, codes.IMAGE_NOT_ANALYSED)
    assert "ContentSequence" not in item


def test_the_observer_is_this_installation() -> None:
    ds = written(report_of(*films()))
    assert value_of(child(ds, codes.OBSERVER_TYPE)) == "121007"
    assert EQUIPMENT.device_uid == child(ds, codes.DEVICE_UID).UID
    assert child(ds, codes.DEVICE_SERIAL).TextValue == ds.DeviceSerialNumber == EQUIPMENT.serial_number


def test_the_procedure_is_that_of_the_source_or_one_of_the_context_group() -> None:
    def procedure(name: str) -> tuple[str, str]:
        (item,) = child(written(report_of(SOURCES[name]())), codes.PROCEDURE_REPORTED).ConceptCodeSequence
        return item.CodeValue, item.CodingSchemeDesignator

    assert procedure("local procedure code") == ("XR2017", "LOCAL")
    assert procedure("plain CR") == procedure("incomplete procedure code") == ("363679005", "SCT")


@pytest.mark.parametrize(
    ("name", "uid", "kind"),
    [
        ("comprehensive3d", "1.2.840.10008.5.1.4.1.1.88.34", Comprehensive3DSR),
        ("comprehensive", "1.2.840.10008.5.1.4.1.1.88.33", ComprehensiveSR),
        ("enhanced", "1.2.840.10008.5.1.4.1.1.88.22", EnhancedSR),
    ],
)
def test_all_classes_hold_the_same_content(name: SrClass, uid: str, kind: type) -> None:
    report = report_of(*films())
    ds = written(report, sop_class=name)
    assert ds.SOPClassUID == uid
    assert isinstance(read(ds), kind)
    assert ds.ContentSequence == written(report).ContentSequence


def test_a_repeat_is_byte_identical_and_new_content_a_new_instance() -> None:
    one, other = films()
    first = written(report_of(one, other))
    assert encoded(first) == encoded(written(report_of(*films())))
    changed = [
        report_of(one),
        report_of(other, one),
        report_of(one, other, revision=2),
        report_of(one, other, normality=Presence.PRESENT),
        report_of(one, other, created=CREATED + dt.timedelta(seconds=1)),
        report_of(one, other, findings=[finding(certainty=0.8123457)]),
        report_of(one, other, findings=[finding(threshold=0.51)]),
    ]
    instances = [written(report).SOPInstanceUID for report in changed]
    assert len({first.SOPInstanceUID, *instances}) == len(changed) + 1


def test_a_revision_is_a_new_series_that_names_its_predecessor() -> None:
    one, other = films()
    first = written(report_of(one))
    predecessor = Predecessor(first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    second = written(report_of(one, other, revision=2), predecessor=predecessor)
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_it_joins_the_study_and_the_patient() -> None:
    one, other = films()
    ds = written(report_of(one, other))
    for keyword in (
        "StudyInstanceUID",
        "PatientID",
        "PatientName",
        "AccessionNumber",
        "StudyDate",
        "StudyID",
    ):
        assert ds[keyword].value == one[keyword].value
    assert (ds.Modality, ds.SeriesNumber) == ("SR", 9901)
    assert ds.SeriesInstanceUID not in {one.SeriesInstanceUID, other.SeriesInstanceUID}


def test_patient_and_study_come_from_a_film_that_was_analysed() -> None:
    one, other = film(rows=96, columns=80, patient_name="Wrong^Name"), film(rows=96, columns=80, instance=2)
    report = report_of(one, other)
    sources = (Source(header(one), analysed=False, exclusion="blank"), report.sources[1])
    mixed = Report(
        study_instance_uid=report.study_instance_uid,
        revision=1,
        created=CREATED,
        sources=sources,
        algorithm=report.algorithm,
        findings=report.findings[1:],
    )
    assert written(mixed).PatientName == "Doe^Jane"


@pytest.mark.parametrize("name", SOURCES)
def test_any_source_leads_to_a_report_that_reads_back(name, tmp_path) -> None:
    source = read_header(write(SOURCES[name](), tmp_path / "film.dcm"))
    for report in (report_of(source), report_of(source, refusal=Refusal("blank", "the picture is blank"))):
        again = read(written(report))
        assert again.content[0].ValueType == "CONTAINER"
        assert attributes.whole_text(again, "PatientName") == attributes.whole_text(source, "PatientName")


def test_the_time_is_that_of_the_report_in_the_zone_of_the_source() -> None:
    ds = written(report_of(SOURCES["time zone"]()))
    assert (ds.ContentDate, ds.ContentTime) == ("20240301", "080015.123456")
    assert ds.TimezoneOffsetFromUTC == "-0430"
    assert "TimezoneOffsetFromUTC" not in written(report_of(*films()))


def test_the_private_scheme_is_declared() -> None:
    (item,) = written(report_of(*films())).CodingSchemeIdentificationSequence
    assert item.CodingSchemeDesignator == "99CXRNODE"


def test_a_study_that_was_compared_says_with_what_and_the_evidence_holds_it() -> None:
    now, then = film(rows=96, columns=80), film(study="then", series="then", StudyDate="20230101")
    ds = write_sr(compared(report_of(now), then), equipment=EQUIPMENT)
    groups = [item for item in content_rules.descendants(ds) if content_rules.name_of(item) == "125007"]
    changes = [
        child.ConceptCodeSequence[0].CodeValue
        for group in groups
        for child in group.ContentSequence
        if content_rules.name_of(child) == codes.QUALITATIVE_DIFFERENCE.value
    ]
    assert changes == ["129721008", "GONE", "129723006"]
    assert list(content_rules.broken_rules(ds)) == []
    assert [answer.certainty for answer in parse_findings(ds)] == pytest.approx([0.812346, 0.1, None])
    del ds.PertinentOtherEvidenceSequence
    assert any(then.SOPInstanceUID in mistake for mistake in content_rules.broken_rules(ds))


def test_the_codes_of_a_change_are_of_the_standard_s_context_groups() -> None:
    from pydicom.sr._concepts_dict import concepts

    groups = [(value, *said) for entry in concepts["SCT"].values() for value, said in entry.items()]
    for change, group in ((Change.UNCHANGED, 6134), (Change.NEW, 6002)):
        code = codes.CHANGES[change]
        assert any(
            (code.value, code.meaning) == (value, meaning) and group in members
            for value, meaning, members in groups
        )


def test_a_prior_has_images_or_a_reason() -> None:
    with pytest.raises(ValueError, match="reason why there are none"):
        PriorComparison()
