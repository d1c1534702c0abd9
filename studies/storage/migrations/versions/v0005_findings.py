"""What is found once a study, whatever its plans: the UNet's anatomy, its units' sensitivity, the scores' floor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "explorer_findings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("explorer_studies.id"), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.UniqueConstraint("study_id", "kind"),
    )
