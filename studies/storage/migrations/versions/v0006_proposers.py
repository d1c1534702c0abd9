"""Which kind of proposer gave a plan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("explorer_plans", sa.Column("proposed_by", sa.String(40), nullable=True))
