"""Text that a model may read beside the films, and text that it never may."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.imaging import clinical_text
from dicom_node.results.encoding.part10 import dataset


def test_what_was_asked_is_read_from_the_header_and_from_the_request() -> None:
    header = dataset(
        AdditionalPatientHistory="Smoker,\r\n 40 pack years",
        RequestAttributesSequence=[
            dataset(
                ReasonForTheRequestedProcedure="Shortness of breath.",
                ReasonForRequestedProcedureCodeSequence=[
                    dataset(CodeValue="29857009", CodingSchemeDesignator="SCT", CodeMeaning="Chest pain")
                ],
            )
        ],
    )
    assert clinical_text.indication([header]) == "Smoker, 40 pack years. Shortness of breath. Chest pain."


def test_what_two_films_say_alike_is_said_once() -> None:
    first, second = dataset(AdditionalPatientHistory="Cough"), dataset(AdditionalPatientHistory="COUGH")
    assert clinical_text.indication([first, second]) == "Cough."


def test_what_was_said_after_the_films_were_read_is_not_handed_on() -> None:
    header = dataset(
        ImageComments="cardiomegaly", StudyComments="no acute disease", SeriesDescription="chest",
        PatientComments="pneumonia", InterpretationText="effusion",
    )  # fmt: skip
    assert clinical_text.indication([header]) is None


def test_a_header_without_an_indication_or_with_a_damaged_one_has_none() -> None:
    damaged = Dataset()
    damaged.RequestAttributesSequence = Sequence([Dataset()])
    assert clinical_text.indication([]) is None
    assert clinical_text.indication([Dataset(), damaged, dataset(AdditionalPatientHistory=" \0")]) is None
