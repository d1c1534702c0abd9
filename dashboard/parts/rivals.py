"""The plans that a plan is first compared with."""

from __future__ import annotations

from studies.results.board import Board
from studies.results.rows import TrialRow


def rival(row: TrialRow, board: Board) -> TrialRow | None:
    """The fewer plain steps that come nearest to a plan in measured speed: the control that it has to beat. Where the
    study has none, the plan that is nearest; None where there is no other."""
    others = [other for other in board.measured if other.key != row.key and other.number is not None]
    controls = [other for other in others if other.facts.plain]
    mine = row.speedup or 0.0
    return min(controls or others, key=lambda other: abs((other.speedup or 0.0) - mine), default=None)
