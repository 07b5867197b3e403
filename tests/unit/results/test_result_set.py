"""One report as all objects that the settings ask for, from headers as they are met."""

from __future__ import annotations

import datetime as dt
import io
import threading
from dataclasses import replace

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_film
from dicom_node.results import codes
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.image.segmentation import write_seg
from dicom_node.results.report import Refusal, Report
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from dicom_node.results.validation import find_mistakes
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, SIMILAR, finding, report_of, saliency_of
from tests.support.result_objects import KINDS, objects_of
from tests.support.source_headers import OPENI, SOURCES
from tests.support.sr_content import child, children, measurement_groups, value_of


@pytest.fixture
def report() -> Report:
    return report_of(film(rows=96, columns=80), similar=SIMILAR)


@pytest.mark.parametrize("name", SOURCES)
def test_every_object_can_be_made_from_any_header(name: str) -> None:
    objects = objects_of(report_of(SOURCES[name](), similar=SIMILAR))
    assert {kind for kind, _ in objects} == set(KINDS)
    for kind, ds in objects:
        again = dcmread(io.BytesIO(encoded(ds)))
        assert attributes.whole_text(again, "PatientName") == attributes.whole_text(ds, "PatientName"), kind
        assert again.get("SpecificCharacterSet") == ds.get("SpecificCharacterSet"), kind
        plain = io.BytesIO()
        with attributes.tolerance():
            dcmwrite(plain, ds, enforce_file_format=True)
        assert encoded(ds)[128:] == plain.getvalue()[128:], kind


def test_the_headers_are_those_of_the_whole_collection() -> None:
    assert sum(row[0] for row in OPENI) == 7469
    assert len(SOURCES) >= 30


def test_objects_come_once_in_order_and_the_key_objects_name_all_others(report: Report) -> None:
    objects = objects_of(report)
    kinds = [kind for kind, _ in objects]
    assert kinds[0] == "sr"
    assert kinds[-1] == "ko"
    uids = [str(ds.SOPInstanceUID) for _, ds in objects]
    assert len(set(uids)) == len(uids)
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in objects[-1][1].ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert named == {*uids[:-1], report.sources[0].sop_instance_uid}
    series = {(ds.SeriesNumber, ds.SeriesInstanceUID) for _, ds in objects}
    assert sorted(number for number, _ in series) == [9901, 9902, 9903, 9904, 9905, 9906, 9907, 9908]


def test_a_reader_that_makes_fhir_of_it_finds_what_it_maps(report: Report) -> None:
    # HL7's guide "DICOM SR to FHIR Resource Mapping", Imaging Measurement Group.
    objects = objects_of(report, ("sr", "sc", "pm", "seg"))
    captures = {str(ds.SOPInstanceUID): ds for kind, ds in objects if kind == "sc"}
    sr = objects[0][1]
    groups = measurement_groups(sr)
    assert len({group.ObservationUID for group in groups}) == len(groups) == len(report.findings)
    for group, said in zip(groups, report.findings, strict=True):
        assert dt.datetime.strptime(group.ObservationDateTime, "%Y%m%d%H%M%S.%f%z") == report.created
        assert value_of(child(group, codes.FINDING_CATEGORY)) == "49755003"
        explained = children(group, codes.VISUAL_EXPLANATION)
        assert len(explained) == len(said.saliency)
        for item in explained:
            assert (item.RelationshipType, item.ValueType) == ("CONTAINS", "IMAGE")
            (reference,) = item.ReferencedSOPSequence
            picture = captures[reference.ReferencedSOPInstanceUID]
            assert reference.ReferencedSOPClassUID == picture.SOPClassUID
            assert said.name in picture.DerivationDescription
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID: series.SeriesInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {
        report.sources[0].sop_instance_uid: report.sources[0].header.SeriesInstanceUID,
        **{uid: ds.SeriesInstanceUID for uid, ds in captures.items()},
    }


