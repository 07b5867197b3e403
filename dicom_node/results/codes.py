"""Codes of reports that belong to no label: titles, units, relations and reasons (PS3.16).

Codes of the labels are in the models' vocabulary and come with each finding. A code that no terminology
has is one of ours, declared in every object by the Coding Scheme Identification Sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.results.report import Change, Code, Presence

PRIVATE_SCHEME: Final = "99CXRNODE"
PRIVATE_SCHEME_UID: Final = "2.25.288512127120416403236137412243317211853"
PRIVATE_SCHEME_NAME: Final = "dicom-node chest radiograph codes"

RESEARCH_USE_ONLY: Final = "RESEARCH USE ONLY"
INTENDED_USE: Final = (
    "RESEARCH USE ONLY. Computed by a machine learning model and not reviewed by a physician. "
    "Not for diagnosis, treatment or any other clinical use."
)

FEEDBACK_USE: Final = (
    "RESEARCH USE ONLY. What a reader said of a machine learning model's answers, for research on the model. "
    "Not a report of the study, and not for diagnosis, treatment or any other clinical use."
)


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# --- TID 1500 and the templates that it includes ---------------------------------------------------

IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")
LANGUAGE = _dcm("121049", "Language of Content Item and Descendants")
ENGLISH = Code("en", "RFC5646", "English")
OBSERVER_TYPE = _dcm("121005", "Observer Type")
DEVICE = _dcm("121007", "Device")
DEVICE_UID = _dcm("121012", "Device Observer UID")
DEVICE_NAME = _dcm("121013", "Device Observer Name")
DEVICE_MANUFACTURER = _dcm("121014", "Device Observer Manufacturer")
DEVICE_MODEL = _dcm("121015", "Device Observer Model Name")
DEVICE_SERIAL = _dcm("121016", "Device Observer Serial Number")
PERSON = _dcm("121006", "Person")
PERSON_NAME = _dcm("121008", "Person Observer Name")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")
"""Procedure of CID 100, in every edition, for a source without a Procedure Code Sequence of its own."""

IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
MODALITY = _dcm("121139", "Modality")
STUDY_DATE = _dcm("111060", "Study Date")
IMAGE_VIEW = _dcm("111031", "Image View")

IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
FINDING_CATEGORY = _sct("276214006", "Finding category")
FINDING = _dcm("121071", "Finding")
FINDING_SITE = _sct("363698007", "Finding Site")
QUALIFIER = _private("QUALIFIER", "Finding qualifier")
PRESENCE = _sct("705057003", "Presence")
CERTAINTY = _dcm("111012", "Certainty of Finding")
UNCERTAINTY_ABOVE = _sct("371886008", "+, range of upper measurement uncertainty")
UNCERTAINTY_BELOW = _sct("371885007", "-, range of lower measurement uncertainty")
MODEL_SCORE = _private("SCORE", "Model score")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
SOURCE = _sct("260753009", "Source")
"""Name that other writers use for the source image; read as `SOURCE_OF_MEASUREMENT`."""
IMAGE_REGION = _dcm("111030", "Image Region")
VISUAL_EXPLANATION = _dcm("130401", "Visual explanation")
"""Concept name of a picture that shows where a model looked (TID 1410)."""
NORMALITY = _dcm("121402", "Normality")

ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
ALGORITHM_MANUFACTURER = _dcm("122405", "Algorithm Manufacturer")
ALGORITHM_FAMILY = _dcm("111000", "Algorithm Family")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")

PERCENT = Code("%", "UCUM", "Percent")
NO_UNITS = Code("1", "UCUM", "no units")

INTENDED_USE_STATEMENT = _private("RUO", "Intended use statement")
PROCESSING_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
NO_ALGORITHM_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")
REASON_NOT_ANALYSED = _private("REASON", "Reason not analysed")
EXPLANATION = _private("EXPLANATION", "Explanation")
MAP_WITHHELD = _private("WITHHELD", "Heat map withheld")
IMAGE_NOT_ANALYSED = _private("EXCLUDED", "Image not analysed")
IMAGE_REMARK = _private("REMARK", "Remark on how an image was read")

QUALITATIVE_DIFFERENCE = _dcm("111049", "Qualitative Difference")
"""Concept name of the change of a finding, with values of CID 6134 (TID 4102)."""
COMPARED_WITH_PRIOR = _dcm("122140", "Comparison with Prior Study Done")
PROCEDURE_STUDY_UID = _dcm("121018", "Procedure Study Instance UID")
"""Study that an item is about, where it is another one than the report's (TID 1005)."""
GONE = _private("GONE", "Finding no longer present")

