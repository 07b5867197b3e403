"""FHIR R4 resources of what readers say: a Bundle of DiagnosticReports and their Observations.

Studies go by the hash that the CSV exports have and patients by nothing, so no resource has a subject.
Sources: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/observation.html and diagnosticreport.html.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from dicom_node.results import codes
from dicom_node.results.report import Code, Presence
from dicom_node.web.templating import iso

MEDIA_TYPE: Final = "application/fhir+json"

Json: TypeAlias = dict[str, Any]

_NAMESPACE: Final = uuid.UUID("0d7c4f0e-51c3-4b57-9a55-3d8f2a8d6b10")
_STUDIES: Final = "urn:uuid:7f0c6c0f-6f6f-4c4f-8f8e-4f6b2d1f9a01"
"""System of the study hashes."""
_READERS: Final = "urn:uuid:7f0c6c0f-6f6f-4c4f-8f8e-4f6b2d1f9a02"
"""System of the names of accounts."""
_SYSTEMS: Final[Mapping[str, str]] = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    codes.PRIVATE_SCHEME: f"urn:oid:{codes.PRIVATE_SCHEME_UID}",
}
"""URI of each coding scheme (PS3.16 table 8-1)."""
_META: Final[Json] = {
    "security": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "HRESCH",
            "display": "healthcare research",
        }
    ],
    "tag": [{"display": codes.RESEARCH_USE_ONLY}],
}
_IMAGING: Final[Json] = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "imaging",
            "display": "Imaging",
        }
    ]
}
_RADIOLOGY: Final[Json] = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
    ]
}
_REPORT_CODE: Final[Json] = {
    "coding": [{"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}]
}
_UNKNOWN: Final[Json] = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "unknown",
            "display": "Unknown",
        }
    ]
}


@dataclass(frozen=True, slots=True)
class Statement:
    """Statement of a reader on one finding; `at` in seconds since the epoch.

    Attributes
    ----------
    code
        Code of the finding in the vocabulary of the model; None when it is not known here.
    presence
        Presence that the reader states; None when they state none.
    comment
        Free text; empty for none.
    facts
        Further facts by name, such as the reader's confidence and the model's answer: text, number or code.
        A fact whose value is None is left out.
    """

    key: str
    name: str
    code: Code | None
    presence: Presence | None
    at: float
    comment: str = ""
    facts: Mapping[str, str | float | Code | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadReport:
    """All statements of one reader on one study in one reading.

    Attributes
    ----------
    study
        Hash of the Study Instance UID.
    occasion
        Name of the reading that tells it from the reader's others of the study.
    statements
        At least one.
    """

    study: str
    reader: str
    occasion: str
    statements: Sequence[Statement]


def write_bundle(reports: Iterable[ReadReport], *, title: str, written_at: float) -> Json:
    """Return a Bundle of type ``collection``: each report, and after it its observations.

    Parameters
    ----------
    title
        Name of the export, from which the identifier of the bundle follows.
    written_at
        Time of the export, in seconds since the epoch.
    """
    entries: list[Json] = []
    for report in reports:
        observations = [_observation(report, each) for each in report.statements]
        resources = [_diagnostic_report(report, observations), *observations]
        entries += [{"fullUrl": f"urn:uuid:{each['id']}", "resource": each} for each in resources]
    return {
        "resourceType": "Bundle",
        "id": _identifier("bundle", title, iso(written_at)),
        "meta": _META,
        "type": "collection",
        "timestamp": iso(written_at),
        **({"entry": entries} if entries else {}),  # no array of FHIR is empty
    }


def _identifier(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))


def _diagnostic_report(report: ReadReport, observations: Sequence[Json]) -> Json:
    latest = iso(max(each.at for each in report.statements))
    return {
        "resourceType": "DiagnosticReport",
        "id": _identifier("report", report.study, report.reader, report.occasion),
        "meta": _META,
        "status": "preliminary",
        "category": [_RADIOLOGY],
        "code": {**_REPORT_CODE, "text": report.occasion},
        "effectiveDateTime": latest,
        "issued": latest,
        "performer": [_performer(report.reader)],
        "imagingStudy": [_study(report.study)],
        "result": [{"reference": f"urn:uuid:{each['id']}", "type": "Observation"} for each in observations],
        "conclusion": codes.FEEDBACK_USE,
    }


def _observation(report: ReadReport, said: Statement) -> Json:
    stated = {"valueCodeableConcept": concept(codes.PRESENCES[said.presence])} if said.presence else None
    components = [
        {"code": {"text": name}, **_value(value)} for name, value in said.facts.items() if value is not None
    ]
    return {
        "resourceType": "Observation",
        "id": _identifier("observation", report.study, report.reader, report.occasion, said.key),
        "meta": _META,
        "status": "preliminary",
        "category": [_IMAGING],
        "code": concept(said.code, said.name),
        "effectiveDateTime": iso(said.at),
        "issued": iso(said.at),
        "performer": [_performer(report.reader)],
        "derivedFrom": [_study(report.study)],
        **(stated or {"dataAbsentReason": _UNKNOWN}),
        **({"note": [{"text": said.comment}]} if said.comment else {}),
        **({"component": components} if components else {}),
    }


def concept(code: Code | None, text: str = "") -> Json:
    """Return a CodeableConcept; without a coding where there is no code."""
    shown: Json = {"text": text or (code.meaning if code else "unknown")}
    if code is None:
        return shown
    system = _SYSTEMS.get(code.scheme)
    coding = {"code": code.value, "display": code.meaning}
    return {"coding": [{"system": system, **coding} if system else coding], **shown}


def _value(value: str | float | Code) -> Json:
    if isinstance(value, Code):
        return {"valueCodeableConcept": concept(value)}
    if isinstance(value, str):
        return {"valueString": value}
    return {
        "valueQuantity": {"value": value, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
    }


def _performer(reader: str) -> Json:
    return {"type": "Practitioner", "identifier": {"system": _READERS, "value": reader}, "display": reader}


def _study(digest: str) -> Json:
    return {"type": "ImagingStudy", "identifier": {"system": _STUDIES, "value": digest}}
