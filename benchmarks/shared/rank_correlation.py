"""Correlations with bootstrap intervals over what is ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.bootstrap import interval, resample
from explorer.estimate import Estimate

Array = NDArray[np.float64]
RESAMPLES = 1000
LEAST = 4
"""Plans below which a rank correlation says nothing."""


def kendall(ours: Array, theirs: Array) -> float:
    """Kendall's tau-b of (n,) and (n,); NaN where one of them is constant. (scipy's takes 30 times as long on 30 plans,
    and a bootstrap asks for thousands.)"""
    first, second = np.sign(ours[:, None] - ours), np.sign(theirs[:, None] - theirs)
    norm = float((first * first).sum() * (second * second).sum())
    return float((first * second).sum()) / norm**0.5 if norm > 0 else float("nan")


def spearman(ours: Array, theirs: Array) -> float:
    """Spearman's rho of (n,) and (n,); NaN where one of them is constant."""
    from scipy.stats import rankdata

    first, second = rankdata(ours), rankdata(theirs)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def pearson(ours: Array, theirs: Array) -> float:
    """Pearson's correlation of (n,) and (n,); NaN where one of them is constant."""
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


KINDS: dict[str, Callable[[Array, Array], float]] = {"kendall": kendall, "spearman": spearman}
"""Those of ranks."""
CORRELATIONS = KINDS | {"pearson": pearson}


def correlate(ours: Array, theirs: Array, kind: str = "kendall") -> Estimate | None:
    """The correlation with its 95% interval over the plans; None for fewer than LEAST plans, or where one side is
    constant. A plan that a resample holds twice is tied with itself on both sides, which tau-b leaves out."""
    if len(ours) < LEAST:
        return None
    measure = CORRELATIONS[kind]
    value = measure(ours, theirs)
    draws = np.array([measure(ours[rows], theirs[rows]) for rows in resample(len(ours), RESAMPLES)])
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return None
    return interval(value, draws, len(ours))


def difference(ours: Array, theirs: Array, truth: Array, kind: str = "kendall") -> Estimate | None:
    """How much better `ours` ranks than `theirs`, on the same resamples of plans; None as `correlate`."""
    if len(ours) < LEAST:
        return None
    measure = KINDS[kind]
    value = measure(ours, truth) - measure(theirs, truth)
    rows = resample(len(ours), RESAMPLES)
    draws = np.array([measure(ours[each], truth[each]) - measure(theirs[each], truth[each]) for each in rows])
    draws = draws[np.isfinite(draws)]
    return interval(value, draws, len(ours)) if np.isfinite(value) and len(draws) else None


def cell(row: Any) -> str:
    """An estimate's document as `0.93 [0.85, 0.97]`; empty where there is none."""
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if row else ""


def document(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_json()
