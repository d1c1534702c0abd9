"""Which plans the noise of the measurements cannot tell from the front."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from studies.pareto.front import Array

CHUNK = 2_000_000  # comparisons held in memory at once


def tied(losses: Array, best: Array, worst: Array, on_front: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For each plan off the front whether some plan of the front is in no objective measurably better. (n,)

    losses: (n, k) values to be minimised; best, worst: (n, k) ends of their 95% intervals. A difference is measurable
    when it exceeds the root of the summed squares of the two half-widths that face each other: the 95% interval of a
    difference of independent values. Pictures of the same prompts and seeds are not independent, and their paired
    differences (the Compare page) can tell apart what this calls tied. Plans without a loss are not tied.
    """
    result = np.zeros(len(losses), dtype=bool)
    front = np.flatnonzero(on_front)
    others = np.flatnonzero(~on_front & ~np.isnan(losses).any(axis=1))
    if not len(front) or not len(others):
        return result
    reach = (worst[front] - losses[front]) ** 2  # how much worse a plan of the front may really be
    step = max(1, CHUNK // len(front))
    for start in range(0, len(others), step):
        rows = others[start : start + step]
        close = np.ones((len(rows), len(front)), dtype=bool)
        for j in range(losses.shape[1]):
            behind = losses[rows, j, None] - losses[front, j]
            slack = (losses[rows, j] - best[rows, j]) ** 2
            close &= (behind <= 0) | (behind**2 <= slack[:, None] + reach[:, j])
        result[rows] = close.any(axis=1)
    return result
