"""Films that the gate refused, read because an admin asked for it."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column(
        "study", sa.Column("gate_overridden", sa.Boolean, nullable=False, server_default=sa.false())
    )
