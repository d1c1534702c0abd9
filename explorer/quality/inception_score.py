"""The inception score: exp of the mean KL divergence of a picture's classes from all pictures' (Salimans et al. 2016,
arXiv 1606.03498, Sec. 4).
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

MINIMUM = METRICS["is"].minimum
RESAMPLES = 200


def score(logits: Array) -> float:
    """The score of logits (N, classes), all pictures in one split: splits lower the score and are a habit of N =
    50,000.
    """
    if len(logits) < MINIMUM:
        raise ScoreError(f"An inception score needs at least {MINIMUM} pictures, and {len(logits)} was given.")
    probabilities, entropy = _classes(logits)
    return _score(probabilities.mean(axis=0), float(entropy.mean()))


def _classes(logits: Array) -> tuple[Array, Array]:
    """Class probabilities (N, classes) and each picture's sum of p log p (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    probabilities = np.exp(logarithms)
    return probabilities, (probabilities * logarithms).sum(axis=1)


def _score(marginal: Array, negative_entropy: float) -> float:
    """mean KL(p || q) = mean sum p log p - sum q log q, as q is the mean of the p."""
    present = marginal[marginal > 0]
    return float(np.exp(negative_entropy - (present * np.log(present)).sum()))


def estimate(logits: Array, resamples: int = RESAMPLES, seed: int = 0, groups: Groups | None = None) -> Estimate:
    """The score of logits (N, classes) with a bootstrap interval over the pictures; a resample repeats pictures, so
    its bias is taken out.
    """
    value = score(logits)
    probabilities, entropy = _classes(logits)
    rows = resample_groups(len(logits), resamples, seed, groups)
    replicates = np.array(
        [_score(probabilities[chosen].mean(axis=0), float(entropy[chosen].mean())) for chosen in rows]
    )
    return centred_interval(value, replicates, len(logits), floor=1.0)


def of_set(features: Features, reference: Reference | None, groups: Groups | None) -> Estimate:
    """The metric `is`: the score of the features' class logits. No reference is read."""
    assert features.logits is not None
    return estimate(features.logits, groups=groups)
