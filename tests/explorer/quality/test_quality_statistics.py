"""Frechet distance, KID and inception score against independent implementations, and their intervals."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from explorer.bootstrap import interval, mean_estimate
from explorer.errors import ScoreError
from explorer.quality import frechet, inception_score, kid

Array = NDArray[np.float64]


def draw(count: int, width: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Array:
    """Correlated features."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width)
    return scale * random.normal(size=(count, width)) @ mixing + shift


class Identity(torch.nn.Module):
    """What torchmetrics calls its network, when the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


def scipy_frechet(one: Array, other: Array) -> float:
    """The formula as it is written, with a general matrix square root."""
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cross = scipy.linalg.sqrtm(a @ b)
    gap = one.mean(axis=0) - other.mean(axis=0)
    return float(gap @ gap + np.trace(a + b - 2 * np.real(cross)))


SIZES = [(200, 12), (64, 64), (65, 64), (40, 100)]


@pytest.mark.parametrize(("count", "width"), SIZES)
def test_frechet_against_scipy(count: int, width: int) -> None:
    ours, reference = draw(count, width, 1, 0.3, 1.2), draw(3 * count, width, 2)
    mean, covariance = frechet.statistics(reference)
    expected = scipy_frechet(ours, reference)
    assert frechet.distance(*frechet.statistics(ours), mean, covariance) == pytest.approx(expected, abs=1e-3)
    assert frechet.estimate(ours, mean, covariance, resamples=5).value == pytest.approx(expected, abs=1e-3)
    assert frechet.between(ours, reference) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("count", "width"), SIZES[:3])
def test_frechet_against_torchmetrics(count: int, width: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    ours, reference = draw(count, width, 1, 0.3, 1.2), draw(3 * count, width, 2)
    metric = FrechetInceptionDistance(feature=Identity(width)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(ours), real=False)
    metric.update(torch.from_numpy(reference), real=True)
    mean, covariance = frechet.statistics(reference)
    assert frechet.estimate(ours, mean, covariance, 5).value == pytest.approx(float(metric.compute()), abs=1e-3)


@pytest.mark.parametrize(("count", "width"), [*SIZES, (30, 200)])
def test_both_ways_of_resampling_agree(count: int, width: int) -> None:
    """Gram matrices and covariances are the same formula; a wrong centring shows only in resamples."""
    ours, reference = draw(count, width, 1, 0.5), draw(50, width, 2)
    mean, covariance = frechet.statistics(reference)
    rows = np.random.default_rng(0).integers(0, count, count)
    by_gram = frechet._by_gram(ours, mean, covariance)(rows)
    by_covariance = frechet._by_covariance(ours, mean, covariance)(rows)
    assert by_gram == pytest.approx(by_covariance, abs=1e-5)


def test_a_paired_resample_is_the_distance_of_the_resampled_pairs() -> None:
    ours, reference = draw(20, 50, 1, 0.5), draw(20, 50, 2)
    found = frechet.paired_estimate(ours, reference, resamples=1, seed=5)
    rows = np.random.default_rng(5).integers(0, 20, size=(1, 20))[0]
    assert found.value == pytest.approx(scipy_frechet(ours, reference), abs=1e-3)
    # One replicate, moved onto the value by its own bias, is the value.
    assert found.low == pytest.approx(found.value) and found.high == pytest.approx(found.value)
    two = frechet.paired_estimate(ours, reference, resamples=2, seed=5)
    rows = np.random.default_rng(5).integers(0, 20, size=(2, 20))
    spread = abs(scipy_frechet(ours[rows[0]], reference[rows[0]]) - scipy_frechet(ours[rows[1]], reference[rows[1]]))
    assert two.high - two.low == pytest.approx(0.95 * spread, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), width=st.integers(1, 20), shift=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_properties_of_the_frechet_distance(count: int, width: int, shift: float, seed: int) -> None:
    features = draw(count, width, seed)
    assert frechet.between(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet.between(features, features + shift) == pytest.approx(width * shift**2, abs=1e-6)
    other = draw(count + 3, width, seed + 1)
    assert frechet.between(features, other) == pytest.approx(frechet.between(other, features), abs=1e-6)
    same = frechet.paired_estimate(features, features, resamples=10)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-6)
    found = frechet.estimate(features, *frechet.statistics(other), resamples=10)
    assert 0 <= found.low <= found.value <= found.high


@pytest.mark.parametrize(("count", "width"), [(60, 8), (12, 40)])
def test_a_difference_of_frechet_distances_is_of_the_same_pairs(count: int, width: int) -> None:
    mean, cov = frechet.statistics(draw(500, width, 7))
    one = draw(count, width, 8)
    other = one + draw(count, width, 9, scale=0.05) + 0.5
    found = frechet.difference_estimate(other, one, mean, cov, resamples=40)
    both = [frechet.estimate(side, mean, cov, resamples=40) for side in (other, one)]
    assert found.value == pytest.approx(both[0].value - both[1].value)
    assert found.high - found.low < sum(each.high - each.low for each in both)
    same = frechet.difference_estimate(one, one, mean, cov, resamples=5)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_the_interval_of_a_frechet_distance_covers_what_other_samples_give() -> None:
    """The expected distance at this N lies inside in about 95 of 100 samples; a plain percentile interval misses it."""
    reference = draw(400, 16, 7)
    mean, covariance = frechet.statistics(reference)
    expected = np.mean([frechet.between(draw(64, 16, 1000 + k, 0.2), reference) for k in range(200)])
    inside = 0
    for k in range(60):
        found = frechet.estimate(draw(64, 16, k, 0.2), mean, covariance)
        inside += found.low <= expected <= found.high
    assert inside >= 50


def test_the_bootstrap_is_cheap() -> None:
    features, reference = draw(64, 64, 1), draw(342, 64, 2)
    mean, covariance = frechet.statistics(reference)
    frechet.estimate(features, mean, covariance)
    start = time.process_time()  # of this process alone, however busy the machine is
    frechet.estimate(features, mean, covariance)
    kid.estimate(features, reference)
    assert time.process_time() - start < 1


def mmd(features: np.ndarray, reference: np.ndarray) -> float:
    """The unbiased squared MMD over all pairs, without the interval's resamples."""
    return kid.estimate(features, reference, resamples=1).value


