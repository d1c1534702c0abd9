"""How steps and nodes are timed: orders, drift, and that everything that runs is timed."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explorer.devices import LapTimer, WallLaps, clock_for, lap_timer
from explorer.models.workload import Workload, unet_inputs
from explorer.plans.rules import Rule
from explorer.plans.strategies import STRATEGIES
from explorer.timing import step_times
from explorer.timing.step_times import (
    BETWEEN_EXTRACTS,
    NodeLaps,
    StepSamples,
    _keep,
    round_order,
    time_nodes,
    time_steps,
)
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import make_pipeline

CPU = torch.device("cpu")
WORK = Workload(1, (32, 32), "cpu", "float32")


@given(count=st.integers(1, 64), seed=st.integers(-5, 1000))
def test_a_round_times_every_mask_once_with_extract_steps_between(count: int, seed: int) -> None:
    order = round_order(count, seed)
    assert sorted(choice for choice in order if choice) == list(range(1, count + 1))
    assert order[0] == 0
    gaps = "".join("x" if choice else " " for choice in order).split()
    assert max(len(gap) for gap in gaps) <= BETWEEN_EXTRACTS
    assert round_order(count, seed, count).count(0) == 1


@given(seed=st.integers(0, 100), drift=st.floats(-0.008, 0.05))
def test_steady_drift_cancels(seed: int, drift: float) -> None:
    """A machine that grows slower all the time: each step is told beside the extract steps around it."""
    samples, true = StepSamples(), {0: 1.0, **{k: 0.1 * k for k in range(1, 9)}}
    order = [*round_order(8, seed), 0]
    _keep(samples, order, [true[choice] * (1 + drift * i) for i, choice in enumerate(order)])
    for k in range(8):
        assert samples.relative(k) == pytest.approx(true[k + 1])


def test_every_mask_is_timed_in_every_round_and_an_interrupted_round_is_left_out() -> None:
    pipe = make_pipeline()
    inputs = unet_inputs(pipe, WORK, CPU)
    masks = [each.mask(Architecture.of(pipe.unet)) for each in list(STRATEGIES.values())[:7]]
    samples = StepSamples()
    for number, _ in enumerate(time_steps(pipe.unet, masks, inputs, CPU, samples, rounds=3, warmups=1)):
        if samples.rounds == 1 and number > 20:
            break
    assert "forward" not in pipe.unet.__dict__
    assert samples.rounds == 1 and all(len(pairs) == 1 for pairs in samples.pairs)
    back = StepSamples.from_json(json.loads(json.dumps(samples.to_json())))
    assert back == samples
    for _ in time_steps(pipe.unet, masks, inputs, CPU, back, rounds=3, warmups=0, calls=2):
        pass
    assert back.rounds == 3 and [len(pairs) for pairs in back.pairs] == [3] * 7
    assert len(back.extracts) == 3 * 2 and all(
        seconds > 0 for pairs in back.pairs for pair in pairs for seconds in pair
    )
    assert back.noise(0) >= 0


def test_a_rule_reads_all_its_terms_from_the_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.runtime import combining

    terms: list[int] = []
    combine = combining.combine
    monkeypatch.setattr(combining, "combine", lambda held, weights: terms.append(len(held)) or combine(held, weights))
    pipe = make_pipeline()
    masks = [STRATEGIES["DC0"].mask(Architecture.of(pipe.unet))]
    for _ in time_steps(
        pipe.unet, masks, unet_inputs(pipe, WORK, CPU), CPU, StepSamples(), rounds=2, rule=Rule("forecast", 2)
    ):  # fmt: skip
        pass
    assert terms and set(terms) == {3}


def test_every_node_is_timed_and_their_sum_is_a_step() -> None:
    pipe = make_pipeline()
    inputs, laps = unet_inputs(pipe, WORK, CPU), NodeLaps()
    walls = [clock_for(CPU).time(lambda: time_nodes(pipe.unet, inputs, CPU, laps)) for _ in range(5)]
    architecture = Architecture.of(pipe.unet)
    assert list(laps.whole) == [node.name for node in architecture.nodes]
    assert list(laps.identity) == list(architecture.units)
    for k, wall in enumerate(walls):
        assert all(laps.whole[unit][k] > laps.identity[unit][k] for unit in architecture.units)
        assert 0.5 * wall < laps.conditions[k] + sum(seconds[k] for seconds in laps.whole.values()) < wall
    assert NodeLaps.from_json(json.loads(json.dumps(laps.to_json()))) == laps


def test_marked_nodes_give_the_stock_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is what runs: the marked run ends in the stock UNet's output."""
    from explorer.unet.conditions import read_conditions
    from explorer.unet.program import Program

    pipe = make_pipeline()
    inputs = unet_inputs(pipe, WORK, CPU)
    seen: dict[str, Any] = {}
    run = Program.run
    monkeypatch.setattr(
        Program, "run", lambda self, node, x, at: seen.setdefault(node.name, run(self, node, x, at))
    )  # fmt: skip
    program = Program(pipe.unet)
    with torch.no_grad():
        sample, at = read_conditions(
            pipe.unet, program.architecture, inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]
        )
        step_times._run_marked(program, sample, at, lap_timer(CPU), itertools.repeat(0.0))
        assert torch.equal(seen["out"], pipe.unet(**inputs)[0])


