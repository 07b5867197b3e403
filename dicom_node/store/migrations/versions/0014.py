"""Retention: states of files, pinned studies, bytes on the disk by day."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("study", sa.Column("pinned_at", sa.Float()))
    for table, column in (("instance", "received_at"), ("result", "created_at"), ("reading", "created_at")):
        op.add_column(
            table, sa.Column("file_state", sa.String(length=8), nullable=False, server_default="KEPT")
        )
        op.add_column(table, sa.Column("purged_at", sa.Float()))
        op.add_column(table, sa.Column("purged_by", sa.String(length=32), nullable=False, server_default=""))
        op.create_index(f"{table}_by_file_state", table, ["file_state", column])
    op.create_index("reading_by_maps", "reading", ["maps"])
    op.create_table(
        "forgotten",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "disk_usage",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("films", sa.BigInteger(), nullable=False),
        sa.Column("results", sa.BigInteger(), nullable=False),
        sa.Column("maps", sa.BigInteger(), nullable=False),
        sa.Column("index_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
