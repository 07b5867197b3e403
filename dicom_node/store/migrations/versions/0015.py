"""Head of the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "audit_trail_head",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("first_number", sa.Integer(), nullable=False),
        sa.Column("first_previous", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
    )
