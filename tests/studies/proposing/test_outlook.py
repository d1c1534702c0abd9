"""What is expected of plans before they are measured: the regression, the points, and the gain in hypervolume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies import Objective
from studies.pareto.front import hypervolume
from studies.pareto.scale import Scale
from studies.proposing.descriptors import lengths
from studies.proposing.outlook import MOST, Outlook, staircase
from studies.proposing.surrogate import ALIKE, LINE, NOISE, SMOOTH, Surrogate

LATENCY, SPEEDUP = Objective("latency", "minimize"), Objective("speedup", "maximize")
PSNR, CLIP, FD = (Objective(*each) for each in (("psnr", "maximize"), ("clip", "maximize"), ("fd", "minimize")))
DECIBELS = 20 / math.log(10)


def rows_of(drifts: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Features of plans that differ in predicted drift and cost alone."""
    rows = np.zeros((len(drifts), len(lengths())))
    rows[:, 0], rows[:, 1] = np.log(drifts), costs
    return rows


# The regression --------------------------------------------------------------------------------------------------


def test_the_regression_is_that_of_the_textbook() -> None:
    random = np.random.default_rng(0)
    features, values = random.normal(size=(12, 3)), random.normal(size=12)
    asked, lengths = random.normal(size=(5, 3)), (1.0, 0.5, 2.0)
    centre, spread = values.mean(), values.std()
    origin = np.array([features[:, 0].mean(), 0.0, 0.0])
    known, new, targets = (
        (features - origin) / np.array(lengths),
        (asked - origin) / np.array(lengths),
        (values - centre) / spread,
    )

    def kernel(one: np.ndarray, other: np.ndarray, smooth: float, alike: float) -> np.ndarray:
        return np.array(
            [
                [
                    LINE**2 * (1 + a[0] * b[0])
                    + smooth**2 * math.exp(-((a[0] - b[0]) ** 2) / 2)
                    + alike**2 * math.exp(-float(((a - b) ** 2).sum()) / 2)
                    for b in other
                ]
                for a in one
            ]
        )

    def of(smooth: float, alike: float, noise: float) -> tuple[float, np.ndarray, np.ndarray]:
        covariance = kernel(known, known, smooth, alike) + noise**2 * np.eye(12)
        inverse = np.linalg.inv(covariance)
        between = kernel(new, known, smooth, alike)
        likelihood = -0.5 * targets @ inverse @ targets - 0.5 * np.linalg.slogdet(covariance)[1]
        variance = np.diag(kernel(new, new, smooth, alike) - between @ inverse @ between.T)
        return likelihood, between @ inverse @ targets, np.sqrt(variance)

    _, mean, deviation = max((of(*each) for each in np.array(np.meshgrid(SMOOTH, ALIKE, NOISE)).T.reshape(-1, 3)),
                             key=lambda found: found[0])  # fmt: skip
    got = Surrogate(features, values, lengths)(asked)
    assert np.allclose(got[0], centre + spread * mean, atol=1e-6)
    assert np.allclose(got[1], spread * deviation, atol=1e-6)


def test_a_line_goes_on_and_certainty_ends_with_the_data() -> None:
    x = np.linspace(0, 1, 8)
    fitted = Surrogate(np.stack([x, x], axis=1), 3 - 2 * x, (1.0, 1.0))
    mean, deviation = fitted(np.array([[0.5, 0.5], [1.5, 1.5], [0.5, 9.0]]))
    assert mean[:2] == pytest.approx([2.0, 0.0], abs=0.1)
    assert deviation[0] < deviation[1] and deviation[0] < deviation[2]


# Points and gains ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 1.2)), max_size=12),
    st.tuples(st.floats(0, 1.2), st.floats(0, 1.2)),
)
def test_a_staircase_holds_the_hypervolume(points: list[tuple[float, float]], new: tuple[float, float]) -> None:
    corner = (1.0, 1.1)
    edges, heights = staircase(np.array(points).reshape(-1, 2), corner)
    assert (np.diff(edges) >= 0).all() and (np.diff(heights) < 0).all()
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], new[0]), 0, None)
    gained = float((widths * np.clip(heights - new[1], 0, None)).sum())
    volumes = [hypervolume(np.array(some).reshape(-1, 2), corner) for some in (points, [*points, new])]
    assert gained == pytest.approx(volumes[1] - volumes[0], abs=1e-9)


def measured(
    objectives: tuple[Objective, ...], count: int = 12, seed: int = 0, bias: float = 0.0
) -> tuple[np.ndarray, np.ndarray, Outlook]:
    """Plans whose quality follows their predicted drift; bias: dB that those of forecast1 do better than predicted."""
    random = np.random.default_rng(seed)
    costs = random.uniform(0.2, 1.0, count)
    rows = rows_of(np.exp(random.uniform(-5, 0, count)), costs)
    rows[::2, 8] = 1.0  # forecast1
    decibels = 10 - DECIBELS * rows[:, 0] + bias * rows[:, 8]
    values = {
        "latency": 0.4 * costs, "speedup": -1 / costs, "psnr": -decibels, "clip": -decibels / 2, "fd": 50 - decibels,
    }  # fmt: skip
    losses = np.stack([values[objective.name] for objective in objectives], axis=1)
    return rows, losses, Outlook(rows, losses, objectives, Scale(losses.min(axis=0), losses.max(axis=0)))


