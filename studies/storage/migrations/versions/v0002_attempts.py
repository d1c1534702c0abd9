"""A plan counts the workers that ended while they scored it, so that one that kills workers is given up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("explorer_plans", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