@pytest.mark.parametrize(
    ("kinds", "kind", "part"),
    [
        (("sr", "pm", "seg"), "pm", "ReferencedFrameNumber"),
        (("sr", "seg"), "seg", "ReferencedSegmentNumber"),
    ],
)
def test_without_secondary_captures_a_map_explains_its_finding(
    kinds: tuple[str, ...], kind: str, part: str
) -> None:
    one, other = film(rows=96, columns=80), film(rows=90, columns=100, instance=2, view="LL")
    first = finding(saliency=[saliency_of(one), saliency_of(other)])
    second = finding("mass", "Mass", saliency=[saliency_of(other, row=0.3)])
    objects = objects_of(report_of(one, other, findings=[first, second]), kinds)
    maps = [str(ds.SOPInstanceUID) for found, ds in objects if found == kind]
    referred = [
        [
            (
                maps.index(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID),
                item.ReferencedSOPSequence[0][part].value,
            )
            for item in children(group, codes.VISUAL_EXPLANATION)
        ]
        for group in measurement_groups(objects[0][1])
    ]
    assert referred == [[(0, 1), (1, 1)], [(1, 2)]]


def test_an_overview_takes_the_place_of_the_pictures_and_explains_what_it_outlines() -> None:
    source = film(rows=96, columns=80)
    findings = [
        finding(f"f{number}", certainty=number / 10, saliency=[saliency_of(source)]) for number in range(1, 8)
    ]
    objects = objects_of(report_of(source, findings=[*findings, finding("none")]), overview=True)
    (picture,) = [ds for kind, ds in objects if kind == "sc"]
    referred = [
        [
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in children(group, codes.VISUAL_EXPLANATION)
        ]
        for group in measurement_groups(objects[0][1])
    ]
    assert referred == [[], []] + [[picture.SOPInstanceUID]] * 5 + [[]]
    others = [kind for kind, _ in objects_of(report_of(source, findings=findings)) if kind != "sc"]
    assert [kind for kind, _ in objects if kind != "sc"] == others


def test_without_heat_maps_there_is_no_overview() -> None:
    report = report_of(film(rows=96, columns=80), findings=[finding()])
    assert [kind for kind, _ in objects_of(report, ("sr", "sc"), overview=True)] == ["sr"]
    refused = report_of(film(rows=96, columns=80), refusal=Refusal("blank", "the picture is blank"))
    assert [kind for kind, _ in objects_of(refused, ("sr", "sc"), overview=True)] == ["sr"]


@pytest.mark.parametrize("withheld", ["", "it lies beside the chest"])
def test_a_finding_without_a_map_has_no_explanation(withheld: str) -> None:
    report = report_of(film(rows=96, columns=80), findings=[finding(withheld=withheld)])
    (group,) = measurement_groups(dict(objects_of(report))["sr"])
    assert not children(group, codes.VISUAL_EXPLANATION)


def test_a_report_alone_refers_to_no_picture(report: Report) -> None:
    ((_, sr),) = objects_of(report, ("sr",))
    assert not any(children(group, codes.VISUAL_EXPLANATION) for group in measurement_groups(sr))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sr"])
def test_each_is_switched_by_itself(report: Report, kind: str) -> None:
    assert {found for found, _ in objects_of(report, ("sr", kind))} == {"sr", kind}


def test_the_same_report_gives_the_same_bytes(report: Report) -> None:
    first, second = ([encoded(ds) for _, ds in objects_of(report)] for _ in range(2))
    assert first == second


