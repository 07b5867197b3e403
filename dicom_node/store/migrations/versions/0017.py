"""Feedback by its time."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_index("feedback_by_time", "feedback", ["at"])
