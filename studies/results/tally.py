"""Which kind of proposer found what: how many plans of each were scored, are on the front, and what they added."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from studies.pareto.growth import gains
from studies.pareto.scale import Scale
from studies.results.rows import TrialRow, front_rows, objective_losses
from studies.results.summary import scored_rows
from studies.settings import Objective
from studies.storage.tables import FAILED, SCREENED

BASELINE, UNKNOWN = "baseline", "unknown"


@dataclass(frozen=True)
class Tally:
    """scored, failed, screened (out on few prompts), on_front: plans of the kind. hypervolume_gain: what they added to
    the front when they were finished, summed, in the scale of `studies.results.summary.Gain`."""

    kind: str
    scored: int
    failed: int
    screened: int
    on_front: int
    hypervolume_gain: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def source_of(row: TrialRow) -> str:
    """The kind that proposed a plan; `baseline`, or `unknown` in an older study."""
    return BASELINE if row.origin == "baseline" else row.proposed_by or UNKNOWN


def tally(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[Tally]:
    """By kind, baselines first, then those that added most."""
    scored = sorted(scored_rows(rows, objectives), key=lambda row: row.finished or 0.0)
    added: dict[str, float] = {}
    if scored:
        losses = objective_losses(scored, objectives)
        scale = Scale.over(losses, np.array([row.origin == BASELINE for row in scored], dtype=bool))
        assert scale is not None
        for row, gain in zip(scored, gains(scale.apply(losses), scale.corner), strict=True):
            added[source_of(row)] = added.get(source_of(row), 0.0) + gain
    done = [source_of(row) for row in scored]
    failed, screened = ([source_of(row) for row in rows if row.state == state] for state in (FAILED, SCREENED))
    front = [source_of(row) for row in front_rows(rows, objectives)]
    kinds = dict.fromkeys([*done, *failed, *screened])
    made = [
        Tally(k, done.count(k), failed.count(k), screened.count(k), front.count(k), added.get(k, 0.0)) for k in kinds
    ]
    return sorted(made, key=lambda each: (each.kind != BASELINE, -each.hypervolume_gain, each.kind))
