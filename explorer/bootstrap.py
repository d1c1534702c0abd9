"""95% bootstrap intervals (Efron and Tibshirani 1993, ch. 13), seeded, so that a study computed twice says the same.

Pictures of one prompt are not independent of each other. Where a prompt was drawn several times, `groups` says which
rows belong together, and whole groups are resampled (Davison and Hinkley 1997, sec. 3.8): the interval then tells what
other prompts would have given, as it does with one picture a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from explorer.estimate import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Groups = NDArray[np.int64]

RESAMPLES = 1000
LEVEL = 0.95


def resample(count: int, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """Row numbers of `resamples` samples with replacement from `count` rows: (resamples, count)."""
    return np.random.default_rng(seed).integers(0, count, size=(resamples, count))


def resample_groups(
    count: int, resamples: int, seed: int = 0, groups: Groups | None = None
) -> Sequence[NDArray[np.int64]]:
    """Row numbers of `resamples` samples of whole groups, with replacement. groups: (count,) the group of each row;
    None: each row is its own. Where groups differ in size, so do the samples."""
    if groups is None:
        return list(resample(count, resamples, seed))
    members = _members(groups)
    return [np.concatenate([members[group] for group in drawn]) for drawn in resample(len(members), resamples, seed)]


def _members(groups: Groups) -> list[NDArray[np.int64]]:
    """The rows of each group, the groups in the order of their first rows."""
    found: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        found.setdefault(group, []).append(row)
    return [np.array(rows) for rows in found.values()]


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


def mean_estimate(
    values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0, groups: Groups | None = None
) -> Estimate:
    """The mean of one value a picture, `values` (N,)."""
    if groups is None:
        rows = resample(len(values), resamples, seed)
        return interval(float(values.mean()), values[rows].mean(axis=1), len(values))
    members = _members(groups)
    sums = np.array([values[rows].sum() for rows in members])
    sizes = np.array([len(rows) for rows in members])
    drawn = resample(len(members), resamples, seed)
    return interval(float(values.mean()), sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), len(values))
