"""Profiles: measured times of a model's nodes, steps and loops, and every sample."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "explorer_profiles",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("architecture", sa.String(12), nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
    )
