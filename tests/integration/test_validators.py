"""What programs of others say of our results: dicom3tools, DCMTK and PixelMed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.pixels import read_film
from dicom_node.results.document import SOP_CLASSES
from dicom_node.results.encoding import encoded
from dicom_node.results.report import Presence, Refusal, Report
from dicom_node.results.sc import write_sc
from dicom_node.results.sr import write_sr
from dicom_node.results.validation import dciodvfy
from tests.factories import film, openi_film, openi_headers, write
from tests.unit.results.cases import (
    EFFUSION,
    EQUIPMENT,
    SOURCES,
    finding,
    report_of,
    saliency_of,
)

pytestmark = pytest.mark.peer

# The root 9999 does not exist, but the study is found by these UIDs and by no others.
FOREIGN_UIDS = "UIDs of no registered root"


def objects(path: Path) -> dict[str, bytes]:
    """All kinds of results of one film, encoded."""
    read = read_film(path, max_pixels=10**7)
    report = report_of(read.header)
    one = report.findings[0]
    refused = report_of(read.header, refusal=Refusal("blank", "the picture is blank"))
    return {
        "sr": encoded(write_sr(report, equipment=EQUIPMENT)),
        "refusal": encoded(write_sr(refused, equipment=EQUIPMENT)),
        "sc": encoded(write_sc(report, one, one.saliency[0], read.pixels, equipment=EQUIPMENT)),
    }


def errors(data: bytes, path: Path) -> list[str]:
    path.write_bytes(data)
    return dciodvfy(path)


def tool(*command: str | Path) -> str:
    assert shutil.which(str(command[0])), f"{command[0]} is missing"
    ended = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stdout.decode("utf-8", errors="replace")


@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error_whatever_the_source(name: str, tmp_path: Path) -> None:
    source = write(SOURCES[name](), tmp_path / "film.dcm")
    for kind, data in objects(source).items():
        found = errors(data, tmp_path / f"{kind}.dcm")
        if name == FOREIGN_UIDS:
            assert found
            found = [
                line
                for line in found
                if not (line.startswith("Error - Illegal root for UID") and '"9999.' in line)
            ]
        assert found == [], kind


def test_dciodvfy_does_find_errors(tmp_path: Path) -> None:
    path = write(film(PatientAge="62", StudyDate="20240229101112345"), tmp_path / "film.dcm")
    assert any("Age" in line for line in dciodvfy(path))


@pytest.mark.parametrize("sop_class", SOP_CLASSES)
def test_dciodvfy_accepts_every_class_of_report(sop_class: str, tmp_path: Path) -> None:
    one, other = film(rows=96, columns=80), film(rows=96, columns=80, instance=2, view="LL")
    report = report_of(one, excluded=[(other, "the picture is blank")])
    data = encoded(write_sr(report, equipment=EQUIPMENT, sop_class=sop_class))
    assert errors(data, tmp_path / "sr.dcm") == []


@pytest.mark.films
def test_dciodvfy_accepts_the_results_of_every_real_film(films_root: Path, tmp_path: Path) -> None:
    for path in sorted((films_root / "dicom").glob("*.dcm")):
        for kind, data in objects(path).items():
            assert errors(data, tmp_path / f"{kind}.dcm") == [], (path.name, kind)


@pytest.mark.films
def test_dciodvfy_accepts_the_results_of_each_kind_of_open_i_header(films_root: Path, tmp_path: Path) -> None:
    facts = (
        "Photometric Interpretation", "Bits Stored", "Specific Character Set", "Modality", "SOP Class UID",
        "Presentation LUT Shape",
    )  # fmt: skip
    kinds = {tuple(row[fact] for fact in facts): name for name, row in openi_headers(films_root).items()}
    assert len(kinds) >= 12
    for kind, name in kinds.items():
        row = openi_headers(films_root)[name]
        image = films_root / "openi" / "images" / name
        if not image.exists():
            image = next((films_root / "openi" / "images").glob("*.jpg"))
        source = write(openi_film(row, image, longer_side=96), tmp_path / "film.dcm")
        for what, data in objects(source).items():
            found = [line for line in errors(data, tmp_path / "x.dcm") if '"9999.' not in line]
            assert found == [], (kind, what)


@pytest.mark.parametrize("name", ["plain CR", "Cyrillic, ISO_IR 144", "Cyrillic, UTF-8", "Chinese, GB18030"])
def test_dcmtk_shows_the_report_and_the_patient_s_own_name(name: str, tmp_path: Path) -> None:
    ds = SOURCES[name]()
    report = tmp_path / "sr.dcm"
    report.write_bytes(objects(write(ds, tmp_path / "film.dcm"))["sr"])
    shown = tool("dsrdump", "+U8", report)
    assert "Comprehensive 3D SR Document" in shown
    assert 'CODE:(,,"Finding")=(8186001,SCT,"Cardiomegaly")' in shown
    assert 'NUM:(,,"Certainty of Finding")="81.2346" (%,UCUM,"Percent")' in shown
    assert "Preliminary Flag    : PRELIMINARY" in shown
    assert str(ds.PatientName).split("=")[0].split("^")[0] in shown


def test_dcmtk_finds_our_secondary_capture_readable(tmp_path: Path) -> None:
    path = tmp_path / "sc.dcm"
    path.write_bytes(objects(write(film(rows=96, columns=80), tmp_path / "film.dcm"))["sc"])
    tool("dcm2pnm", path, tmp_path / "sc.ppm")
    ds = dcmread(path)
    assert (tmp_path / "sc.ppm").read_bytes().startswith(f"P6\n{ds.Columns} {ds.Rows}\n255\n".encode())


def _regions(count: int) -> Report:
    ds = film(rows=96, columns=80)
    hot = [saliency_of(ds)]
    labels = [finding(f"label{n}", presence=Presence.PRESENT, saliency=hot) for n in range(count)]
    labels.append(finding("effusion", "Effusion", code=EFFUSION, presence=Presence.ABSENT))
    return report_of(ds, findings=labels)


# One region beside groups without is left out: PixelMed of 2022 then holds every group to be of TID 1410.
@pytest.mark.parametrize(
    "report",
    [_regions(0), _regions(2), report_of(film(rows=96, columns=80), refusal=Refusal("blank", "it is blank"))],
    ids=["no region", "two regions", "refusal"],
)
@pytest.mark.timeout(600)
def test_pixelmed_finds_no_error_against_the_templates(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(encoded(write_sr(report, equipment=EQUIPMENT)))
    jars = ":".join(map(str, sorted(Path("/usr/share/java").glob("*.jar"))))
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
    ended = subprocess.run(
        ["java", *limits, "-cp", jars, "com.pixelmed.validate.DicomSRValidator", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = (ended.stdout + ended.stderr).splitlines()
    assert "Found Root Template TID_1500 (MeasurementReport)" in said, ended.stderr[-2000:]
    assert [line for line in said if line.startswith("Error")] == []
