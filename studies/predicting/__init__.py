"""Scores of plans that are not run."""
