"""Measures and predicts the error that inheritance makes."""
