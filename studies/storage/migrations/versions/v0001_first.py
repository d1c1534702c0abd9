"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "explorer_devices",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_table(
        "explorer_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_table(
        "explorer_workers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Double, nullable=False),
        sa.Column("heartbeat", sa.Double, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=True),
        sa.UniqueConstraint("study_id", "number"),
    )
    op.create_table(
        "explorer_plans",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False),
        sa.Column("key", sa.String(100), nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=True),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("origin", sa.String(10), nullable=False),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("aliases", sa.JSON, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("trial_number", sa.Integer, nullable=True),
        sa.Column("worker_id", sa.Integer, sa.ForeignKey("explorer_workers.id"), nullable=True),
        sa.Column("claimed", sa.Double, nullable=True),
        sa.Column("finished", sa.Double, nullable=True),
        sa.UniqueConstraint("study_id", "key"),
    )
    op.create_index("explorer_plans_by_state", "explorer_plans", ["study_id", "state"])
    op.create_table(
        "explorer_measurements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("plan_id", sa.Integer, sa.ForeignKey("explorer_plans.id"), nullable=False),
        sa.Column("metric", sa.String(100), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("extractor", sa.String(200), nullable=True),
        sa.Column("seconds", sa.Double, nullable=True),
        sa.Column("samples", sa.JSON, nullable=True),
        sa.Column("device_id", sa.Integer, sa.ForeignKey("explorer_devices.id"), nullable=True),
        sa.UniqueConstraint("plan_id", "metric"),
    )
    op.create_table(
        "explorer_pictures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("plan_id", sa.Integer, sa.ForeignKey("explorer_plans.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("thumbnail", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=True),
        sa.Column("seed", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("plan_id", "number"),
    )
