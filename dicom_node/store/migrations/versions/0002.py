"""Confirmation of deliveries: requests for commitment and their answers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sent_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("inquiries", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(
            sa.Column("confirmed_by", sa.String(length=16), nullable=False, server_default="")
        )
        batch_op.create_index("delivery_by_change", ["destination", "state", "updated_at"], unique=False)
    op.execute("UPDATE delivery SET sent_at = updated_at WHERE state = 'SENT'")
    op.create_table(
        "commitment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("transaction_uid"),
    )
    op.create_table(
        "commitment_item",
        sa.Column("commitment_id", sa.Integer(), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["commitment_id"], ["commitment.id"]),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"]),
        sa.PrimaryKeyConstraint("commitment_id", "delivery_id"),
    )
    with op.batch_alter_table("commitment_item", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commitment_item_delivery_id"), ["delivery_id"], unique=False)
