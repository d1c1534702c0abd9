from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from benchmarks.shared.rank_correlation import CORRELATIONS, cell, correlate, difference, document, kendall, spearman

ORDER = np.arange(12.0)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_the_same_order_is_one_and_the_reverse_minus_one(kind: str) -> None:
    for values, wanted in ((ORDER if kind == "pearson" else ORDER**3, 1.0), (-ORDER, -1.0)):
        found = correlate(ORDER, values, kind)
        assert found is not None
        assert (found.value, found.low, found.high) == pytest.approx((wanted, wanted, wanted))


def test_they_are_scipys_also_with_ties() -> None:
    random = np.random.default_rng(0)
    one, other = (random.integers(0, 5, len(ORDER)).astype(float) for _ in range(2))
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert kendall(one, other) == pytest.approx(kendalltau(one, other).statistic)


def test_the_interval_holds_the_value_and_narrows_with_plans() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=120)
    noisy = truth + 0.5 * random.normal(size=120)
    many, few = correlate(noisy, truth), correlate(noisy[:15], truth[:15])
    assert many is not None and few is not None
    assert many.low < many.value < many.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("values", [np.zeros(12), ORDER[:3]])
def test_a_constant_side_and_too_few_plans_say_nothing(values: np.ndarray) -> None:
    assert correlate(values, ORDER[: len(values)]) is None
    assert document(None) is None and cell(None) == ""


def test_the_better_side_ranks_better_on_the_same_plans() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=60)
    good, bad = truth + 0.1 * random.normal(size=60), truth + 3 * random.normal(size=60)
    found = difference(good, bad, truth)
    assert found is not None and found.low > 0
    same = difference(good, good, truth)
    assert same is not None and (same.low, same.high) == (0, 0)
