"""A study has a folder name of its own, as two storages in one folder may each have a study of the same name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("explorer_studies", sa.Column("folder", sa.String(120), nullable=False, server_default=""))
