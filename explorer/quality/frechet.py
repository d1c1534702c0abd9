"""The Frechet distance between two Gaussians fitted to features (Heusel et al. 2017, arXiv 1706.08500, Eq. 6).

d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)

The last trace is computed without a matrix square root of a non-symmetric product. Where rows X of features are at
hand (C1 = A'A with A the centred rows over sqrt(n - 1)), it is the sum of the square roots of the eigenvalues of A C2
A', which is n x n: with 64 pictures a 2048-dimensional distance costs a 64 x 64 eigenproblem, and so does each
bootstrap resample, by indexing the same Gram matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.bootstrap import centred_interval, resample, resample_groups
from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.quality.registry import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from explorer.bootstrap import Groups
    from explorer.quality.features import Features
    from explorer.quality.reference import Reference

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]

MINIMUM = METRICS["fd"].minimum
"""Pictures that a covariance needs."""

_SMALL, _FEW, _MANY = 256, 40, 200


def statistics(features: Array) -> tuple[Array, Array]:
    """Mean (d,) and unbiased covariance (d, d) of features (N, d). Raises ScoreError for fewer than two rows."""
    if len(features) < MINIMUM:
        raise ScoreError(f"A Frechet distance needs at least {MINIMUM} pictures, and {len(features)} was given.")
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def _root_trace(eigenvalues: NDArray[np.floating[Any]]) -> float:
    """Sum of square roots; rounding leaves tiny negative eigenvalues where the true ones are zero."""
    return float(np.sqrt(np.maximum(eigenvalues, 0)).sum())


def _root(covariance: Array) -> Array:
    """The symmetric square root of a covariance (d, d)."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """The Frechet distance between two Gaussians given by mean (d,) and covariance (d, d)."""
    root = _root(other_covariance)
    cross = _root_trace(np.linalg.eigvalsh(root @ covariance @ root))
    gap = mean - other_mean
    return max(0.0, float(gap @ gap + np.trace(covariance) + np.trace(other_covariance)) - 2 * cross)


def _replicates(count: int, dimensions: int, resamples: int | None) -> int:
    """Fewer resamples where each is a large eigenproblem: the ends of an interval need less than its being there at
    all.
    """
    return resamples or (_MANY if min(count, dimensions) <= _SMALL else _FEW)


def between(features: Array, other: Array) -> float:
    """The distance between two sets of features (N, d), (M, d) by the cheaper way: N x M Gram matrices, or d x d
    covariances.
    """
    if max(len(features), len(other)) >= features.shape[1]:
        return distance(*statistics(features), *statistics(other))
    statistics(features[:MINIMUM]), statistics(other[:MINIMUM])
    mean, other_mean = features.mean(axis=0), other.mean(axis=0)
    left, right = (features - mean) / np.sqrt(len(features) - 1), (other - other_mean) / np.sqrt(len(other) - 1)
    gap = mean - other_mean
    traces = float((left**2).sum() + (right**2).sum())
    nuclear = float(np.linalg.svd(left @ right.T, compute_uv=False).sum())
    return max(0.0, float(gap @ gap) + traces - 2 * nuclear)


def estimate(
    features: Array,
    mean: Array,
    covariance: Array,
    resamples: int | None = None,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """The distance of features (N, d) from a fixed reference, with a bootstrap interval over the N pictures (over the
    prompts that `groups` (N,) names).

    The interval is of the sampling spread alone (`centred_interval`): the bias of a small N is in the value, and the
    reference's floor shows its size.
    """
    count, dimensions = features.shape
    statistics(features[:MINIMUM])
    of_rows = (_by_covariance if dimensions < count else _by_gram)(features, mean, covariance)
    rows = resample_groups(count, _replicates(count, dimensions, resamples), seed, groups)
    value = max(0.0, of_rows(np.arange(count)))
    return centred_interval(value, np.array([of_rows(chosen) for chosen in rows]), count, floor=0.0)


def _by_covariance(features: Array, mean: Array, covariance: Array) -> Callable[[Rows], float]:
    """The distance of a choice of rows, by d x d matrices."""
    root, trace = _root(covariance), float(np.trace(covariance))

    def of_rows(chosen: Rows) -> float:
        own_mean, own = statistics(features[chosen])
        gap = own_mean - mean
        cross = _root_trace(np.linalg.eigvalsh(root @ own @ root))
        return float(gap @ gap + np.trace(own)) + trace - 2 * cross

    return of_rows


def _by_gram(features: Array, mean: Array, covariance: Array) -> Callable[[Rows], float]:
    """The distance of a choice of rows, by N x N matrices made once."""
    shifted = features - mean
    gram, weighted = shifted @ shifted.T, shifted @ covariance @ shifted.T
    trace = float(np.trace(covariance))

    def of_rows(chosen: Rows) -> float:
        count = len(chosen)
        picked = gram[np.ix_(chosen, chosen)]
        own_trace = float(np.trace(picked) - picked.sum() / count) / (count - 1)
        eigenvalues = np.linalg.eigvalsh(_centre(weighted[np.ix_(chosen, chosen)]) / (count - 1))
        return float(picked.mean()) + own_trace + trace - 2 * _root_trace(eigenvalues)

    return of_rows


def _centre(gram: Array) -> Array:
    """The Gram matrix of rows from which their mean was taken."""
    centred: Array = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
    return centred


def paired_estimate(
    features: Array, other: Array, resamples: int | None = None, seed: int = 0, groups: Groups | None = None
) -> Estimate:
    """The distance between two sets of features (N, d) whose rows belong together (same prompt and seed).

    Both sets are resampled by the same rows, so what the pairs share does not widen the interval. The cross term is
    the nuclear norm of A B'.
    """
    if features.shape != other.shape:
        raise ScoreError(
            f"A paired Frechet distance needs as many pictures on both sides; {len(features)} and {len(other)} "
            "were given."
        )
    count, dimensions = features.shape
    value = between(features, other)
    rows = resample_groups(count, _replicates(count, dimensions, resamples), seed, groups)
    if dimensions < count:
        replicates = [between(features[chosen], other[chosen]) for chosen in rows]
        return centred_interval(value, np.array(replicates), count, floor=0.0)
    # One origin for both sets: the Gram matrices then give means, traces and the cross term without touching the
    # features again.
    origin = other.mean(axis=0)
    left, right = features - origin, other - origin
    own, others, cross = left @ left.T, right @ right.T, left @ right.T
    replicates = []
    for chosen in rows:
        grid, drawn = np.ix_(chosen, chosen), len(chosen)
        a, b, c = own[grid], others[grid], cross[grid]
        gap = float(a.mean() + b.mean() - 2 * c.mean())
        traces = float(np.trace(a) - a.sum() / drawn + np.trace(b) - b.sum() / drawn) / (drawn - 1)
        nuclear = float(np.linalg.svd(_centre(c) / (drawn - 1), compute_uv=False).sum())
        replicates.append(gap + traces - 2 * nuclear)
    return centred_interval(value, np.array(replicates), count, floor=0.0)


def difference_estimate(
    features: Array, other: Array, mean: Array, covariance: Array, resamples: int | None = None, seed: int = 0
) -> Estimate:
    """How much further `features` (N, d) are from a fixed reference than `other` (N, d), whose rows belong to the same
    prompts and seeds.

    Both are resampled by the same rows, so what the pairs share does not widen the interval.
    """
    if features.shape != other.shape:
        raise ScoreError(
            f"A difference of Frechet distances needs as many pictures on both sides; {len(features)} and "
            f"{len(other)} were given."
        )
    count, dimensions = features.shape
    statistics(features[:MINIMUM])
    kind = _by_covariance if dimensions < count else _by_gram
    first, second = (kind(side, mean, covariance) for side in (features, other))
    everything = np.arange(count)
    value = max(0.0, first(everything)) - max(0.0, second(everything))
    draws = [first(rows) - second(rows) for rows in resample(count, _replicates(count, dimensions, resamples), seed)]
    return centred_interval(value, np.array(draws), count)


def of_set(features: Features, reference: Reference | None, groups: Groups | None) -> Estimate:
    """The metric `fd`: the distance of features from those of a reference."""
    assert reference is not None
    if reference.paired:
        return paired_estimate(features.values, reference.features, groups=groups)
    return estimate(features.values, reference.mean, reference.cov, groups=groups)
