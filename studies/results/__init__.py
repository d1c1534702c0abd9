"""Reads a study: rows, columns, summaries, charts."""
