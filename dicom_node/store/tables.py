"""Tables of the database. Times are in seconds since the epoch.

A new database gets these tables as they stand here; ``migrations`` makes exactly the same of an older one.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()

schema_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Revision of the schema, in the layout of Alembic, which makes this table by itself."""


def _file_columns() -> tuple[Column[Any], ...]:
    """Return the columns of a row that has a file: its state, see states.FileState, and what purged it."""
    return (
        Column("file_state", String(8), nullable=False, default="KEPT", server_default="KEPT"),
        Column("purged_at", Float),  # when its purge began; empty when it is kept
        Column("purged_by", String(32), nullable=False, default="", server_default=""),  # setting that did
    )


study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("first_received_at", Float, nullable=False),  # of this revision
    Column("last_received_at", Float, nullable=False),
    Column("completed_at", Float),  # of this revision; its results carry this time
    Column("queued_at", Float),
    Column("owner", String(128)),
    Column("lease_until", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("reason", String(1024), nullable=False, default=""),
    Column("updated_at", Float, nullable=False),
    Column("pinned_at", Float),  # since when nothing of it is purged; empty when it is not pinned
    # Whether this revision reads the films that the gate refuses too.
    Column("gate_overridden", Boolean, nullable=False, default=False, server_default=false()),
    Index("study_by_state", "state", "last_received_at"),
    Index("study_by_update", "updated_at"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", Integer, nullable=False),
    Column("file", String(128), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("peer_host", String(64), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("receptions", Integer, nullable=False, default=1),
    # When its file, which had been damaged or was missing, was last replaced by the same instance sent again.
    Column("repaired_at", Float),
    # Reason why it is not analysed, see index.SetAsideReason; empty for all others.
    Column("set_aside", String(32), nullable=False, default=""),
    *_file_columns(),
    UniqueConstraint("sop_instance_uid", "digest"),
    Index("instance_by_file_state", "file_state", "received_at"),
)

result = Table(
    "result",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    # Name of the model that it is the result of; empty for a refusal, and for results of earlier versions.
    Column("model", String(64), nullable=False, default="", server_default=""),
    Column("sop_instance_uid", String(64), nullable=False, unique=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", Integer, nullable=False),
    Column("file", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("withdrawn_at", Float),
    *_file_columns(),
    Index("result_by_file_state", "file_state", "created_at"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("result_id", ForeignKey("result.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_try_at", Float, nullable=False),
    Column("owner", String(128)),
    Column("lease_until", Float),
    Column("error", String(1024), nullable=False, default=""),
    Column("updated_at", Float, nullable=False),
    Column("sent_at", Float),  # when the destination last answered Success
    # Number of times that the destination was asked, since then, whether it keeps the result.
    Column("inquiries", Integer, nullable=False, default=0, server_default="0"),
    # Way of confirmation, see states.Confirmation; empty until the state is CONFIRMED.
    Column("confirmed_by", String(16), nullable=False, default="", server_default=""),
    UniqueConstraint("result_id", "destination"),
    # DeliveryQueue.take asks ten times a second: for due deliveries, and for times that a clock that was set
    # back has left in the future.
    Index("delivery_by_state", "destination", "state", "next_try_at"),
    Index("delivery_by_change", "destination", "state", "updated_at"),
    Index("delivery_by_update", "updated_at"),
)

# -- records of analyses, see analysis_records.py

reading = Table(
    "reading",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    # 0 for the analysis that lists and pages show, then the further models, see config/served_models.py.
    Column("position", Integer, nullable=False, default=0, server_default="0"),
    Column("role", String(8), nullable=False, default="primary", server_default="primary"),
    Column("model", String(64), nullable=False),
    Column("model_version", String(32), nullable=False),
    Column("normality", String(16), nullable=False),
    Column("seconds", Float),  # time that the model took for the films; empty when none was run
    Column("content", Text, nullable=False),  # JSON: parameters, images, maps, similar cases, prior, words
    Column("maps", String(128), nullable=False, default=""),  # name of the heat map file
    *_file_columns(),  # of the heat map file
    UniqueConstraint("study_id", "revision", "position", name="reading_study_id_revision_position_key"),
    Index("reading_by_time", "created_at"),
    Index("reading_by_file_state", "file_state", "created_at"),
    Index("reading_by_maps", "maps"),
)

finding = Table(
    "finding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reading_id", ForeignKey("reading.id"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("key", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("certainty", Float),
    Column("score", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("presence", String(16), nullable=False),
    Column("low", Float),
    Column("high", Float),
    Index("finding_by_key", "key", "presence", "reading_id"),
)

# Embeddings of studies, see study_embeddings.py; empty unless the node's own studies may be searched.
place = Table(
    "place",
    metadata,
    Column("reading_id", ForeignKey("reading.id"), primary_key=True),
    Column("weights_sha256", String(64), nullable=False, index=True),
    Column("vector", LargeBinary, nullable=False),  # float32, little endian
    Column("query", LargeBinary),  # the same, to search with; null in rows of earlier versions
)

# -- tables of the web pages: headers of the worklist, accounts, feedback, access log

catalogue = Table(
    "catalogue",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("received_at", Float, nullable=False),  # arrival of the last image whose header was read
    Column("named", Boolean, nullable=False),  # whether `patient` is a name or a pseudonym
    Column("person", String(64), nullable=False),  # pseudonymous key of the patient
    Column("patient", String(128), nullable=False),
    Column("description", String(128), nullable=False),
    Column("study_date", String(8), nullable=False),
    Column("manufacturer", String(64), nullable=False),
    Column("views", String(64), nullable=False),
    Column("search", String(512), nullable=False),
    # Search keys of DICOMweb; all but the modalities are empty unless patients are shown by name.
    Column("patient_name", String(256), nullable=False, default=""),
    Column("patient_id", String(64), nullable=False, default=""),
    Column("accession_number", String(64), nullable=False, default=""),
    Column("referring_physician", String(256), nullable=False, default=""),
    Column("study_time", String(16), nullable=False, default=""),
    Column("study_identifier", String(64), nullable=False, default=""),
    Column("patient_sex", String(16), nullable=False, default="", server_default=""),
    # As AS value, at the time of the study.
    Column("patient_age", String(4), nullable=False, default="", server_default=""),
    Column("modalities", String(64), nullable=False, default=""),  # of the films, each between two spaces
    Index("catalogue_by_patient_id", "patient_id"),
    Index("catalogue_by_person", "person", "study_date"),
    Index("catalogue_by_patient", "patient", "study_id"),
    Index("catalogue_by_date", "study_date", "study_id"),
)

account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    # Argon2id (PHC string); or ``oidc:`` and a digest of the subject; empty: the account has only tokens.
    Column("password", String(256), nullable=False),
    Column("created_at", Float, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of the token that the browser or script holds
    Column("account_id", ForeignKey("account.id"), nullable=False),
    Column("kind", String(16), nullable=False),  # login or token
    Column("expires_at", Float),
    # Of a token, by which it is revoked.
    Column("name", String(64), nullable=False, default="", server_default=""),
    Column("created_at", Float),  # absent: made by an earlier version
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reading_id", ForeignKey("reading.id"), nullable=False, index=True),
    Column("key", String(64), nullable=False),  # of the finding
    Column("reader", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("comment", String(2000), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("reading_id", "key", "reader"),
    Index("feedback_by_time", "at"),
)

# Tags and notes of readers, see web.notes; one that was taken back stays as a row, so that open pages know.
study_tag = Table(
    "study_tag",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("tag", String(32), nullable=False),
    Column("reader", String(64), nullable=False),  # who gave it last, or took it back
    Column("at", Float, nullable=False),
    Column("held", Boolean, nullable=False),  # False: taken back
    UniqueConstraint("study_id", "tag"),
    Index("study_tag_by_tag", "tag", "study_id"),
    Index("study_tag_by_time", "at"),
)

study_note = Table(
    "study_note",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("reader", String(64), nullable=False),
    Column("text", String(2000), nullable=False),  # empty: taken back
    Column("at", Float, nullable=False),
    Index("study_note_by_time", "at"),
)

saved_filter = Table(
    "saved_filter",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reader", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("conditions", String(512), nullable=False),  # query string of the worklist, without words
    UniqueConstraint("reader", "name"),
)

access = Table(
    "access",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("reader", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("study_id", Integer),
    Index("access_by_time", "at"),
)

# Requests for storage commitment (PS3.4 annex J), see commitments.py.
commitment = Table(
    "commitment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transaction_uid", String(64), nullable=False, unique=True),
    Column("destination", String(64), nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("answered_at", Float),
)

commitment_item = Table(
    "commitment_item",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("delivery_id", ForeignKey("delivery.id"), primary_key=True, index=True),
)

# -- checks of what is stored, see storage_check.py

storage_check = Table(
    "storage_check",
    metadata,
    Column("part", String(16), primary_key=True),  # see storage_check.Part
    Column("position", Integer, nullable=False),  # number of the last row whose file was checked
    Column("files", Integer, nullable=False),  # checked in all
    Column("checked_at", Float, nullable=False),
)

damaged_file = Table(
    "damaged_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("part", String(16), nullable=False),
    Column("file", String(128), nullable=False, unique=True),
    Column("reason", String(256), nullable=False),
    Column("found_at", Float, nullable=False),
    Column("mended_at", Float),
)

# -- priors of studies, see prior_pairs.py

prior = Table(
    "prior",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("patient", String(64), nullable=False),  # digest of the Patient ID; empty when there is none
    Column("taken", String(14), nullable=False),  # Study Date and Time of the study itself
    Column("prior_uid", String(64), nullable=False),  # Study Instance UID; empty when there is no prior
    Column("files", Text, nullable=False),  # JSON: names of the prior's films in the spool
    Column("reason", String(256), nullable=False),  # reason why there is none; empty when there is one
    Index("prior_by_patient", "patient", "taken"),
)

# Studies that were requested as priors, so that their images are recognised when they arrive.
prior_request = Table(
    "prior_request",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("source_ae", String(16), nullable=False),  # empty when it has ended
    Column("move_destination", String(16), nullable=False),
    Column("asked_at", Float, nullable=False),
)

# How far the audit trail goes, see audit_trail_head.py: one row.
audit_trail_head = Table(
    "audit_trail_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("first_number", Integer, nullable=False),
    Column("first_previous", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("updated_at", Float, nullable=False),
)

# Instances whose rows were deleted after their purge, so that the audit still counts them; see retention.py.
forgotten = Table(
    "forgotten",
    metadata,
    Column("day", String(10), primary_key=True),  # YYYY-MM-DD, UTC: when their rows were deleted
    Column("instances", Integer, nullable=False),
)

# Bytes on the disk, one row a day, see disk_usage.py.
disk_usage = Table(
    "disk_usage",
    metadata,
    Column("day", String(10), primary_key=True),  # YYYY-MM-DD, UTC
    Column("at", Float, nullable=False),
    Column("films", BigInteger, nullable=False),
    Column("results", BigInteger, nullable=False),
    Column("maps", BigInteger, nullable=False),
    Column("index_bytes", BigInteger, nullable=False),
)

# -- reader studies, see reader_studies.py

reader_study = Table(
    "reader_study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("design", String(16), nullable=False),  # see reader_studies.Design
    Column("seed", Integer, nullable=False),  # of the order of the cases
    Column("made_by", String(64), nullable=False),
    Column("made_at", Float, nullable=False),
    Column("closed_at", Float),  # empty while readers may answer
    # Whether readers may draw a box around what they find.
    Column("boxes", Boolean, nullable=False, default=False, server_default=false()),
)

reader_study_finding = Table(
    "reader_study_finding",
    metadata,
    Column("reader_study_id", ForeignKey("reader_study.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("name", String(128), nullable=False),
)

reader_study_reader = Table(
    "reader_study_reader",
    metadata,
    Column("reader_study_id", ForeignKey("reader_study.id"), primary_key=True),
    Column("reader", String(64), primary_key=True),  # name of the account
    Index("reader_study_by_reader", "reader"),
)

reader_study_case = Table(
    "reader_study_case",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reader_study_id", ForeignKey("reader_study.id"), nullable=False),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    # The analysis that is the model's answer: the latest when the reader study was made. Empty without one.
    Column("reading_id", ForeignKey("reading.id")),
    UniqueConstraint("reader_study_id", "study_id"),
    Index("reader_study_case_by_study", "study_id"),
)

reader_study_reference = Table(
    "reader_study_reference",
    metadata,
    Column("case_id", ForeignKey("reader_study_case.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("present", Boolean, nullable=False),
)

# One case as one reader reads it; its answers are never changed.
case_reading = Table(
    "case_reading",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", ForeignKey("reader_study_case.id"), nullable=False),
    Column("reader", String(64), nullable=False),
    Column("aided", Boolean, nullable=False),  # whether the model's answer is shown
    Column("displayed_at", Float, nullable=False),  # for the first time
    Column("answered_at", Float),
    Column("visible_seconds", Float),  # time that the page was visible, as the browser says
    Column("comment", String(2000), nullable=False, default=""),
    UniqueConstraint("case_id", "reader", "aided"),
)

case_answer = Table(
    "case_answer",
    metadata,
    Column("case_reading_id", ForeignKey("case_reading.id"), primary_key=True),
    Column("key", String(64), primary_key=True),  # of the finding
    Column("present", Boolean, nullable=False),
    Column("confidence", Integer, nullable=False),  # in the answer, 0 to 100
)

# Box of a reader around a finding, drawn before the answer; see case_boxes.py.
case_box = Table(
    "case_box",
    metadata,
    Column("case_reading_id", ForeignKey("case_reading.id"), primary_key=True),
    Column("key", String(64), primary_key=True),  # of the finding
    Column("sop_instance_uid", String(64), nullable=False),  # of the film
    # Its edges in pixels of the film as it is stored, see case_boxes.Box
    Column("left", Integer, nullable=False),
    Column("top", Integer, nullable=False),
    Column("right", Integer, nullable=False),
    Column("bottom", Integer, nullable=False),
)
