"""How much each plan added to the front when it came: what its proposer is credited with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studies.pareto.front import Array, hypervolume


class Growth:
    """A front that grows point by point. corner: (k,), the reference point; points: (n, k), those not dominated."""

    def __init__(self, corner: Sequence[float]) -> None:
        self.corner = np.asarray(corner, dtype=np.float64)
        self.points: Array = np.empty((0, len(self.corner)))
        self.volume = 0.0

    def add(self, point: Array) -> float:
        """The hypervolume that `point` (k,) adds; 0 for one that is dominated, or not better than the corner."""
        if not np.all(point < self.corner) or np.any(np.all(self.points <= point, axis=1)):
            return 0.0
        left = self.points[~np.all(point <= self.points, axis=1)]
        self.points = np.vstack([left, point])
        before, self.volume = self.volume, hypervolume(self.points, self.corner.tolist())
        return max(0.0, self.volume - before)


def gains(points: Array, corner: Sequence[float]) -> list[float]:
    """What each of the points (n, k), in their order, added to those before it."""
    growth = Growth(corner)
    return [growth.add(point) for point in points]
