"""Budgets and shares as people write them: 30m, 2h, 90s; 1% or 0.01."""

from __future__ import annotations

import re

from explorer.errors import StudyError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Seconds of a budget: a number and s, m or h, also together (1h30m). Raises StudyError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise StudyError(f"--budget must be a time such as 30m, 2h, 90s or 1h30m, got {text!r}.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < seconds <= 30 * 24 * 3600:
        raise StudyError(f"--budget must be more than zero and at most 720h, got {text!r}.")
    return seconds


def parse_share(option: str, text: str) -> float:
    """A share written as 1% or 0.01. Raises StudyError for other texts, and for less than 0% or 100% and more."""
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*(%?)\s*", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or not 0 <= share < 1:
        raise StudyError(f"{option} must be a share such as 1% or 0.01 (from 0% to under 100%), got {text!r}.")
    return share
