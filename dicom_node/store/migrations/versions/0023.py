"""Queries beside the embeddings of the node's own studies."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("place", sa.Column("query", sa.LargeBinary))
