"""Fronts: which points no other one dominates, and how much of the objectives' space they cover.

Arrays are (n, k) float: n points, k objectives, all to be minimised; `losses` turns values and directions into such.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from explorer.errors import StudyError

Array = npt.NDArray[np.float64]


def losses(values: Sequence[Sequence[float]], directions: Sequence[str]) -> Array:
    """Values (n, k) as losses: objectives of direction `maximize` are negated."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, dtype=np.float64).reshape(-1, len(directions)) * signs


def dominates(first: Array, second: Array) -> bool:
    """Whether losses `first` (k,) are nowhere worse than `second` (k,) and somewhere better."""
    return bool(np.all(first <= second) and np.any(first < second))


def non_dominated(points: Array) -> npt.NDArray[np.bool_]:
    """For each of the points (n, k) whether none of the others dominates it. Equal points stand or fall together; a
    point with a NaN is not on the front. O(n log n) for two objectives, O(n log n) with list insertions for three."""
    points = np.asarray(points, dtype=np.float64)
    whole = ~np.isnan(points).any(axis=1)
    front = np.zeros(len(points), dtype=bool)
    if not whole.any():
        return front
    unique, inverse = np.unique(points[whole], axis=0, return_inverse=True)  # sorted by the first objective, then on
    k = unique.shape[1]
    kept = _front_2(unique) if k <= 2 else _front_3(unique) if k == 3 else _front_n(unique)
    front[whole] = kept[inverse.reshape(-1)]
    return front


def _front_2(points: Array) -> npt.NDArray[np.bool_]:
    last = points[:, -1] if points.shape[1] == 2 else points[:, 0]
    kept = np.ones(len(points), dtype=bool)
    best = np.minimum.accumulate(last)
    kept[1:] = best[1:] < best[:-1]
    return kept


def _front_3(points: Array) -> npt.NDArray[np.bool_]:
    # Points come by rising first objective; the staircase holds the second and third of those seen that no other one
    # seen dominates: seconds rise, thirds fall (Kung, Luccio and Preparata 1975).
    kept = np.zeros(len(points), dtype=bool)
    seconds: list[float] = []
    thirds: list[float] = []
    for i, (_, second, third) in enumerate(points.tolist()):
        place = bisect_right(seconds, second)
        if place and thirds[place - 1] <= third:
            continue
        kept[i] = True
        start = end = bisect_left(seconds, second)
        while end < len(thirds) and thirds[end] >= third:
            end += 1
        seconds[start:end] = [second]
        thirds[start:end] = [third]
    return kept


def _front_n(points: Array) -> npt.NDArray[np.bool_]:
    kept = np.zeros(len(points), dtype=bool)
    left = np.arange(len(points))
    while len(left):
        first = left[0]  # nothing that comes later in this order dominates it, and what dominated it has removed it
        kept[first] = True
        left = left[np.any(points[left, 1:] < points[first, 1:], axis=1)]
    return kept


def hypervolume(points: Array, reference: Sequence[float]) -> float:
    """The volume between the points (n, k) and the reference point (k,) that some point dominates; exact.

    Points that are not better than the reference in every objective add nothing. Meant for up to four objectives: it
    sweeps two and three in O(n log n) (three with list insertions) and slices along each further one (Knowles' HSO).

    Raises:
        StudyError: when points and reference have different numbers of objectives.
    """
    points, corner = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != len(corner):
        raise StudyError(
            f"points of shape {points.shape} cannot be compared with a reference of {len(corner)} objectives."
        )
    inside = points[np.all(points < corner, axis=1)]
    return _volume(inside[non_dominated(inside)], corner) if len(inside) else 0.0


def _volume(points: Array, corner: Array) -> float:
    k = len(corner)
    if k == 1:
        return float(corner[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    if k == 2:
        # By rising second objective, a point adds a strip as wide as it improves on the best first objective so far.
        best = np.minimum.accumulate(np.concatenate([corner[:1], points[:, 0]]))
        return float(np.sum((best[:-1] - best[1:]) * (corner[1] - points[:, 1])))
    if k == 3:
        return _volume_3(points, corner)
    heights = np.diff(np.append(points[:, -1], corner[-1]))
    total = 0.0
    below = np.empty((0, k - 1))
    for point, height in zip(points, heights, strict=True):
        below = np.vstack([below, point[:-1]])
        below = below[non_dominated(below)]
        if height > 0:
            total += float(height) * _volume(below, corner[:-1])
    return total


def _volume_3(points: Array, corner: Array) -> float:
    """Points come by rising third objective: between one's height and the next one's, the volume grows by the area of
    the staircase of those below, and each new step of it adds the area that no other one covers."""
    firsts, seconds = [float("-inf"), float(corner[0])], [float(corner[1]), float("-inf")]  # firsts rise, seconds fall
    heights = np.append(points[:, 2], corner[2])
    area = volume = 0.0
    for i, (first, second, _) in enumerate(points.tolist()):
        left = bisect_right(firsts, first) - 1  # the step that begins at or before the point
        if seconds[left] > second:
            start = left if firsts[left] == first else left + 1
            end, x, y = start, first, seconds[left if start > left else left - 1]
            while True:  # strips between the point and the staircase above it, up to the first step that is as low
                until = firsts[end] if end < len(firsts) else float(corner[0])
                area += (until - x) * (y - second)
                if seconds[end] <= second:
                    break
                x, y = until, seconds[end]
                end += 1
            firsts[start:end], seconds[start:end] = [first], [second]
        volume += area * float(heights[i + 1] - heights[i])
    return volume
