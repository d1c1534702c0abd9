"""The kernel distance: unbiased squared MMD with the polynomial kernel (x.y / d + 1)^3 (Binkowski et al. 2018, arXiv
1801.01401, Sec. 3).

It has no bias at small N, where the Frechet distance is almost all bias, so it is what ranks candidates on few
pictures. It may be negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.bootstrap import centred_interval, resample_groups
from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.quality.registry import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from explorer.bootstrap import Groups
    from explorer.quality.features import Features
    from explorer.quality.reference import Reference

    Array = NDArray[np.float64]

MINIMUM = METRICS["kid"].minimum
"""Pictures that an unbiased estimate needs on each side."""

RESAMPLES = 500

_ROWS = 1024
"""Rows of a kernel matrix held at once: 30,000 pictures a side would fill 7 GB."""


def kernel(features: Array, other: Array) -> Array:
    """(N, d), (M, d) -> (N, M)."""
    similarity: Array = (features @ other.T / features.shape[1] + 1) ** 3
    return similarity


def _check(features: Array, reference: Array) -> None:
    for what, rows in (("candidate", features), ("reference", reference)):
        if len(rows) < MINIMUM:
            raise ScoreError(f"KID needs at least {MINIMUM} pictures on each side, and the {what} has {len(rows)}.")


def _within(features: Array, weights: Array, other: Array | None = None) -> Array:
    """For each row of weights (R, N) the weighted mean of the kernel over pairs of different rows of features: (R,).

    A pair of a row with itself never counts, in a resample either: that keeps a resample as unbiased as the estimator.
    With `other` (N, d) the second row of a pair is taken from there.
    """
    total = np.zeros(len(weights))
    for start in range(0, len(features), _ROWS):
        block = kernel(features[start : start + _ROWS], features if other is None else other)
        own = np.arange(len(block))
        block[own, start + own] = 0
        total += ((weights[:, start : start + _ROWS] @ block) * weights).sum(axis=1)
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    # A resample of one row repeated has no pair of different rows and says nothing.
    return np.divide(total, pairs, out=np.zeros(len(weights)), where=pairs > 0)


def _between(features: Array, reference: Array, weights: Array, others: Array) -> Array:
    """For each row of weights (R, N) and others (R or 1, M) the weighted mean of the kernel over all pairs: (R,)."""
    total = np.zeros(len(weights))
    for start in range(0, len(features), _ROWS):
        block = kernel(features[start : start + _ROWS], reference)
        total += ((weights[:, start : start + _ROWS] @ block) * others).sum(axis=1)
    mean: Array = total / (weights.sum(axis=1) * others.sum(axis=1))
    return mean


def _apart(features: Array, reference: Array, weights: Array, own: Array) -> Array:
    """Two independent sets, the reference fixed: (R,). own: the reference's term."""
    whole = np.ones((1, len(reference)))
    value: Array = _within(features, weights) + own - 2 * _between(features, reference, weights, whole)
    return value


def _together(features: Array, reference: Array, weights: Array, own: Array) -> Array:
    """Two sets whose rows belong together: Gretton et al. 2012 (JMLR 13), Eq. 4, which leaves a row's own partner out.

    Without that, a set compared with itself would score far below zero.
    """
    value: Array = _within(features, weights) + own - 2 * _within(features, weights, reference)
    return value


def _weights(count: int, resamples: int, seed: int, groups: Groups | None = None) -> Array:
    """(resamples + 1, count): how often each row is in each sample; the first is the sample itself."""
    rows = resample_groups(count, resamples, seed, groups)
    drawn = np.stack([np.bincount(chosen, minlength=count) for chosen in rows]).astype(np.float64)
    return np.vstack([np.ones((1, count)), drawn])


def own_term(
    reference: Array,
    *,
    paired: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Groups | None = None,
) -> Array:
    """What `estimate` needs of the reference (M, d) alone, (1,) or where `paired` (resamples + 1,): compute it once for
    many candidates.
    """
    whole = np.ones((1, len(reference)))
    return _within(reference, _weights(len(reference), resamples, seed, groups) if paired else whole)


def estimate(
    features: Array,
    reference: Array,
    *,
    paired: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Groups | None = None,
    own: Array | None = None,
) -> Estimate:
    """KID of features (N, d) against reference (M, d) with a bootstrap interval over the N pictures, the reference
    held fixed.

    All pairs are used rather than random subsets: the same expectation, less noise, and no subset size to choose.
    `paired` says that the rows belong together (same prompt and seed): the reference's rows are then resampled with
    the candidate's. groups: (N,) the prompt of each row, where some were drawn several times. own: `own_term` of the
    same reference, resamples, seed and groups, where it exists already.
    """
    _check(features, reference)
    if paired and len(features) != len(reference):
        raise ScoreError(
            f"A paired KID needs as many pictures on both sides; {len(features)} and {len(reference)} were given."
        )
    count = len(features)
    if own is None:
        own = own_term(reference, paired=paired, resamples=resamples, seed=seed, groups=groups)
    values = (_together if paired else _apart)(features, reference, _weights(count, resamples, seed, groups), own)
    return centred_interval(float(values[0]), values[1:], count)


def of_set(features: Features, reference: Reference | None, groups: Groups | None) -> Estimate:
    """The metric `kid`: the kernel distance of features from those of a reference."""
    assert reference is not None
    # where rows of a paired reference are resampled by prompt, its own term is another one for each grouping
    own = None if reference.paired and groups is not None else reference.kernel_term
    return estimate(features.values, reference.features, paired=reference.paired, groups=groups, own=own)