@pytest.mark.parametrize(
    "objectives", [(LATENCY, PSNR), (SPEEDUP, PSNR), (LATENCY, FD, CLIP), (FD, PSNR, LATENCY), (PSNR, CLIP)]
)
def test_measured_plans_are_expected_where_they_were_measured(objectives: tuple[Objective, ...]) -> None:
    rows, losses, outlook = measured(objectives)
    scaled = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
    timed = [k for k, each in enumerate(objectives) if each.name in ("latency", "speedup")]
    quality = np.delete(scaled, timed, axis=1).mean(axis=1)
    time, expected, deviation = outlook(rows)
    assert expected == pytest.approx(quality, abs=0.05)
    assert time == pytest.approx(scaled[:, timed[0]] if timed else rows[:, 1], abs=0.02)
    assert (deviation < 0.1).all()
    assert outlook.corner[0] == pytest.approx(1.1 if timed else 1.0)


def test_what_was_foretold_badly_is_put_right() -> None:
    _, losses, outlook = measured((LATENCY, PSNR), count=30, bias=6.0)
    pair = rows_of(np.array([0.05, 0.05]), np.array([0.5, 0.5]))
    pair[1, 8] = 1.0
    _, quality, _ = outlook(pair)
    found = (quality[0] - quality[1]) * float(np.ptp(losses[:, 1]))
    assert found == pytest.approx(6.0, abs=1.5)


def test_without_measurements_the_calibration_has_the_word() -> None:
    rows = rows_of(np.array([1e-3, 0.1, 1.0]), np.array([0.9, 0.5, 0.2]))
    nothing = np.empty((0, 2))
    for scale in (None, Scale(np.zeros(2), np.ones(2))):
        outlook = Outlook(np.empty((0, len(lengths()))), nothing, (LATENCY, PSNR), scale)
        time, quality, _ = outlook(rows)
        assert time == pytest.approx(rows[:, 1]) and quality == pytest.approx([0.0, 2 / 3, 1.0])
        assert not len(outlook.points) and outlook.gains(rows, nothing, 0.0)[0] > 0


def test_scores_that_are_no_numbers_are_left_out() -> None:
    rows, losses, _ = measured((LATENCY, PSNR))
    losses[3, 1] = np.nan
    scale = Scale(np.nanmin(losses, axis=0), np.nanmax(losses, axis=0))
    outlook = Outlook(rows, losses, (LATENCY, PSNR), scale)
    assert len(outlook.points) == 11 and all(np.isfinite(each).all() for each in outlook(rows))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.25, 1.0]))
def test_gains_are_those_of_draws(seed: int, surely: float) -> None:
    _, _, outlook = measured((LATENCY, PSNR), seed=seed)
    random = np.random.default_rng(seed)
    rows = rows_of(np.exp(random.uniform(-6, 0, 4)), random.uniform(0.1, 1.1, 4))
    others = random.uniform(0, 1, (2, 2))
    time, quality, deviation = outlook(rows)
    front, best = np.concatenate([outlook.points, others]), 0.0  # the best measured is the scale's low end
    before = hypervolume(front, outlook.corner)
    draws = np.maximum(quality + surely * deviation * random.normal(size=(400, 1)), best)
    found = outlook.gains(rows, others, surely)
    for k in range(len(rows)):
        volumes = [hypervolume(np.vstack([front, (time[k], draw)]), outlook.corner) for draw in draws[:, k]]
        noise = 4 * float(np.std(volumes)) / math.sqrt(len(draws)) + 1e-5
        assert found[k] == pytest.approx(float(np.mean(volumes)) - before, abs=noise)


def test_a_long_study_is_fitted_to_what_is_near_its_front() -> None:
    rows, losses, outlook = measured((LATENCY, PSNR), count=MOST + 40)
    assert len(outlook.points) == MOST
    edges, heights = staircase((losses - losses.min(axis=0)) / np.ptp(losses, axis=0), (1.1, 1.1))
    kept = {round(float(x), 2) for x in outlook.points[:, 0]}
    assert {round(float(x), 2) for x in edges[1:-1]} <= kept and len(heights) > 3
    assert len(rows) == MOST + 40


def test_plans_like_those_that_a_race_dropped_are_not_expected_to_gain() -> None:
    rows, losses, outlook = measured((LATENCY, PSNR), count=20)
    promising = rows_of(np.array([1e-3, 1.2e-3, 0.9e-3]), np.array([0.3, 0.31, 0.3]))
    promising[:, 9] = 1.0  # of a rule that nothing else has
    nothing = np.empty((0, 2))
    scale = Scale(losses.min(axis=0), losses.max(axis=0))
    other = Outlook(rows, losses, (LATENCY, PSNR), scale, promising[:2])
    before, after = (each.gains(promising[2:], nothing, 0.0)[0] for each in (outlook, other))
    assert before > 0.05 and after < 0.3 * before
    far = rows_of(np.array([0.05]), np.array([0.5]))
    assert other(far)[1] == pytest.approx(outlook(far)[1], abs=0.15)
