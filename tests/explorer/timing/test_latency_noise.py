"""Timings on a busy machine, in simulated time: what counts as stalled, and what the estimate is worth."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.noisy_latency import bootstrap_median
from explorer.timing.latency import FURTHER, Latency, compare, ratio_estimate, stalled_pairs

CPU = torch.device("cpu")


class Machine:
    """A machine whose own time passes in calls alone. Work takes as long as it is large, with log-normal noise, and
    `slower` times as long while other processes run: in bursts whose lengths and gaps are drawn."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        noise: float = 0.02,
        bursts: tuple[float, float] = (0.2, 2.0),
        gaps: tuple[float, float] = (0.5, 4.0),
        slower: tuple[float, float] = (1.5, 6.0),
    ) -> None:
        self.now, self._rng, self._noise, self._slower = 0.0, rng, noise, slower
        self._lengths = itertools.cycle([gaps, bursts])
        self._until, self._busy, self._factor = rng.uniform(*gaps), False, 1.0
        next(self._lengths)

    def work(self, seconds: float) -> None:
        left = seconds * math.exp(self._rng.normal(0.0, self._noise))
        while True:
            need = left * self._factor
            if self.now + need <= self._until:
                self.now += need
                return
            left -= (self._until - self.now) / self._factor
            self.now, self._busy = self._until, not self._busy
            self._until += self._rng.uniform(*next(self._lengths))
            self._factor = self._rng.uniform(*self._slower) if self._busy else 1.0

    def time(self, call: Callable[[], object]) -> float:
        began = self.now
        call()
        return self.now - began


def measured(machine: Any, monkeypatch: pytest.MonkeyPatch, baseline: float, candidate: float, **how: Any) -> Latency:
    monkeypatch.setattr("explorer.timing.latency.clock_for", lambda device: machine)
    return compare(
        lambda: machine.work(baseline), lambda: machine.work(candidate), device=CPU, images=1, baseline_warm=True, **how
    )  # fmt: skip


