"""Proof of a plan on held-out prompts, and taking it home."""
