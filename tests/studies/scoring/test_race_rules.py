"""When a race looks, and what beats a plan there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.scoring.racing import Rival, beaten_by, losses_of, no_look, quarter, rungs

RANDOM = np.random.default_rng(0)


def rival(drift: Any, latency: float = 1.0, words: str = "a rival") -> Rival:
    return Rival(words, {"latency": latency}, {"ssim": np.asarray(drift, dtype=float)})


@pytest.mark.parametrize(
    ("count", "batch", "looks"),
    [
        (64, 8, [8, 16, 32]),
        (64, 16, [16, 32]),
        (64, 5, [10, 20, 35]),
        (64, 32, [32]),
        (64, 64, []),
        (8, 4, []),
        (9, 1, [8]),
        (100, 3, [9, 18, 33, 66]),
    ],
)
def test_looks_double_and_end_with_a_batch(count: int, batch: int, looks: list[int]) -> None:
    assert list(rungs(count, batch)) == looks


@given(st.integers(1, 500), st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_looks_are_multiples_of_the_batch_below_the_count(count: int, batch: int) -> None:
    looks = list(rungs(count, batch))
    assert looks == sorted(set(looks)) and all(8 <= look < count and look % batch == 0 for look in looks)


def test_a_plan_that_clearly_drifts_more_than_a_faster_one_is_beaten() -> None:
    prompts = RANDOM.uniform(0.0, 0.5, 16)  # how hard each prompt is: it cancels in pairs
    candidate = {"ssim": prompts + 0.02 + RANDOM.normal(0, 0.005, 16)}
    found = beaten_by([rival(prompts), rival(prompts + 0.01)], {"latency": 1.5}, candidate)
    assert found is not None and found.n == 16 and 0 < found.low < 0.02 < found.high
    assert "16 prompts" in found.words and "a rival" in found.words
    assert beaten_by([rival(prompts)], {"latency": 0.9}, candidate) is None  # the candidate is faster
    assert beaten_by([rival(prompts + 0.05)], {"latency": 1.5}, candidate) is None  # and here it drifts less
    assert beaten_by([], {"latency": 1.5}, candidate) is None


def test_a_plan_of_the_same_predicted_cost_is_no_slower() -> None:
    """Latencies that only chance tells apart do not keep a plan that another rule beats."""
    prompts = np.linspace(0, 0.4, 16)
    candidate, better = {"ssim": prompts + 0.02}, replace(rival(prompts, 1.1), predicted=0.4)
    assert beaten_by([better], {"latency": 1.0}, candidate) is None
    assert beaten_by([better], {"latency": 1.0}, candidate, predicted=0.39) is None
    assert beaten_by([better], {"latency": 1.0}, candidate, predicted=0.4) is not None


@pytest.mark.parametrize(("count", "batch", "advice"), [(32, 32, 8), (16, 16, 8), (64, 64, 16), (200, 500, 50)])
def test_a_batch_that_leaves_no_look_is_told_with_one_that_does(count: int, batch: int, advice: int) -> None:
    assert no_look(count, batch) is not None and f"--batch {advice} would" in str(no_look(count, batch))
    assert no_look(count, advice) is None and quarter(count) == advice
    assert "first checks after 8 prompts" in str(no_look(8, 4))


def test_what_the_interval_does_not_decide_goes_on() -> None:
    prompts = RANDOM.uniform(0.0, 0.5, 8)
    noise = np.array([0.1, -0.09, 0.08, -0.1, 0.12, -0.07, 0.06, -0.08])
    assert beaten_by([rival(prompts)], {"latency": 1.0}, {"ssim": prompts + noise}) is None
    assert beaten_by([rival(prompts)], {"latency": 1.0}, {"ssim": prompts}) is None  # the same pictures


def test_a_rival_must_be_better_in_every_paired_objective() -> None:
    base = np.linspace(0, 0.3, 8)
    other = Rival("it", {"latency": 1.0}, {"ssim": base, "psnr": -30 + base})
    assert beaten_by([other], {"latency": 1.0}, {"ssim": base + 0.1, "psnr": -25 + base}) is not None
    assert beaten_by([other], {"latency": 1.0}, {"ssim": base + 0.1, "psnr": -35 + base}) is None


@given(st.integers(0, 10_000), st.integers(8, 40), st.floats(0.0, 0.2))
@settings(max_examples=40, deadline=None)
def test_what_is_beaten_is_worse_on_the_same_prompts(seed: int, count: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    standing = [rival(random.uniform(0, 0.4, 40), latency) for latency in (0.5, 1.0, 2.0)]
    candidate = standing[0].drift["ssim"][:count] + shift + random.normal(0, 0.05, count)
    found = beaten_by(standing, {"latency": 1.0}, {"ssim": candidate})
    if found is not None:
        assert found.rival.costs["latency"] <= 1.0
        assert candidate.mean() > found.rival.drift["ssim"][:count].mean() and found.low > 0


def test_of_equals_few_are_dropped() -> None:
    """Two plans that differ by chance alone: the interval of 95% drops one in no more than about its 2.5%, somewhat
    more with 8 prompts, as a bootstrap of few values is too narrow."""
    dropped = 0
    for _ in range(400):
        hard = RANDOM.uniform(0, 0.4, 16)
        values = hard + RANDOM.normal(0, 0.05, 16)
        dropped += beaten_by([rival(hard + RANDOM.normal(0, 0.05, 16))], {"latency": 1.0}, {"ssim": values}) is not None
    assert dropped / 400 < 0.06


def test_losses() -> None:
    assert losses_of("ssim", [1.0, 0.75]).tolist() == [0.0, 0.25]
    assert losses_of("psnr", [30.0]).tolist() == [-30.0] and losses_of("lpips", [0.5]).tolist() == [0.5]
