"""Which kind of proposer gave a plan: its colour, its words, and the table of what each kind found."""

from __future__ import annotations

from typing import Any

from dashboard.palette import Palette
from studies.results.board import Board
from studies.results.rows import TrialRow
from studies.results.tally import BASELINE, UNKNOWN, source_of, tally

# Okabe and Ito's, one for each kind; a kind of a newer version has the text's own.
_COLOURS = {
    "seeds": "#56B4E9", "moves": "#D55E00", "sampler": "#0072B2",
}  # fmt: skip


def mark(row: TrialRow, shown: Palette) -> str:
    """A line of a hover: a square in the kind's colour and its name; empty for baselines and where it was not kept."""
    kind = source_of(row)
    if kind in (BASELINE, UNKNOWN):
        return ""
    colour = shown.shade(_COLOURS[kind]) if kind in _COLOURS else shown.text
    return f'<span style="color:{colour}">■</span> proposed by {kind if kind in _COLOURS else "another kind"}'


def proposal_table(board: Board) -> list[dict[str, Any]]:
    """A line for each kind, baselines first; empty while nothing but baselines was tried."""
    kinds = tally(board.rows, board.objectives)
    if all(each.kind == BASELINE for each in kinds):
        return []
    total = sum(each.hypervolume_gain for each in kinds) or 1.0
    return [
        {
            "proposed by": "baselines" if each.kind == BASELINE else each.kind,
            "scored": each.scored,
            "failed": each.failed,
            "screened out": each.screened,
            "on the front": each.on_front,
            "share": 100 * each.hypervolume_gain / total,
            "a plan": each.hypervolume_gain / max(1, each.scored + each.failed + each.screened),
        }
        for each in kinds
    ]
