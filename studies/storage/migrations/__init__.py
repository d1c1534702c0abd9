"""Alembic migrations of the explorer's tables; `studies.storage.schema` runs them."""
