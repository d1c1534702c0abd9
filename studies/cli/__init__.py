"""The command line: its options, and what the commands do and print."""

from __future__ import annotations

from studies.cli.app import app, main, run

__all__ = ["app", "main", "run"]
