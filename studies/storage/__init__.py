"""Bytes and SQL: the database, its schema, and the files beside it."""
