"""Several models for one study."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the model of a result, and position and role of an analysis among those of its revision."""
    op.add_column("result", sa.Column("model", sa.String(64), nullable=False, server_default=""))
    # SQLite gives constraints no names; the convention names the one to drop.
    with op.batch_alter_table(
        "reading", naming_convention={"uq": "%(table_name)s_study_id_revision_key"}
    ) as reading:
        reading.add_column(sa.Column("position", sa.Integer, nullable=False, server_default="0"))
        reading.add_column(sa.Column("role", sa.String(8), nullable=False, server_default="primary"))
        reading.add_column(sa.Column("seconds", sa.Float))
        reading.drop_constraint("reading_study_id_revision_key", type_="unique")
        reading.create_unique_constraint(
            "reading_study_id_revision_position_key", ["study_id", "revision", "position"]
        )
