"""Differences of two plans, against what numpy says of the same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as some

from explorer.estimate import Estimate
from studies import Objective, Store, trials
from studies.choosing.paired import BETTER, TIED, WORSE, difference, independent, verdict
from studies.results.lineage import lineage
from studies.storage import tables
from tests.dashboard.small_study import PLANS, PROMPTS, fill, psnr


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("paired") / "explorer.db")
    fill(store, "small")
    return store


def test_what_has_a_value_a_picture_is_paired(store: Store) -> None:
    study = store.study("small")
    by_name = {row.words: row for row in trials(store, study)}
    one, other = by_name["DC0/P3"], by_name["CO6/P5†"]
    found = difference(store, study, other, one, "psnr")
    assert found is not None and found.paired
    noise = {name: PLANS[name][1] for name in PLANS}
    each = [psnr(i, noise["CO6/P5†"]) - psnr(i, noise["DC0/P3"]) for i in range(len(PROMPTS))]
    assert found.estimate.value == pytest.approx(np.mean(each))
    assert found.estimate.low >= min(each) and found.estimate.high <= max(each)
    assert found.verdict == WORSE
    reverse = difference(store, study, one, other, "psnr")
    assert reverse is not None and reverse.verdict == BETTER
    # The intervals of the two overlap by far: what pairing is for.
    assert one.scores["psnr"].low < other.scores["psnr"].high


def test_distances_and_timings_are_taken_as_independent(store: Store) -> None:
    study = store.study("small")
    rows = trials(store, study)
    distance = difference(store, study, rows[2], rows[0], "fd_toy")
    assert distance is not None and not distance.paired
    assert distance.estimate == independent(rows[2].scores["fd_toy"], rows[0].scores["fd_toy"])
    speed = difference(store, study, rows[2], rows[0], "speedup")
    assert speed is not None and not speed.paired and speed.verdict == BETTER
    assert speed.estimate.value == pytest.approx(0.8)
    assert speed.estimate.high - speed.estimate.low < 0.1
    assert difference(store, study, rows[2], rows[0], "lpips") is None


def test_without_samples_the_intervals_speak(tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = fill(store, "small", ["plain@20", "DC0/P3"])
        with store.begin() as connection:
            connection.execute(sa.update(tables.measurements).values(samples=None))
        rows = trials(store, study)
        for metric in ("psnr", "speedup", "clip"):
            found = difference(store, study, rows[1], rows[0], metric)
            assert found is not None and not found.paired
            assert found.estimate == independent(rows[1].scores[metric], rows[0].scores[metric])


estimates = some.tuples(some.floats(-5, 5), some.floats(0, 3), some.floats(0, 3)).map(
    lambda t: Estimate(t[0], t[0] - t[1], t[0] + t[2], 9)
)


@given(estimates, estimates)
def test_independent_differences(ours: Estimate, theirs: Estimate) -> None:
    one, other = independent(ours, theirs), independent(theirs, ours)
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.high - one.value >= max(ours.high - ours.value, theirs.value - theirs.low) - 1e-9


@pytest.mark.parametrize(
    ("low", "high", "metric", "expected"),
    [(-1, 1, "clip", TIED), (0.1, 1, "clip", BETTER), (-1, -0.1, "clip", WORSE), (0.1, 1, "fd", WORSE),
     (-1, -0.1, "fd", BETTER), (0, 1, "fd", TIED)],
)  # fmt: skip
def test_a_verdict_needs_the_whole_interval(low: float, high: float, metric: str, expected: str) -> None:
    objectives = (Objective("clip", "maximize"), Objective("fd", "minimize"))
    assert verdict(Estimate((low + high) / 2, low, high, 3), metric, objectives) == expected


def test_parents_are_those_that_the_sampler_noted(store: Store) -> None:
    study = store.study("small")
    row = next(row for row in trials(store, study) if row.origin == "search")
    found = lineage(store, study, row)
    assert found.parents == () and found.choices == {} and found.worker == 0
    assert "sampler tpe (seed 0)" in found.words()
