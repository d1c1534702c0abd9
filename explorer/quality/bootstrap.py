"""95% bootstrap intervals (Efron and Tibshirani 1993, ch. 13), seeded, so that a study computed twice says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.estimate import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95


def resample(count: int, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """Row numbers of `resamples` samples with replacement from `count` rows: (resamples, count)."""
    return np.random.default_rng(seed).integers(0, count, size=(resamples, count))


def interval(value: float, replicates: NDArray[np.float64], n: int) -> Estimate:
    """`value` with the percentile interval of `replicates`, widened to hold the value where skew leaves it out."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), n)


def centred_interval(value: float, replicates: NDArray[np.float64], n: int, floor: float = -np.inf) -> Estimate:
    """As `interval`, of replicates moved by their bias.

    A resample repeats rows, so a statistic of its covariance (the Frechet distance) is larger than the sample's: the
    plain percentile interval can lie wholly above the value. Subtracting that bias leaves the spread, which is what
    the interval tells. `floor` is the smallest value that the statistic can have.
    """
    moved = np.maximum(replicates - replicates.mean() + value, floor)
    return interval(value, moved, n)


def mean_estimate(values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of one value a picture, `values` (N,)."""
    rows = resample(len(values), resamples, seed)
    return interval(float(values.mean()), values[rows].mean(axis=1), len(values))


def median_estimate(values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The median of `values` (N,)."""
    rows = resample(len(values), resamples, seed)
    return interval(float(np.median(values)), np.median(values[rows], axis=1), len(values))
