"""Reader studies."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "reader_study",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("design", sa.String(16), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("closed_at", sa.Float),
    )
    op.create_table(
        "reader_study_finding",
        sa.Column("reader_study_id", sa.Integer, sa.ForeignKey("reader_study.id"), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
    )
    op.create_table(
        "reader_study_reader",
        sa.Column("reader_study_id", sa.Integer, sa.ForeignKey("reader_study.id"), primary_key=True),
        sa.Column("reader", sa.String(64), primary_key=True),
    )
    op.create_index("reader_study_by_reader", "reader_study_reader", ["reader"])
    op.create_table(
        "reader_study_case",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reader_study_id", sa.Integer, sa.ForeignKey("reader_study.id"), nullable=False),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("reading_id", sa.Integer, sa.ForeignKey("reading.id")),
        sa.UniqueConstraint("reader_study_id", "study_id"),
    )
    op.create_table(
        "reader_study_reference",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("reader_study_case.id"), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("present", sa.Boolean, nullable=False),
    )
    op.create_table(
        "case_reading",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("reader_study_case.id"), nullable=False),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("aided", sa.Boolean, nullable=False),
        sa.Column("displayed_at", sa.Float, nullable=False),
        sa.Column("answered_at", sa.Float),
        sa.Column("visible_seconds", sa.Float),
        sa.Column("comment", sa.String(2000), nullable=False),
        sa.UniqueConstraint("case_id", "reader", "aided"),
    )
    op.create_table(
        "case_answer",
        sa.Column("case_reading_id", sa.Integer, sa.ForeignKey("case_reading.id"), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("confidence", sa.Integer, nullable=False),
    )
