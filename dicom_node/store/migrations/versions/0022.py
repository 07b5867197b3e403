"""Boxes of readers in reader studies."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("reader_study", sa.Column("boxes", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "case_box",
        sa.Column("case_reading_id", sa.Integer, sa.ForeignKey("case_reading.id"), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("left", sa.Integer, nullable=False),
        sa.Column("top", sa.Integer, nullable=False),
        sa.Column("right", sa.Integer, nullable=False),
        sa.Column("bottom", sa.Integer, nullable=False),
    )