@pytest.mark.parametrize(("baseline", "candidate"), [(0.5, 0.25), (0.5, 0.4), (0.12, 0.03)])
@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize("pairs", [3, 5, 7])
def test_the_interval_covers_the_quiet_truth_where_the_bootstrap_does_not(
    baseline: float, candidate: float, noise: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bursts of load slow calls by up to six times, on either side, two fifths of the time. Seeded."""
    rng, truth = np.random.default_rng(7), baseline / candidate
    found, old = [], []
    for _ in range(100):
        machine = Machine(rng, noise=noise)
        latency = measured(machine, monkeypatch, baseline, candidate, pairs=pairs)
        first = np.array(latency.samples[:pairs])
        old.append(bootstrap_median(first[:, 0] / first[:, 1]))
        if latency.unsteady is None:
            found.append(latency.speedup)
    assert len(found) >= 95
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.9
    assert np.median([abs(each.value / truth - 1) for each in found]) < 0.03
    assert max(each.low for each in found) < 1.1 * truth < 1.1 * 1.2 * min(each.value for each in found)
    # The control: the median of all pairs, with a bootstrap.
    if pairs == 3:
        assert baseline < 0.5 or max(each.value for each in old) > 1.4 * truth
        assert np.mean([each.low <= truth <= each.high for each in old]) < 0.9


def test_bursts_that_are_shorter_than_a_call_and_never_end_are_unsteady_or_wide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call of two seconds is rarely quiet here: most results are unsteady, and the others are within their noise."""
    rng = np.random.default_rng(3)
    all_of_them = [measured(Machine(rng), monkeypatch, 2.0, 0.7, pairs=5) for _ in range(100)]
    steady = [each.speedup for each in all_of_them if each.unsteady is None]
    assert len(steady) < 80
    assert np.median([abs(each.value / (2.0 / 0.7) - 1) for each in steady]) < 0.1


class Played:
    """A clock that gives out times that were written down: of the calls after the warm-ups, in their order."""

    def __init__(self, pairs: list[tuple[float, float]]) -> None:
        self.pairs, self.taken = pairs, 0
        self._times = self._in_order()

    def _in_order(self) -> Iterator[float]:
        for number, (baseline, candidate) in enumerate(self.pairs):
            yield from (baseline, candidate) if number % 2 == 0 else (candidate, baseline)

    def work(self, seconds: float) -> None: ...

    def time(self, call: Callable[[], object]) -> float:
        self.taken += 1
        return next(self._times)


DEMO = [(0.47, 0.26), (5.49, 0.285), (9.85, 0.28)]
"""What the demo's table was made of while something else ran: two of three baselines stalled."""


def test_stalled_baselines_do_not_make_a_plan_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = [(0.46, 0.26), (0.48, 0.265), (0.47, 0.255)]
    latency = measured(Played(DEMO + quiet), monkeypatch, 1, 1, pairs=3)
    assert latency.stalled == (1, 2) and latency.unsteady is None
    assert latency.samples == tuple(DEMO + quiet[:2])
    assert 1.7 < latency.speedup.low < latency.speedup.value < 1.9 and latency.speedup.n == 3
    assert latency.rows[0] == [0.47, 0.26] and latency.rows[1] == [5.49, 0.285, 1.0]
    assert Latency.from_json(json.loads(json.dumps(latency.to_json()))) == latency


def test_a_machine_that_stays_busy_makes_the_result_unsteady_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    stalls = [(0.5 * factor, 0.25) for factor in np.linspace(1.3, 1.9, 50)]
    clock = Played([(0.5, 0.25), *stalls])
    waits: list[int] = []
    latency = measured(clock, monkeypatch, 1, 1, pairs=5, before_again=lambda: waits.append(clock.taken))
    assert latency.unsteady == "14 of 15 timed pairs were stalled"
    assert len(latency.samples) == 5 * (1 + FURTHER) and waits == list(range(10, 30, 2))
    assert latency.stalled == tuple(range(1, 15))


def test_stalls_that_are_long_end_the_measurement_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = measured(Played([(0.5, 0.25), *[(30.0, 0.25)] * 50]), monkeypatch, 1, 1, pairs=7)
    assert latency.unsteady is not None and len(latency.samples) == 8


def test_half_of_the_pairs_are_enough_and_three_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    for pairs, quiet, steady in ((7, 4, True), (7, 3, False), (5, 3, True), (5, 2, False), (3, 2, False)):
        times = [(0.5, 0.25)] * quiet + [(0.9, 0.25)] * 50
        latency = measured(Played(times), monkeypatch, 1, 1, pairs=pairs)
        assert (latency.unsteady is None) == steady, (pairs, quiet)


def test_a_pair_is_stalled_by_either_of_its_sides() -> None:
    assert stalled_pairs([(1.0, 0.5), (1.1, 0.55), (1.3, 0.5), (1.0, 0.61)]) == (2, 3)
    assert stalled_pairs([(1.0, 0.5), (2.0, 0.5)], tolerance=3) == ()


def test_three_values_have_an_interval_wider_than_their_spread() -> None:
    few = ratio_estimate(np.array([1.98, 2.0, 2.03]))
    assert few.low < 1.98 and few.high > 2.03 and few.n == 3
    many = ratio_estimate(np.exp(np.random.default_rng(0).normal(0, 0.02, 50)))
    assert 0.98 < many.low < 1 < many.high < 1.02
    assert ratio_estimate(np.array([2.0, 2.0, 2.0])).high == 2.0
    assert ratio_estimate(np.array([2.0, 2.0, 2.0]), 0.01).high == pytest.approx(2.0 * math.exp(0.01))


def test_a_document_of_an_earlier_version_reads_as_a_steady_latency() -> None:
    estimate = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 3}
    old = {"seconds": estimate, "speedup": estimate, "samples": [[1.0, 0.5]] * 3, "images": 1, "warmups": 5}
    latency = Latency.from_json(old)
    assert latency.unsteady is None and latency.stalled == () and latency.rows == [[1.0, 0.5]] * 3
