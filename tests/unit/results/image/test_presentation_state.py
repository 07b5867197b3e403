"""The presentation state shows the film as it shows itself, with boxes around what is present."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.errors import EncodingFailed
from dicom_node.results.image.multiframe import film_maps
from dicom_node.results.image.parametric_map import write_pm
from dicom_node.results.image.presentation_state import write_gsps
from dicom_node.results.image.segmentation import write_seg
from dicom_node.results.report import Presence
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import check_result
from tests.support.factories import film, put
from tests.support.reports import EQUIPMENT, finding, report_of, saliency_of


def state(ds: Dataset, **options: object) -> Dataset | None:
    report = report_of(ds, **options)
    (maps,) = film_maps(report)
    return write_gsps(report, maps, equipment=EQUIPMENT)


def shown_whole(found: Dataset) -> bool:
    """Whether a state shows stored values as they are, from the least of 12 bits to the greatest."""
    (voi,) = found.SoftcopyVOILUTSequence
    values = (found.RescaleSlope, found.RescaleIntercept, voi.WindowCenter, voi.WindowWidth)
    return tuple(map(float, values)) == (1, 0, 2048, 4096)


def test_window_rescale_and_polarity_are_repeated() -> None:
    ds = film(
        rows=96,
        columns=80,
        photometric="MONOCHROME1",
        window=(2000, 3000),
        RescaleSlope="2",
        RescaleIntercept="-5",
    )
    found = state(ds)
    assert found is not None
    assert (found.SoftcopyVOILUTSequence[0].WindowCenter, found.SoftcopyVOILUTSequence[0].WindowWidth) == (
        2000,
        3000,
    )
    assert (found.RescaleSlope, found.RescaleIntercept) == (2, -5)
    assert found.PresentationLUTShape == "INVERSE"


@pytest.mark.parametrize(
    "elements",
    [{"RescaleSlope": "0", "RescaleIntercept": "0"}, {"RescaleSlope": "x", "RescaleIntercept": "1"}],
)
def test_what_cannot_be_used_is_left_out(elements: dict[str, str]) -> None:
    found = state(film(rows=96, columns=80, WindowCenter="x", WindowWidth="0", **elements))
    assert found is not None
    assert shown_whole(found)
    assert found.PresentationLUTShape == "IDENTITY"


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": "inf", "RescaleIntercept": "0"},
        {"RescaleSlope": "1", "RescaleIntercept": "-inf"},
        {"RescaleSlope": "nan", "RescaleIntercept": "0"},
        {"WindowCenter": "inf", "WindowWidth": "5"},
        {"WindowCenter": "5", "WindowWidth": "inf"},
        {"WindowCenter": "nan", "WindowWidth": "5"},
    ],
)
def test_a_number_without_end_is_left_out(elements: dict[str, str]) -> None:
    found = state(film(rows=96, columns=80, **elements))
    assert found is not None
    assert shown_whole(found)


def test_a_name_longer_than_its_element_is_cut_in_every_image() -> None:
    ds = film(rows=96, columns=80)
    report = report_of(ds, findings=[finding("long", "N" * 70, saliency=[saliency_of(ds)])])
    (maps,) = film_maps(report)
    for write in (write_gsps, write_seg, write_pm):
        check_result(write(report, maps, equipment=EQUIPMENT))


def test_a_size_that_the_header_says_twice_is_read_once() -> None:
    ds = film(rows=96, columns=80)
    report = report_of(ds)
    put(report.sources[0].header, {"Rows": [96, 96], "Columns": [80, 80]})
    (maps,) = film_maps(report)
    for write in (write_gsps, write_seg, write_pm):
        written = write(report, maps, equipment=EQUIPMENT)
        assert written is not None
        check_result(written)
    check_result(write_sr(report, equipment=EQUIPMENT))


def test_an_absent_finding_has_no_box() -> None:
    ds = film(rows=96, columns=80)
    assert state(ds, findings=[finding(presence=Presence.ABSENT, saliency=[saliency_of(ds)])]) is None


def test_each_film_has_its_own_objects() -> None:
    one, other = film(rows=96, columns=80), film(rows=90, columns=100, instance=2, view="LL")
    hot = [finding(saliency=[saliency_of(one), saliency_of(other)])]
    report = report_of(one, other, findings=hot)
    for write in (write_gsps, write_seg, write_pm):
        written = [write(report, maps, equipment=EQUIPMENT) for maps in film_maps(report)]
        assert [ds.InstanceNumber for ds in written] == [1, 2]
        assert len({ds.SeriesInstanceUID for ds in written}) == 1
        assert len({ds.SOPInstanceUID for ds in written}) == 2


@pytest.mark.parametrize(
    ("orientation", "cosines"),
    [
        (["L", "F"], [1, 0, 0, 0, 0, -1]),
        (["P", "F"], [0, 1, 0, 0, 0, -1]),
        (["L", "R"], [1, 0, 0, 0, 0, -1]),
        (None, [1, 0, 0, 0, 0, -1]),
    ],
)
def test_the_plane_of_a_map_lies_along_patient_orientation(
    orientation: list[str] | None, cosines: list[int]
) -> None:
    ds = film(rows=96, columns=80, PatientOrientation=orientation, ImagerPixelSpacing=["0.15", "0.14"])
    report = report_of(ds)
    (maps,) = film_maps(report)
    shared = write_pm(report, maps, equipment=EQUIPMENT).SharedFunctionalGroupsSequence[0]
    assert list(map(int, shared.PlaneOrientationSequence[0].ImageOrientationPatient)) == cosines
    assert list(map(float, shared.PixelMeasuresSequence[0].PixelSpacing)) == [0.15, 0.14]


def test_segments_are_the_map_in_255_steps() -> None:
    ds = film(rows=96, columns=80)
    report = report_of(ds)
    (maps,) = film_maps(report)
    written = write_seg(report, maps, equipment=EQUIPMENT)
    values = report.findings[0].saliency[0].values
    assert written.PixelData == (values * 255).round().astype("u1").tobytes()
    twice = replace(
        report, findings=(*report.findings, finding("x", "X", saliency=[saliency_of(ds, row=0.2)]))
    )
    (both,) = film_maps(twice)
    assert len(write_seg(twice, both, equipment=EQUIPMENT).SegmentSequence) == 2


def test_a_film_that_nobody_read_has_no_state() -> None:
    report = report_of(film(rows=96, columns=80))
    unread = replace(report, sources=(replace(report.sources[0], grey=None),))
    (maps,) = film_maps(unread)
    with pytest.raises(EncodingFailed, match="grey transform"):
        write_gsps(unread, maps, equipment=EQUIPMENT)


SHUTTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rectangle": (
        {
            "ShutterShape": "RECTANGULAR",
            "ShutterLeftVerticalEdge": "10.4",
            "ShutterRightVerticalEdge": "70",
            "ShutterUpperHorizontalEdge": "5",
            "ShutterLowerHorizontalEdge": "90",
            "CollimatorShape": "RECTANGULAR",
            "CollimatorLeftVerticalEdge": "1",
            "CollimatorRightVerticalEdge": "60.5",
            "CollimatorUpperHorizontalEdge": "1",
            "CollimatorLowerHorizontalEdge": "96",
        },
        {
            "ShutterShape": "RECTANGULAR",
            "ShutterLeftVerticalEdge": 11,
            "ShutterRightVerticalEdge": 60,
            "ShutterUpperHorizontalEdge": 5,
            "ShutterLowerHorizontalEdge": 90,
        },
    ),
    "circles": (
        {
            "ShutterShape": "CIRCULAR",
            "CenterOfCircularShutter": ["50", "40"],
            "RadiusOfCircularShutter": "45",
            "CollimatorShape": "CIRCULAR",
            "CenterOfCircularCollimator": ["48", "41"],
            "RadiusOfCircularCollimator": "30",
        },
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [48, 41], "RadiusOfCircularShutter": 30},
    ),
    "polygon": (
        {
            "CollimatorShape": "POLYGONAL",
            "VerticesOfThePolygonalCollimator": ["5", "5", "5", "70", "90", "40"],
        },
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [5, 5, 5, 70, 90, 40]},
    ),
    "one that leaves nothing": (
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": ["1", "1"], "RadiusOfCircularShutter": "3"},
        {},
    ),
}  # fmt: skip


def plain(value: object) -> object:
    """Text as it is, numbers as integers."""
    if isinstance(value, str) and not value.isdigit():
        return value
    numbers = value if isinstance(value, list | MultiValue) else [value]
    whole = [str(number) if str(number).isalpha() else int(number) for number in numbers]
    return whole if len(whole) > 1 else whole[0]


@pytest.mark.parametrize("name", SHUTTERS)
def test_the_shutter_is_what_the_model_did_not_see_beyond(name: str) -> None:
    elements, expected = SHUTTERS[name]
    found = state(film(rows=96, columns=80, **elements))
    assert found is not None
    written = {each.keyword: each.value for each in found if "Shutter" in each.keyword}
    assert written.pop("ShutterPresentationValue", None) == (0 if expected else None)
    assert {keyword: plain(value) for keyword, value in written.items()} == expected


def test_segments_and_maps_keep_the_shape_of_the_pixels() -> None:
    shapes: list[dict[str, Any]] = [{"PixelAspectRatio": ["2", "1"]}, {"PixelSpacing": ["0.4", "0.2"]}]
    for elements in shapes:
        ds = film(rows=96, columns=80, **elements)
        report = report_of(ds)
        (maps,) = film_maps(report)
        assert list(map(int, write_seg(report, maps, equipment=EQUIPMENT).PixelAspectRatio)) == [2, 1]
        (measures,) = (
            write_pm(report, maps, equipment=EQUIPMENT)
            .SharedFunctionalGroupsSequence[0]
            .PixelMeasuresSequence
        )
        down, across = map(float, measures.PixelSpacing)
        assert down == 2 * across
    square = report_of(film(rows=96, columns=80, PixelSpacing=["0.143", "0.1431"]))
    (maps,) = film_maps(square)
    assert "PixelAspectRatio" not in write_seg(square, maps, equipment=EQUIPMENT)