@pytest.mark.parametrize(("count", "other"), [(64, 64), (30, 90), (90, 30), (1500, 40)])
def test_kid_against_double_sums(count: int, other: int) -> None:
    ours, reference = draw(count, 8, 1, 0.3), draw(other, 8, 2)
    own, theirs, between = (
        np.array([[(a @ b / 8 + 1) ** 3 for b in right] for a in left])
        for left, right in ((ours[:60], ours[:60]), (reference[:60], reference[:60]), (ours[:60], reference[:60]))
    )
    m, n = len(own), len(theirs)
    expected = (own.sum() - np.trace(own)) / m / (m - 1) + (theirs.sum() - np.trace(theirs)) / n / (n - 1)
    expected -= 2 * between.mean()
    assert mmd(ours[:60], reference[:60]) == pytest.approx(expected, abs=1e-9)
    whole = kid.estimate(ours, reference)
    assert whole.value == pytest.approx(mmd(ours, reference)) and whole.low < whole.value < whole.high


def test_kid_in_blocks_of_rows_is_kid() -> None:
    ours, reference = draw(2500, 4, 1, 0.3), draw(1100, 4, 2)
    own, theirs = kid.kernel(ours, ours), kid.kernel(reference, reference)
    np.fill_diagonal(own, 0)
    np.fill_diagonal(theirs, 0)
    expected = own.sum() / 2500 / 2499 + theirs.sum() / 1100 / 1099 - 2 * kid.kernel(ours, reference).mean()
    assert mmd(ours, reference) == pytest.approx(expected, abs=1e-9)


def test_kid_against_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    ours, reference = draw(80, 32, 1, 0.3, 1.3), draw(80, 32, 2)
    metric = KernelInceptionDistance(feature=Identity(32), subsets=1, subset_size=80)
    metric.update(torch.from_numpy(ours), real=False)
    metric.update(torch.from_numpy(reference), real=True)
    expected = float(metric.compute()[0])
    assert mmd(ours, reference) == pytest.approx(expected, abs=1e-3)


def test_kid_has_no_bias_where_the_frechet_distance_has() -> None:
    reference = draw(500, 64, 3)
    ours = [draw(32, 64, 100 + k) for k in range(40)]
    values = [mmd(each, reference) for each in ours]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)
    assert np.mean([frechet.between(each, reference) for each in ours]) > 5


def test_the_interval_of_kid_covers_the_truth() -> None:
    reference = draw(400, 16, 7)
    expected = np.mean([mmd(draw(64, 16, 1000 + k, 0.2), reference) for k in range(200)])
    inside = 0
    for k in range(60):
        found = kid.estimate(draw(64, 16, k, 0.2), reference)
        inside += found.low <= expected <= found.high
    assert inside >= 48


def test_a_paired_kid_is_zero_for_the_same_pictures_and_follows_drift() -> None:
    """The usual estimator takes the two sets for independent, and is negative where they are the same pictures."""
    features, noise = draw(32, 8, 1), draw(32, 8, 2)
    same = kid.estimate(features, features, paired=True)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert kid.estimate(features, features).value < -0.1
    near, far = (kid.estimate(features + step * noise + step, features, paired=True) for step in (0.1, 0.5))
    assert 0 < near.value < far.value
    ours, theirs = features + 0.5 * noise, features
    terms = [
        kid.kernel(ours[[i]], ours[[j]]) + kid.kernel(theirs[[i]], theirs[[j]])
        - kid.kernel(ours[[i]], theirs[[j]]) - kid.kernel(ours[[j]], theirs[[i]])
        for i in range(32)
        for j in range(32)
        if i != j
    ]  # fmt: skip
    assert kid.estimate(ours, theirs, paired=True).value == pytest.approx(np.mean(terms))


