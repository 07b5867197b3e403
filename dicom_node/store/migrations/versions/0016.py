"""Names of tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("session", sa.Column("name", sa.String(64), nullable=False, server_default=""))
    op.add_column("session", sa.Column("created_at", sa.Float()))
