"""Films to send, and how to look at what comes back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from tests.support import factories

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SC = "1.2.840.10008.5.1.4.1.1.7"


def films(folder: Path, count: int, prefix: str = "e2e", **elements: object) -> list[Path]:
    """Write synthetic films, each its own study."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        factories.write(
            factories.film(study=f"{prefix}-{n}", series=f"{prefix}-{n}", seed=n, **elements),  # type: ignore[arg-type]
            folder / f"{prefix}-{n}.dcm",
        )
        for n in range(count)
    ]


def openi_films(films_root: Path, folder: Path, count: int) -> list[Path]:
    """Write Open-i films of as many patients, every other one MONOCHROME1, in their original headers."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = factories.openi_headers(films_root)
    chosen: list[tuple[Mapping[str, str], Path]] = []
    patients: set[str] = set()
    wanted = {"MONOCHROME1": count // 2, "MONOCHROME2": count - count // 2}
    for image in sorted((films_root / "openi" / "images").iterdir()):
        row = headers.get(image.name)
        patient = image.stem.split("_")[0]
        if row is None or patient in patients or not wanted.get(row["Photometric Interpretation"]):
            continue
        wanted[row["Photometric Interpretation"]] -= 1
        patients.add(patient)
        chosen.append((row, image))
        if not any(wanted.values()):
            break
    assert len(chosen) == count
    return [
        factories.write(factories.openi_film(row, image), folder / f"{image.stem}.dcm")
        for row, image in chosen
    ]


def storescu(
    port: int, paths: Sequence[Path], called: str = "DICOM_NODE"
) -> subprocess.CompletedProcess[str]:
    """Send with DCMTK, each transfer syntax as it is."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        syntax = dcmread(path, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID", "")
        groups.setdefault(_PROPOSE.get(str(syntax), ""), []).append(str(path))
    code, output = 0, ""
    for option, group in groups.items():
        options = [option] if option else []
        argv = ["storescu", "-v", *options, "-aec", called, "127.0.0.1", str(port), *group]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        code, output = max(code, done.returncode), output + done.stdout + done.stderr
    return subprocess.CompletedProcess(["storescu"], code, output, "")


_PROPOSE = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.5": "-xr",
}


def by_study(paths: Sequence[Path]) -> dict[str, list[Dataset]]:
    """Read objects, by Study Instance UID."""
    found: dict[str, list[Dataset]] = {}
    for path in paths:
        ds = dcmread(path, force=True)  # one real film was stored without file meta information
        found.setdefault(str(ds.StudyInstanceUID), []).append(ds)
    return found


def scores(sr: Dataset) -> dict[str, float]:
    """Certainty or score of each label of a findings SR, by tracking identifier."""
    found: dict[str, float] = {}
    for item in _groups(sr):
        key = next((c.TextValue for c in item.ContentSequence if _is(c, "112039")), "")
        for content in item.ContentSequence:
            if _is(content, "111012") or _is(content, "SCORE"):
                found[key] = float(content.MeasuredValueSequence[0].NumericValue)
    return found


def _groups(item: Dataset) -> list[Dataset]:
    found = []
    for content in item.get("ContentSequence", []):
        found += [content] if _is(content, "125007") else _groups(content)
    return found


def _is(item: Dataset, value: str) -> bool:
    names = item.get("ConceptNameCodeSequence", [])
    return bool(names) and names[0].get("CodeValue") == value


def text_of(sr: Dataset) -> str:
    """All text of an SR."""
    words = [str(sr.get("TextValue", ""))]
    words += [text_of(item) for item in sr.get("ContentSequence", [])]
    return "\n".join(word for word in words if word)


def dciodvfy(path: Path) -> list[str]:
    """Errors that dciodvfy finds."""
    program = shutil.which("dciodvfy") or str(Path(sys.executable).parent / "dciodvfy")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def picture(sc: Dataset) -> Image.Image:
    """Return a Secondary Capture as a picture."""
    return Image.fromarray(sc.pixel_array)


@pytest.fixture
def cr_films() -> list[Path]:
    """The real CR film of pydicom-data, uncompressed and JPEG 2000."""
    from pydicom.data import get_testdata_file

    return [Path(str(get_testdata_file(name, download=False))) for name in ("RG1_UNCR.dcm", "RG1_J2KR.dcm")]
