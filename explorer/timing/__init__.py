"""Measures and predicts time."""
