"""Runs a study."""
