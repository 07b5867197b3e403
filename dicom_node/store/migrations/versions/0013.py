"""Checks of stored files, and repairs of damaged ones."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    """Add two tables, and the time of the last repair of an instance."""
    op.add_column("instance", sa.Column("repaired_at", sa.Float))
    op.create_table(
        "storage_check",
        sa.Column("part", sa.String(16), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("checked_at", sa.Float, nullable=False),
    )
    op.create_table(
        "damaged_file",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("file", sa.String(128), nullable=False, unique=True),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("found_at", sa.Float, nullable=False),
        sa.Column("mended_at", sa.Float),
    )
