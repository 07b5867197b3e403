"""Notes and tags of studies, saved filters, sex and age in the worklist."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "study_tag",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("tag", sa.String(32), nullable=False),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.UniqueConstraint("study_id", "tag"),
    )
    op.create_index("study_tag_by_tag", "study_tag", ["tag", "study_id"])
    op.create_index("study_tag_by_time", "study_tag", ["at"])
    op.create_table(
        "study_note",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("ix_study_note_study_id", "study_note", ["study_id"])
    op.create_index("study_note_by_time", "study_note", ["at"])
    op.create_table(
        "saved_filter",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("conditions", sa.String(512), nullable=False),
        sa.UniqueConstraint("reader", "name"),
    )
    op.create_index("reader_study_case_by_study", "reader_study_case", ["study_id"])
    for name, length in (("patient_sex", 16), ("patient_age", 4)):
        op.add_column("catalogue", sa.Column(name, sa.String(length), nullable=False, server_default=""))
    # Where patients are shown by name the headers are read anew, for sex and age.
    op.execute("UPDATE catalogue SET received_at = 0 WHERE named")
