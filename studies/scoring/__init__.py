"""Scores one candidate."""
