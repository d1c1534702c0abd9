"""Trainings that can be killed and resumed. Knows the engine, nothing of searches."""
