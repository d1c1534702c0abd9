"""How a study's front grew: hypervolume by plans and by measured seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from studies.pareto.front import hypervolume, non_dominated
from studies.pareto.scale import Scale
from studies.results.rows import TrialRow, objective_losses
from studies.settings import Objective
from studies.storage.tables import DONE, FINISHED

CHECKPOINTS = 240  # a line of more points shows nothing more


@dataclass(frozen=True)
class History:
    """At m checkpoints: trials finished, seconds that the workers spent on them (summed), hypervolume. (m,) each."""

    trials: list[int]
    seconds: list[float]
    volume: list[float]


def seconds_of(row: TrialRow) -> float:
    """What a plan cost its workers: what its measurements took, otherwise the time from its claim to its end; 0 while
    neither is known. (Where two workers measured a plan, its claim is that of the second.)"""
    if row.seconds:
        return sum(row.seconds.values())
    return 0.0 if row.started is None or row.finished is None else max(0.0, row.finished - row.started)


def history(rows: Sequence[TrialRow], objectives: tuple[Objective, ...], scale: Scale) -> History:
    """The growth of the front in the order in which plans were finished; what failed or was screened out
    counts as time, not as volume."""
    ended = sorted((row for row in rows if row.state in FINISHED), key=lambda row: row.finished or 0.0)
    spent = np.cumsum([seconds_of(row) for row in ended])
    names = {objective.name for objective in objectives}
    step = max(1, -(-len(ended) // CHECKPOINTS))
    made = History([], [], [])
    front = np.empty((0, len(objectives)))
    volume = 0.0
    for start in range(0, len(ended), step):
        chunk = [row for row in ended[start : start + step] if row.state == DONE and names <= row.scores.keys()]
        if chunk:
            points = np.vstack([front, scale.apply(objective_losses(chunk, objectives))])
            kept = points[non_dominated(points)]
            if len(kept) != len(front) or not np.array_equal(kept, front):
                front, volume = kept, hypervolume(kept, scale.corner)
        end = min(start + step, len(ended))
        made.trials.append(end)
        made.seconds.append(float(spent[end - 1]))
        made.volume.append(volume)
    return made