def test_the_inception_score_against_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = 3 * draw(90, 20, 4)
    metric = InceptionScore(feature=Identity(20), splits=1)
    metric.update(torch.from_numpy(logits))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = float(metric.compute()[0])
    assert inception_score.score(logits) == pytest.approx(expected, abs=1e-3)
    found = inception_score.estimate(logits)
    assert found.low < found.value < found.high and found.value == pytest.approx(inception_score.score(logits))


def test_the_ends_of_the_inception_score() -> None:
    assert inception_score.score(np.zeros((8, 5))) == pytest.approx(1)
    assert inception_score.score(1000 * np.eye(7)) == pytest.approx(7)
    alike = inception_score.estimate(np.tile([3.0, 1.0, 0.0], (6, 1)))
    assert (alike.value, alike.low, alike.high) == pytest.approx((1, 1, 1))


def test_too_few_pictures_are_refused() -> None:
    one, many = draw(1, 4, 0), draw(9, 4, 1)
    statistics = frechet.statistics(many)
    for call in (
        lambda: frechet.statistics(one),
        lambda: frechet.estimate(one, *statistics),
        lambda: frechet.between(one, one),
        lambda: frechet.paired_estimate(many, many[:5]),
        lambda: frechet.difference_estimate(many, many[:5], many[0], np.eye(many.shape[1])),
        lambda: kid.estimate(one, many),
        lambda: kid.estimate(many, one),
        lambda: kid.estimate(many, many[:5], paired=True),
        lambda: inception_score.score(one),
    ):
        with pytest.raises(ScoreError):
            call()


def test_bootstrap_intervals_of_a_mean_cover_it_in_about_95_of_100() -> None:
    inside = 0
    for seed in range(200):
        found = mean_estimate(np.random.default_rng(seed).normal(3, 1, 60), seed=seed)
        inside += found.low <= 3 <= found.high
    assert 180 <= inside <= 198


def test_pictures_of_one_prompt_are_resampled_together() -> None:
    """16 prompts, 8 pictures each, most of the spread between prompts: taking pictures as independent covers the mean
    in about half of the samples."""
    prompts = np.arange(128) % 16
    inside = {"by prompt": 0, "by picture": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        values = 3 + random.normal(0, 1, 16)[prompts] + random.normal(0, 0.5, 128)
        for name, groups in (("by prompt", prompts), ("by picture", None)):
            found = mean_estimate(values, seed=seed, groups=groups)
            inside[name] += found.low <= 3 <= found.high
            assert found.n == 128
    assert inside["by prompt"] >= 176 and inside["by picture"] <= 130


def test_a_picture_a_prompt_is_the_plain_bootstrap_and_repeats_add_nothing() -> None:
    values = np.random.default_rng(1).normal(size=30)
    plain = mean_estimate(values)
    alone = mean_estimate(values, groups=np.arange(30))
    again = mean_estimate(np.tile(values, 4), groups=np.arange(120) % 30)
    for found in (alone, again):
        assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))


@pytest.mark.parametrize("width", [8, 200])
def test_distances_resample_prompts_too(width: int) -> None:
    """The same 25 rows three times over: a resample of rows believes in 75, a resample of prompts in 25."""
    features, reference = np.tile(draw(25, width, 1, 0.5), (3, 1)), draw(75, width, 2)
    features += draw(75, width, 3, scale=1e-3)
    mean, covariance = frechet.statistics(reference)
    prompts, uneven = np.arange(75) % 25, np.arange(70) % 25
    logits = features[:, :8]
    for of in (
        lambda groups: frechet.estimate(features, mean, covariance, resamples=60, groups=groups),
        lambda groups: frechet.paired_estimate(features, reference, resamples=60, groups=groups),
        lambda groups: kid.estimate(features, reference, groups=groups),
        lambda groups: inception_score.estimate(logits, groups=groups),
    ):
        together, apart = of(prompts), of(None)
        assert together.value == pytest.approx(apart.value)
        assert together.high - together.low > 1.2 * (apart.high - apart.low)
    assert frechet.paired_estimate(features[:70], reference[:70], resamples=5, groups=uneven).n == 70


def test_bootstrap_is_seeded() -> None:
    values = np.random.default_rng(1).normal(size=20)
    assert mean_estimate(values) == mean_estimate(values)
    assert mean_estimate(values, seed=1) != mean_estimate(values, seed=2)
    assert interval(5.0, np.array([1.0, 2.0]), 3).high == 5.0
