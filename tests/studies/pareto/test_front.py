from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from explorer.errors import StudyError
from studies.pareto.front import dominates, hypervolume, losses, non_dominated

# Few distinct values, so that ties and equal points are common.
points_of = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), min_size=1, max_size=40)
)


@given(points_of)
def test_front_is_what_no_other_point_dominates(points: list[list[int]]) -> None:
    array = np.array(points, dtype=float)
    expected = [not any(dominates(other, point) for other in array) for point in array]
    assert non_dominated(array).tolist() == expected


@given(points_of)
def test_hypervolume_equals_the_reference_implementation(points: list[list[int]]) -> None:
    array = np.array(points, dtype=float)
    corner = np.full(array.shape[1], 6.0)
    expected = 6.0 - array.min() if array.shape[1] == 1 else compute_hypervolume(array, corner)
    assert hypervolume(array, corner.tolist()) == pytest.approx(expected)


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume(np.array([[1.0, 1.0], [0.0, 9.0], [3.0, 0.0]]), [3.0, 3.0]) == pytest.approx(4.0)
    assert hypervolume(np.array([[5.0, 5.0]]), [3.0, 3.0]) == 0.0
    assert hypervolume(np.empty((0, 2)), [3.0, 3.0]) == 0.0


def test_points_with_nan_are_not_on_the_front() -> None:
    assert non_dominated(np.array([[np.nan, 0.0], [1.0, 1.0]])).tolist() == [False, True]
    assert non_dominated(np.empty((0, 3))).tolist() == []


def test_losses_negate_what_is_maximised() -> None:
    assert losses([[1.0, 2.0]], ["minimize", "maximize"]).tolist() == [[1.0, -2.0]]


def test_mismatched_reference_is_refused() -> None:
    with pytest.raises(StudyError, match="3 objectives"):
        hypervolume(np.zeros((2, 2)), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("k", [2, 3, 4])
def test_tens_of_thousands_of_points_take_seconds_at_most(k: int) -> None:
    points = np.random.default_rng(0).random((50_000, k))
    started = time.process_time()  # of this process alone, however busy the machine is
    front = non_dominated(points)
    assert time.process_time() - started < 5.0
    assert 0 < front.sum() < 5_000


def test_a_front_that_holds_every_point_is_fast_for_three_objectives() -> None:
    first = np.linspace(0.0, 1.0, 30_000)
    points = np.stack([first, 1.0 - first, np.random.default_rng(0).random(30_000)], axis=1)
    started = time.process_time()
    assert non_dominated(points).all()
    assert time.process_time() - started < 5.0