def test_maps_of_films_are_written_when_every_picture_is_drawn(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both import parts of highdicom where they are first needed: at once, one meets a half-made module.
    drawn, begun = [], threading.Event()

    def picture(*args: object, **kwargs: object) -> Dataset:
        begun.wait(0.2)
        ds = write_sc(*args, **kwargs)
        drawn.append(ds)
        return ds

    def segmentation(*args: object, **kwargs: object) -> Dataset:
        begun.set()
        assert len(drawn) == 1
        return write_seg(*args, **kwargs)

    monkeypatch.setattr("dicom_node.results.result_set.write_sc", picture)
    monkeypatch.setattr("dicom_node.results.result_set.write_seg", segmentation)
    assert [kind for kind, _ in objects_of(report, ("sr", "sc", "seg"))] == ["sr", "sc", "seg"]


def test_without_similar_cases_there_is_no_report_of_them(report: Report) -> None:
    assert "similar" not in {kind for kind, _ in objects_of(replace(report, similar=None))}


def test_a_refusal_is_written_as_report_summary_and_key_objects() -> None:
    refused = report_of(film(rows=96, columns=80), refusal=Refusal("blank", "the picture is blank"))
    assert [kind for kind, _ in objects_of(refused)] == ["sr", "pdf", "ko"]


def test_both_reports_name_what_they_take_the_place_of(report: Report) -> None:
    earlier = {
        kind: Predecessor("1.2.3", "1.2.840.10008.5.1.4.1.1.88.34", f"2.25.{n}")
        for n, kind in enumerate(("sr", "similar"))
    }
    for kind, ds in objects_of(report, predecessors=earlier):
        named = [
            item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in ds.get("PredecessorDocumentsSequence", ())
        ]
        assert named == ([earlier[kind].sop_instance_uid] if kind in earlier else []), kind


def test_nothing_leaves_that_fails_its_check(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.results.document.pdf.SERIES_DESCRIPTION", "AI summary")
    with pytest.raises(EncodingFailed, match=codes.RESEARCH_USE_ONLY):
        objects_of(report)


def test_a_film_is_read_as_it_is_shown() -> None:
    # What the picture of a MONOCHROME1 film shows is what its state must show too.
    source = SOURCES["MONOCHROME1, 10 bits"]()
    assert abs(read_film(source, max_pixels=10**6).pixels - chest(96, 80)).mean() < 0.2
    state = dict(objects_of(report_of(source)))["pr"]
    assert state.PresentationLUTShape == "INVERSE"


def test_the_private_schemes_of_a_bundles_own_labels_are_declared() -> None:
    own = codes.Code("LEAD", "99MYSITE", "Pacemaker lead")
    one = report_of(film(rows=96, columns=80), findings=[finding("lead", "Pacemaker lead", code=own)])
    objects = objects_of(one)
    assert objects
    for _, ds in objects:
        schemes = ds.CodingSchemeIdentificationSequence
        assert [each.CodingSchemeDesignator for each in schemes] == ["99CXRNODE", "99MYSITE"]
        assert schemes[1].CodingSchemeName == f"labels of the model {one.algorithm.name}"
        assert not list(find_mistakes(ds, ours=True))
        del ds.CodingSchemeIdentificationSequence[1]
    assert any("99MYSITE" in each for _, ds in objects for each in find_mistakes(ds, ours=True))


def test_pictures_of_several_films_and_methods_are_what_each_is_alone() -> None:
    films = [film(rows=96, columns=80, instance=1), film(rows=80, columns=96, instance=2)]
    maps = [saliency_of(ds) for ds in films]
    maps += [replace(maps[0], method="Occlusion"), replace(maps[1], values=1 - maps[1].values)]
    named = [finding(key=f"finding_{number}", saliency=[each]) for number, each in enumerate(maps)]
    report = report_of(*films, findings=named)
    pixels = {str(ds.SOPInstanceUID): chest(ds.Rows, ds.Columns, seed=ds.Rows) for ds in films}
    drawn = [
        ds for kind, ds in write_results(report, pixels, equipment=EQUIPMENT, objects=["sc"]) if kind == "sc"
    ]
    alone = [
        write_sc(report, entry, each, pixels[each.sop_instance_uid], equipment=EQUIPMENT)
        for entry, each in zip(named, maps, strict=True)
    ]
    assert [encoded(ds) for ds in drawn] == [encoded(ds) for ds in alone]
    assert len({ds.PixelData for ds in drawn}) == len(maps)