COMMENT = _dcm("121106", "Comment")
MODEL_ANSWER = _private("ANSWER", "Presence as the model has it")
READER_VERDICT = _private("VERDICT", "Reader's verdict on the model's answer")
READER_AGREES = _private("AGREE", "Reader agrees")
READER_DISAGREES = _private("DISAGREE", "Reader disagrees")
READER_UNSURE = _private("UNSURE", "Reader is unsure")

SIMILAR_CASE = _private("SIMCASE", "Similar reference case")
SIMILAR_CASES = _private("SIMCASES", "Set of similar reference cases")
COSINE_SIMILARITY = _private("COSSIM", "Cosine similarity")
RANK = _private("RANK", "Rank by similarity")
REFERENCE_FINDING = _private("REFFINDING", "Finding of reference case")
LABEL_NAME = _private("LABEL", "Name of label")
AGREEMENT = _private("AGREEMENT", "Agreement of reference cases with model")
DISAGREES = _private("DISAGREES", "Reference cases disagree with model")
YES = _sct("373066001", "Yes")
NO = _sct("373067005", "No")

# --- key objects (TID 2010) ------------------------------------------------------------------------

FOR_RESEARCH = _dcm("113009", "For Research")
REJECTED_FOR_QUALITY = _dcm("113001", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY = _dcm("113037", "Rejected for Patient Safety Reasons")
DOCUMENT_TITLE_MODIFIER = _dcm("113011", "Document Title Modifier")
KEY_OBJECT_DESCRIPTION = _dcm("113012", "Key Object Description")
INAPPROPRIATE_PROCESSING = _dcm("111219", "Inappropriate image processing")
"""Reason beside `REJECTED_FOR_QUALITY` (CID 7011)."""

# --- images ----------------------------------------------------------------------------------------

SOURCE_IMAGE = _dcm("121322", "Source image for image processing operation")
GRADIENT_CLASS_ACTIVATION = _dcm("130403", "Gradient-weighted class activation")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")
ABNORMAL_STRUCTURE = _sct("49755003", "Morphologically Abnormal Structure")
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
QUANTITY = _sct("246205007", "Quantity")

# --- tables ----------------------------------------------------------------------------------------

PRESENCES: Final = {
    Presence.PRESENT: _sct("52101004", "Present"),
    Presence.ABSENT: _sct("272519000", "Absent"),
    Presence.UNDETERMINED: _sct("373068000", "Undetermined"),
}
"""CID 240."""

CHANGES: Final = {
    Change.NEW: _sct("129721008", "New finding"),
    Change.GONE: GONE,
    Change.UNCHANGED: _sct("129723006", "No significant changes in the finding"),
}
"""CID 6134, which may be extended: by a code of CID 6002, and by one of ours where neither has any. Those for
size and border are left alone, because a score measures neither."""

NORMALITIES: Final = {
    Presence.PRESENT: _sct("17621005", "Normal"),
    Presence.ABSENT: _sct("263654008", "Abnormal"),
    Presence.UNDETERMINED: _sct("371934000", "Normality Undetermined"),
}
"""CID 222, by whether the study is normal."""


def finding_category(finding: Code) -> Code:
    """Category of a finding: one of CID 7150, from which a Segmentation takes that of its segments."""
    return ANATOMICAL_STRUCTURE if finding == NORMALITIES[Presence.PRESENT] else ABNORMAL_STRUCTURE


VIEWS: Final = {
    "PA": _sct("272479007", "postero-anterior"),
    "AP": _sct("399348003", "antero-posterior"),
    "LL": _sct("399173006", "left lateral"),
    "RL": _sct("399198007", "right lateral"),
    "LATERAL": _sct("399067008", "lateral"),
}
"""View Position -> CID 4010."""


def is_private(scheme: str) -> bool:
    """Return whether a Coding Scheme Designator is a private or local one (PS3.16 8.2)."""
    return scheme.startswith("99")


LATERAL_VIEWS: Final = frozenset({"LL", "RL", "LATERAL"})
"""View Positions of a film that was taken from the side."""


def view_of_position(position: str) -> str:
    """Return ``frontal`` or ``lateral`` for a View Position, also such as ``PA_ERECT``; empty for another."""
    position = position.upper()
    if position in LATERAL_VIEWS or position.endswith("LATERAL"):
        return "lateral"
    return "frontal" if position.partition("_")[0] in VIEWS else ""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was not analysed.

    Attributes
    ----------
    code
        For a machine.
    sentence
        For a person who has no closer words for it.
    """

    code: Code
    sentence: str


def _reason(value: str, meaning: str, sentence: str) -> Reason:
    return Reason(_private(value, meaning), sentence)


REFUSALS: Final = {
    # of an instance, by its header
    "sop_class": _reason("NOT_A_FILM", "Not a projection radiograph", "The instance is no radiograph."),
    "modality": _reason("NOT_XRAY", "Not an X-ray modality", "The picture was not made with X-rays."),
    "body_part": _reason("NOT_CHEST", "Not a chest examination", "The header names another body part."),
    "own_result": _reason("OWN_RESULT", "Result of this software", "The instance is a result of a node."),
    "derived": _reason("DERIVED", "Derived from another image", "The picture was derived from another one."),
    "for_processing": _reason(
        "RAW",
        "For-processing image with a processed one",
        "The study holds the processed film too.",
    ),
    "duplicate": _reason("DUPLICATE", "SOP Instance UID used twice", "Another instance has the same UID."),
    "identifiers": _reason("NO_UID", "Identifiers missing", "The instance lacks a UID."),
    # of an instance, by its pixels
    "undecodable": _reason("UNDECODABLE", "Instance cannot be decoded", "The instance cannot be decoded."),
    "transfer_syntax": _reason(
        "TRANSFER_SYNTAX", "Transfer syntax not supported", "The pixels are encoded in an unsupported way."
    ),
    "no_pixels": _reason("NO_PIXELS", "No pixel data", "The instance holds no pixel data."),
    "bad_header": _reason("BAD_HEADER", "Header contradicts itself", "The header does not fit the pixels."),
    "not_grayscale": _reason("NOT_GRAY", "Not a grayscale image", "The picture is not grayscale."),
    "multi_frame": _reason("MULTI_FRAME", "More than one frame", "The instance holds more than one frame."),
    "too_large": _reason("TOO_LARGE", "More pixels than allowed", "The picture is larger than is decoded."),
    "too_small": _reason("TOO_SMALL", "Too few pixels", "The picture is too small for a radiograph."),
    "blank": _reason("BLANK", "Blank image", "The picture is blank."),
    # of an instance, by what a gate sees
    "not_chest": _reason("NOT_CHEST_VIEW", "Not a chest radiograph", "This is no chest film."),
    "inverted": _reason("INVERTED", "Grey scale inverted", "The picture is inverted against its header."),
    "rotated": _reason("ROTATED", "Not upright", "The film lies on its side or on its head."),
    "out_of_distribution": _reason(
        "UNLIKE", "Unlike the training images", "The picture is unlike those that the model was trained on."
    ),
    # of an instance, by what else the study holds
    "too_many": _reason(
        "TOO_MANY", "More films than are analysed", "The study holds more films than are analysed."
    ),
    "other_view": _reason(
        "OTHER_VIEW", "View that the model does not read", "The model reads films of another view alone."
    ),
    # of a study
    "no_model": _reason(
        "NO_MODEL", "No model reads such a study", "No model of the node reads such a study."
    ),
    "no_film": _reason("NO_FILM", "No image can be analysed", "No image of the study can be analysed."),
    "no_text": _reason("NO_TEXT", "Clinical text missing", "The model needs a clinical text."),
    "model_failed": _reason(
        "MODEL_FAILED", "Model gave no usable answer", "The model gave no usable answer."
    ),
    "result_failed": _reason(
        "RESULT_FAILED", "Result cannot be written", "The result cannot be written as valid DICOM."
    ),
    "files_lost": _reason(
        "FILES_LOST", "Received files are lost", "Files of the study that were received are lost."
    ),
    "films_purged": _reason(
        "FILMS_PURGED", "Earlier films were purged", "Films of the study were purged by a rule of retention."
    ),
    "set_aside": _reason(
        "SET_ASIDE",
        "Analysis failed repeatedly",
        "The analysis ended its process too often.",
    ),
}
"""Every reason that there is: the key that errors carry, the code that a result carries."""

GATE_REFUSALS: Final = frozenset({"not_chest", "inverted", "rotated", "out_of_distribution"})
"""Reasons that a gate gives for a picture in which there is something to read; an admin may override them."""

GATE_OVERRIDDEN: Final = "gate_refusals=overridden"
"""Algorithm parameter where films that the gate refused were read too, because an admin asked for it."""
