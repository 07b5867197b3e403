"""No word of a patient's identity is in the bytes of what was de-identified, wherever it stood."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO

from dicom_node.imaging.deidentification import DeidentificationOptions, Retention
from dicom_node.imaging.deidentifier import Deidentifier
from dicom_node.imaging.pseudonyms import Pseudonyms
from dicom_node.results.encoding.part10 import encoded
from tests.support import factories
from tests.support.reports import report_of
from tests.support.result_objects import objects_of

words = st.text("bcdfghjkpqvwxz", min_size=6, max_size=12)
options = st.sets(st.sampled_from(sorted(set(Retention) - {Retention.UIDS})))
PLACES = (
    "PatientComments", "StudyDescription", "Manufacturer", "InstitutionName", "ImageComments", "StationName",
    "ManufacturerModelName", "SoftwareVersions", "RequestAttributesSequence", "FilterMaterial",
    "DerivationDescription", "ReferringPhysicianName", "PerformingPhysicianName", "OtherPatientNames",
    "OtherPatientIDs", "AccessionNumber", "IssuerOfPatientID", "ViewName", "LensMake", "FilterType",
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    family=words, given_name=words, identifier=words, places=st.sets(st.sampled_from(PLACES)), kept=options
)
def test_no_word_of_the_identity_is_left_in_a_film(
    family: str, given_name: str, identifier: str, places: set[str], kept: set[Retention]
) -> None:
    spoken = f"{family.title()} {given_name}, {identifier}"
    item = Dataset()
    item.ScheduledProcedureStepDescription, item.CodeMeaning = spoken, spoken
    item.add(DataElement(0x00111001, "LO", spoken))
    elements: dict[str, object] = {
        place: [item] if place.endswith("Sequence") else spoken[:16] for place in places
    }
    ds = factories.film(
        rows=64,
        columns=64,
        patient_name=f"{family}^{given_name}",
        patient_id=identifier,
        BurnedInAnnotation="NO",
        AnatomicRegionSequence=[item],
        **elements,
    )
    ds.add(DataElement(0x00091001, "UN", spoken.encode()))
    content = _deidentified([factories.encoded(ds)], kept)[0].replace(ds.PixelData, b"")
    assert not [word for word in (family, given_name, identifier) if word.encode() in content.lower()]


@settings(max_examples=4, deadline=None)
@given(family=words, identifier=words, kept=options)
def test_none_is_left_in_results_and_they_refer_to_the_film(
    family: str, identifier: str, kept: set[Retention]
) -> None:
    film = factories.film(
        rows=64, columns=64, patient_name=f"{family}^Ann", patient_id=identifier, BurnedInAnnotation="NO"
    )
    kinds = ("sr", "sc", "ko", "seg", "pr", "pm")
    files = [encoded(ds) for _, ds in objects_of(report_of(film), kinds)]
    done = _deidentified([factories.encoded(film), *files], kept)
    out = [dcmread(DicomBytesIO(content)) for content in done]
    own = {str(ds.SOPInstanceUID) for ds in out}
    for content, ds in zip(done, out, strict=True):
        pixels = ds.get("PixelData", b"")
        text = content.replace(pixels, b"") if pixels else content
        assert family.encode() not in text.lower()
        assert identifier.encode() not in text.lower()
        assert ds is out[0] or ds.SeriesDescription == "RESEARCH USE ONLY"
        assert (ds.StudyInstanceUID, ds.PatientID) == (out[0].StudyInstanceUID, out[0].PatientID)
        for uid in (film.SOPInstanceUID, film.StudyInstanceUID, film.SeriesInstanceUID):
            assert uid.encode() not in text
        assert {str(e.value) for e in ds.iterall() if e.keyword == "ReferencedSOPInstanceUID"} <= own


def _deidentified(files: list[bytes], kept: set[Retention]) -> list[bytes]:
    deidentifier = Deidentifier(Pseudonyms(b"p" * 32), DeidentificationOptions(frozenset(kept)))
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, content in enumerate(files):
            path = Path(folder, f"{number}.dcm")
            path.write_bytes(content)
            found.append(deidentifier.file(path).content)
        return found
