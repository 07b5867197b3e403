"""Codes of audit messages (PS3.16 CID 400 to 405 and annex D; PS3.15 A.5.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """Coded value: code, meaning and coding scheme."""

    value: str
    meaning: str
    scheme: str = "DCM"


# -- event IDs (CID 400)

APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", "Audit Log Used")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
EXPORT: Final = Code("110106", "Export")
IMPORT: Final = Code("110107", "Import")
QUERY: Final = Code("110112", "Query")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "User Authentication")

# -- event types (CID 401)

APPLICATION_START: Final = Code("110120", "Application Start")
APPLICATION_STOP: Final = Code("110121", "Application Stop")
LOGIN: Final = Code("110122", "Login")
LOGOUT: Final = Code("110123", "Logout")
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
SOFTWARE_CONFIGURATION: Final = Code("110131", "Software Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", "Use of Restricted Function")
AUDIT_RECORDING_STOPPED: Final = Code("110133", "Audit Recording Stopped")
USER_SECURITY_ATTRIBUTES: Final = Code("110137", "User Security Attributes Changed")

# -- roles of active participants (CID 402)

APPLICATION: Final = Code("110150", "Application")
APPLICATION_LAUNCHER: Final = Code("110151", "Application Launcher")
DESTINATION: Final = Code("110152", "Destination Role ID")
SOURCE: Final = Code("110153", "Source Role ID")
DESTINATION_MEDIA: Final = Code("110154", "Destination Media")
SOURCE_MEDIA: Final = Code("110155", "Source Media")

# -- media (CID 405)

MEDIA_URI: Final = Code("110037", "URI")

# -- types of object identifiers (CID 404; those with few digits stand in PS3.15 A.5.1.2.4)

STUDY_INSTANCE_UID: Final = Code("110180", "Study Instance UID")
SOP_CLASS_UID: Final = Code("110181", "SOP Class UID")
NODE_ID: Final = Code("110182", "Node ID")
PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")
USER_IDENTIFIER: Final = Code("11", "User Identifier", "RFC-3881")
URI: Final = Code("12", "URI", "RFC-3881")


class Action(StrEnum):
    """Event action code (PS3.15 A.5.2)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """Event outcome indicator (PS3.15 A.5.2)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class ObjectType(IntEnum):
    """Participant object type code (PS3.15 A.5.1)."""

    PERSON = 1
    SYSTEM_OBJECT = 2


class ObjectRole(IntEnum):
    """Participant object type code role (PS3.15 A.5.1.2.2)."""

    PATIENT = 1
    REPORT = 3
    SECURITY_USER_ENTITY = 11
    SECURITY_RESOURCE = 13
    QUERY = 24


class LifeCycle(IntEnum):
    """Participant object data life cycle (PS3.15 A.5.1.2.3)."""

    LOGICAL_DELETION = 14
    PERMANENT_ERASURE = 15
