"""Confidence interval of a finding."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("finding", sa.Column("low", sa.Float()))
    op.add_column("finding", sa.Column("high", sa.Float()))
