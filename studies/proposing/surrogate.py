"""What measured plans tell of others: Gaussian process regression (Rasmussen and Williams 2006, Ch. 2 and 5.4.1).

Few plans are ever measured (tens to hundreds) and what is asked of them is smooth, so the kernel is plain: a line along
the first feature, its slope free; a smooth departure from it; and what plans that are alike in all features share. How
much each of the last two and the noise count is chosen from a small grid by the likelihood of what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

Array = NDArray[np.float64]
SMOOTH, ALIKE, NOISE = (0.1, 0.3, 0.6), (0.1, 0.2, 0.4), (0.03, 0.1, 0.3)
"""Standard deviations to choose from, over that of the values."""
LINE = 1.5
"""Standard deviation of the line's height and slope: wide, as both follow from a few plans."""
_JITTER = 1e-9


class Surrogate:
    """Fitted to `values` (n,) at `features` (n, k). lengths: (k,), the distance in each feature over which plans have
    little in common any more."""

    def __init__(self, features: Array, values: Array, lengths: Sequence[float]) -> None:
        self._lengths = np.asarray(lengths, dtype=np.float64)
        self._mean, self._spread = float(np.mean(values)), float(np.std(values)) or 1.0
        self._origin = float(np.mean(features[:, 0]))
        self._known = self._scaled(features)
        targets = (values - self._mean) / self._spread
        parts = self._parts(self._known)
        best = -np.inf
        for smooth, alike, noise in product(SMOOTH, ALIKE, NOISE):
            covariance = self._sum(parts, smooth, alike)
            covariance[np.diag_indices_from(covariance)] += noise**2 + _JITTER
            lower = cholesky(covariance, lower=True)
            weights = cho_solve((lower, True), targets)
            likelihood = -0.5 * float(targets @ weights) - float(np.log(np.diag(lower)).sum())
            if likelihood > best:
                best = likelihood
                self._smooth, self._alike, self._lower, self._weights = smooth, alike, lower, weights

    def __call__(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (m,) at `features` (m, k), without the noise of a measurement."""
        asked = self._scaled(features)
        between = self._sum(self._parts(asked, self._known), self._smooth, self._alike)
        own = LINE**2 * (1 + asked[:, 0] ** 2) + self._smooth**2 + self._alike**2
        explained = solve_triangular(self._lower, between.T, lower=True)
        deviation = np.sqrt(np.maximum(own - (explained**2).sum(axis=0), _JITTER))
        return self._mean + self._spread * (between @ self._weights), self._spread * deviation

    def _scaled(self, features: Array) -> Array:
        scaled = np.array(features, dtype=np.float64)
        scaled[:, 0] -= self._origin
        return np.asarray(scaled / self._lengths)

    @staticmethod
    def _parts(one: Array, other: Array | None = None) -> tuple[Array, Array, Array]:
        """Line, departure from it and likeness, each (n, m)."""
        other = one if other is None else other
        line = 1 + np.outer(one[:, 0], other[:, 0])
        first = (one[:, None, 0] - other[None, :, 0]) ** 2
        squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
        return line, np.exp(-0.5 * first), np.exp(-0.5 * np.maximum(squares, 0.0))

    @staticmethod
    def _sum(parts: tuple[Array, Array, Array], smooth: float, alike: float) -> Array:
        line, first, likeness = parts
        return np.asarray(LINE**2 * line + smooth**2 * first + alike**2 * likeness)
