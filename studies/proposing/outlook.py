"""The expected scores of a plan in the study's objectives, from its prediction and all measurements.

A plan becomes a point: its loss in time, and the mean of its losses in quality, each scaled to its range over the
baselines, as for the study's hypervolume. Gaussian processes over the plans' features give the mean of both and the
uncertainty of the quality, so measurements correct what the calibration predicts badly for some kinds of plans. Before
two plans are measured, the calibration is used alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from studies.metrics import SPEEDS
from studies.pareto.front import Array
from studies.pareto.scale import Scale
from studies.proposing.descriptors import LEAST_DRIFT, lengths
from studies.proposing.surrogate import Surrogate
from studies.settings import Objective

ENOUGH = 2
MOST = 300
"""Measured plans that are fitted to: those nearest to the front."""


class Outlook:
    """rows: (n, k) features of the measured plans (`studies.proposing.descriptors`); losses: (n, objectives). dropped:
    (m, k) of those that a race dropped; each is behind the front, however well it was predicted.

    `corner`: of the points' hypervolume. `points`: (n, 2) of the measured plans, the luck of their scores evened out.
    """

    def __init__(
        self,
        rows: Array,
        losses: Array,
        objectives: Sequence[Objective],
        scale: Scale | None,
        dropped: Array | None = None,
    ) -> None:
        self._timed = next((k for k, each in enumerate(objectives) if each.name in SPEEDS), None)
        self._speedup = self._timed is not None and objectives[self._timed].direction == "maximize"
        quality = [k for k, each in enumerate(objectives) if each.name not in SPEEDS]
        self._scale = scale
        self._time: Surrogate | None = None
        self._quality: Surrogate | None = None
        self.points, self.corner, self._best = np.empty((0, 2)), (1.0, 1.0), 0.0
        if scale is None or not quality:
            return
        whole = np.isfinite(losses).all(axis=1)
        rows, losses = rows[whole], losses[whole]
        if len(rows) < ENOUGH:
            return
        measured = scale.apply(losses)[:, quality].mean(axis=1)
        self._best = float(measured.min())
        if self._timed is not None:
            seconds = np.abs(losses[:, self._timed])
            seconds = 1 / seconds if self._speedup else seconds
            self.corner = (scale.corner[0], scale.corner[0])
        near, far = self._nearest(rows, measured), lengths(rows.shape[1])
        if self._timed is not None:
            self._time = Surrogate(rows[near], np.log(seconds[near]) - np.log(rows[near, 1]), far)
        self._quality = Surrogate(rows[near], measured[near], far)
        self.points = np.stack(self(rows[near])[:2], axis=1)
        if dropped is not None and len(dropped):
            time, predicted, _ = self(dropped)
            at_best = np.maximum(predicted, front_at(time, self.points, self.corner))
            self._quality = Surrogate(
                np.concatenate([rows[near], dropped]), np.concatenate([measured[near], at_best]), far
            )
            self.points = np.stack(self(rows[near])[:2], axis=1)

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """Expected loss in time, in quality, and the latter's standard deviation, (m,) each."""
        time, quality = rows[:, 1], 1 - rows[:, 0] / math.log(LEAST_DRIFT)
        deviation = np.full(len(rows), _UNSURE)
        if self._quality is not None:
            quality, deviation = self._quality(rows)
            quality = np.maximum(quality, self._best)
        if self._time is not None:
            assert self._scale is not None and self._timed is not None
            seconds = np.exp(np.log(rows[:, 1]) + self._time(rows)[0])
            low, high = self._scale.low[self._timed], self._scale.high[self._timed]
            time = ((-1 / seconds if self._speedup else seconds) - low) / (high - low if high > low else 1.0)
        return time, quality, deviation

    def gains(self, rows: Array, others: Array, surely: float) -> Array:
        """(m,) expected improvement of the hypervolume (Emmerich et al. 2011; two objectives, where the time is
        taken to be known) by each plan, beside `points` and the points (n, 2) of `others`. surely: the part of the
        deviation that is believed in; 0 takes every expectation at its word.

        No plan is taken to be better than the best that was measured.
        """
        time, quality, deviation = self(rows)
        edges, heights = staircase(np.concatenate([self.points, others]), self.corner)
        widths = np.clip(edges[None, 1:] - np.maximum(edges[None, :-1], time[:, None]), 0.0, None)
        sigma = np.maximum(surely * deviation, 1e-6)[:, None]
        gained = _improvement(heights[None], quality[:, None], sigma) - _improvement(
            self._best, quality[:, None], sigma
        )
        return np.asarray((widths * np.maximum(gained, 0.0)).sum(axis=1))

    @staticmethod
    def _nearest(rows: Array, measured: Array) -> NDArray[np.intp]:
        """Places of the MOST plans that lie least behind the front of predicted cost and measured quality."""
        if len(rows) <= MOST:
            return np.arange(len(rows))
        behind = behind_front(np.stack([rows[:, 1], measured], axis=1), (np.inf, float(measured.max())))
        return np.asarray(np.argsort(behind, kind="stable")[:MOST])


_UNSURE = 0.1
"""Deviation of a quality by the calibration alone."""


def staircase(points: Array, corner: tuple[float, float]) -> tuple[Array, Array]:
    """The front of points (n, 2) below the corner: edges (k + 1,) of the first objective, from minus infinity to the
    corner, and heights (k,) of the second between them."""
    edges, heights = [-np.inf], [corner[1]]
    for x, y in sorted(points.tolist()):
        if x < corner[0] and y < heights[-1]:
            edges.append(x)
            heights.append(y)
    return np.array([*edges, corner[0]]), np.array(heights)


def behind_front(points: Array, corner: tuple[float, float]) -> Array:
    """(n,) how much worse than their own front points (n, 2) are in the second objective; 0 on it."""
    return np.asarray(points[:, 1] - front_at(points[:, 0], points, corner))


def front_at(times: Array, points: Array, corner: tuple[float, float]) -> Array:
    """(n,) the front of `points` (m, 2) at values (n,) of the first objective; beyond the corner, its end."""
    edges, heights = staircase(points, corner)
    return np.asarray(heights[np.searchsorted(edges[:-1], times, "right") - 1])


def _improvement(threshold: Array | float, mean: Array, deviation: Array) -> Array:
    """Expectation of max(0, threshold - y) for a normal y."""
    z = (threshold - mean) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(deviation * (z * ndtr(z) + density))