def test_a_hold_begins_anew() -> None:
    timer = lap_timer(CPU)
    timer.mark()
    timer.mark()
    time.sleep(0.05)
    timer.hold(1.0)
    timer.mark()
    assert len(timer.seconds()) == 2 and sum(timer.seconds()) < 0.05 and not timer.late


def test_parts_are_held_until_they_are_called_and_again_where_that_was_too_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a device that is late twice: the holds grow with what calling each part took."""
    timers: list[Any] = []

    class Device(WallLaps):
        def __init__(self) -> None:
            super().__init__()
            self.late = len(timers) < 2
            self.holds: list[float] = []
            timers.append(self)

        def hold(self, seconds: float = 0.0) -> None:
            self.holds.append(seconds)
            super().hold()

    monkeypatch.setattr(step_times, "lap_timer", lambda _: Device())

    def passing(timer: LapTimer, holds: Iterator[float]) -> None:
        for spent in (0.0, 0.02):
            timer.hold(next(holds))
            time.sleep(spent)
            timer.mark()

    found = step_times._queued(torch.device("cuda"), passing)
    assert found is timers[2] and len(timers) == 3
    for factor, timer in zip(step_times.HOLDS, timers, strict=True):
        assert factor * 0.02 < timer.holds[1] and timer.holds[0] < timer.holds[1]


@pytest.mark.cuda
def test_queued_nodes_do_not_wait_for_python() -> None:
    """However slowly Python calls them, the GPU's time of the nodes is the same."""
    device = torch.device("cuda", 0)
    pipe = make_pipeline().to(device)
    inputs = unet_inputs(pipe, Workload(1, (32, 32), "cuda:0", "float32"), device)
    passing, queued = NodeLaps(), NodeLaps()
    for _ in range(5):
        time_nodes(pipe.unet, inputs, device, passing)
        time_nodes(pipe.unet, inputs, device, queued, queued=True)
    in_passing, by_itself = (sum(statistics.median(s) for s in laps.whole.values()) for laps in (passing, queued))
    assert by_itself < 0.8 * in_passing


def test_laps_lie_between_marks() -> None:
    timer = lap_timer(CPU)
    for _ in range(4):
        timer.mark()
    assert len(timer.seconds()) == 3 and all(lap >= 0 for lap in timer.seconds())


@pytest.mark.cuda
def test_laps_on_a_gpu_sum_to_the_whole() -> None:
    device = torch.device("cuda", 0)
    matrix = torch.randn(4096, 4096, device=device)
    matrix @ matrix
    timer = lap_timer(device)
    timer.mark()
    for _ in range(5):
        matrix @ matrix
        timer.mark()
    whole = clock_for(device).time(lambda: [matrix @ matrix for _ in range(5)])
    assert sum(timer.seconds()) == pytest.approx(whole, rel=0.3)


def test_an_extract_step_is_what_an_empty_mask_is() -> None:
    pipe = make_pipeline()
    samples = StepSamples()
    for _ in time_steps(pipe.unet, [Mask()], unet_inputs(pipe, WORK, CPU), CPU, samples, rounds=9):
        pass
    assert samples.relative(0) == pytest.approx(1, rel=0.3)
