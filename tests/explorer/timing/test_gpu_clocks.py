"""What a GPU's clocks count, on one of simulated time; and what an extract step stores while it is timed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from explorer.devices import CudaClock, CudaLaps, clock_for
from explorer.models.workload import Workload, unet_inputs
from explorer.plans.plan import COPY
from explorer.plans.strategies import STRATEGIES
from explorer.runtime.inherit import Inheritance
from explorer.timing import step_times
from explorer.timing.step_times import StepSamples, time_steps
from explorer.unet.architecture import Architecture
from explorer.unet.mask import liveness
from tests.conftest import make_pipeline
from tests.explorer.timing.simulated_gpu import MARK, SimulatedGpu, simulated

__all__ = ["simulated"]
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
STEP, LAUNCH = 550e-6, 90e-6


def test_a_block_does_not_count_its_first_launch(simulated: SimulatedGpu) -> None:
    """Four inherit steps that are replayed: from an idle GPU the first launch would be 4% of them."""
    clock = CudaClock(CUDA)

    def block() -> None:
        for _ in range(4):
            simulated.launch(STEP, calling=LAUNCH)

    assert clock.time(block) == pytest.approx(4 * STEP + LAUNCH, rel=0.001)
    assert clock.time_block(block) == pytest.approx(4 * STEP, rel=0.001)


def test_a_block_that_python_is_too_slow_for_counts_python(simulated: SimulatedGpu) -> None:
    def block() -> None:
        for _ in range(4):
            simulated.launch(STEP, calling=10 * STEP)

    assert CudaClock(CUDA).time_block(block) == pytest.approx(4 * 10 * STEP + STEP, rel=0.01)


def test_a_mark_is_no_part_of_a_lap(simulated: SimulatedGpu) -> None:
    timer = CudaLaps(CUDA)
    for seconds in (30e-6, 0.0, 2e-6):
        timer.hold(5e-4)
        for _ in range(2):
            simulated.launch(seconds, calling=5e-6)
            timer.mark()
    expected = [30e-6, 30e-6, 0, 0, 2e-6, 2e-6]
    assert timer.seconds() == pytest.approx(expected, abs=1e-9) and not timer.late


def test_marks_without_a_hold_are_as_they_are(simulated: SimulatedGpu) -> None:
    timer = CudaLaps(CUDA)
    timer.mark()
    simulated.launch(1e-3)
    timer.mark()
    assert timer.seconds() == pytest.approx([1e-3 + MARK])


def test_a_cpu_has_no_queue_to_fill() -> None:
    assert clock_for(CPU).time_block(lambda: None) >= 0


@pytest.mark.parametrize("mode", ["off", "cudagraphs-eager"])
def test_a_timed_extract_step_stores_what_a_plan_s_would(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured, an extract step stores what any mask of its plan reads. A plan has one or two masks, a profile 64: its
    extract steps are timed on a plan of one. Run eager here, in the order of a captured one."""
    plans: list[tuple[Any, Any]] = []
    evaluations: list[Any] = []
    timed: list[list[Any]] = []
    at_work, forward = step_times.at_work, Inheritance._forward

    def eager(unet: Any, choices: Any, masks: Any = (), compile: str = "off", rule: Any = COPY) -> Any:
        assert compile == mode
        plans.append((unet, masks))
        return at_work(unet, choices, masks, "off", rule)

    class Clock:
        def time(self, call: Any) -> float:
            before = len(evaluations)
            call()
            timed.append(evaluations[before:])
            return 1.0

        time_block = time

    monkeypatch.setattr(step_times, "at_work", eager)
    monkeypatch.setattr(step_times, "clock_for", lambda _: Clock())
    monkeypatch.setattr(
        Inheritance, "_forward", lambda self, unet, *a, **k: evaluations.append(unet) or forward(self, unet, *a, **k)
    )
    pipe = make_pipeline()
    architecture = Architecture.of(pipe.unet)
    masks = [STRATEGIES[name].mask(architecture) for name in ("LI3", "DC0", "RI", "CO6", "DE1")]
    inputs = unet_inputs(pipe, Workload(1, (32, 32), "cpu", "float32"), CPU)
    samples = StepSamples()
    for _ in time_steps(
        copy.copy(pipe.unet), masks, inputs, CPU, samples, rounds=2, warmups=1, calls=3, compile=mode  # type: ignore[arg-type]
    ):  # fmt: skip
        pass
    assert samples.rounds == 2 and len(samples.extracts) == 2 and all(len(block) == 3 for block in timed)
    extracts = timed[:: len(masks) + 1]
    if mode == "off":
        assert len(plans) == 1 and {id(unet) for block in timed for unet in block} == {id(plans[0][0])}
        return
    (extracting, (typical,)), (main, _) = plans
    reads = sorted(len(liveness(architecture, mask).reads) for mask in masks)
    assert len(liveness(architecture, typical).reads) == reads[2] < len({f for m in masks for f in m.entries})
    assert all(unet is extracting for block in extracts for unet in block)
    assert all(unet is main for block in timed if block not in extracts for unet in block)
    assert sum(unet is main for unet in evaluations) == 3 * 3 * len(masks) + 4  # an untimed extract step a round
