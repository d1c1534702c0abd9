"""Alembic migrations of the explorer's tables; `studies.schema` runs them."""
