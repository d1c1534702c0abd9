"""Times of nodes and of steps, measured where they happen: nodes one after another within a step, and steps through
the runtime itself, so that a step's time holds everything that a user pays for.

Many masks are timed in one run of one plan, in rounds of a new order each, with an extract step before every few of
them. Drift of a noisy machine then hits all masks alike, and a mask's time is known by its ratio to the extract steps
beside it.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.devices import LapTimer, WallLaps, clock_for, lap_timer
from explorer.plans.plan import COPY, InheritancePlan
from explorer.plans.rules import Rule
from explorer.plans.schedule import Segments
from explorer.unet.mask import Mask, liveness

if TYPE_CHECKING:
    import torch

    from explorer.compile_modes import CompileMode
    from explorer.runtime.inherit import Inheritance
    from explorer.unet.program import Program

BETWEEN_EXTRACTS = 5
"""Masks timed between two extract steps, where nothing is compiled."""
HOLDS = (2.0, 6.0, 20.0)
"""A GPU is held busy this many times as long as Python takes to call a part; the next value if that is too short."""
LEAST_HOLD = 2e-4
"""Seconds that every hold lasts longer."""


@dataclass
class NodeLaps:
    """Samples in seconds: `whole[name]` of a node, `identity[name]` of a unit's identity path alone (what runs when
    its residual is inherited), `conditions` of what comes before the first node."""

    whole: dict[str, list[float]] = field(default_factory=dict)
    identity: dict[str, list[float]] = field(default_factory=dict)
    conditions: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"whole": self.whole, "identity": self.identity, "conditions": self.conditions}

    @classmethod
    def from_json(cls, data: Any) -> NodeLaps:
        return cls(dict(data["whole"]), dict(data["identity"]), list(data["conditions"]))

    @property
    def rounds(self) -> int:
        return len(self.conditions)


def time_nodes(
    unet: Any, inputs: dict[str, Any], device: torch.device, laps: NodeLaps, *, queued: bool = False
) -> None:
    """Run every node of one evaluation in order, eagerly, and add a sample of each to `laps`.

    Nodes are marked in passing, not waited for: each is timed with the caches, and on a GPU with the queue, that it
    finds in a real step. queued: on a CUDA GPU each node is in the queue before the GPU gets there, so that its time is
    the GPU's alone: for steps that are replayed from a graph or compiled, which do not wait for Python at every kernel.
    """
    import torch

    from explorer.unet.conditions import read_conditions
    from explorer.unet.program import Program

    program = Program(unet)
    given, time, context = inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]
    added = inputs.get("added_cond_kwargs")

    def passing(timer: LapTimer, holds: Iterator[float]) -> None:
        timer.hold(next(holds))
        sample, at = read_conditions(unet, program.architecture, given, time, context, added=added)
        timer.mark()
        _run_marked(program, sample, at, timer, holds)

    timer = lap_timer(device)
    with torch.no_grad():
        if queued and device.type == "cuda":
            timer = _queued(device, passing)
        else:
            passing(timer, itertools.repeat(0.0))
    seconds = iter(timer.seconds())
    laps.conditions.append(next(seconds))
    for node in program.architecture.nodes:
        whole = next(seconds)
        if node.is_unit:
            identity = next(seconds)
            laps.identity.setdefault(node.name, []).append(identity)
            whole += identity
        laps.whole.setdefault(node.name, []).append(whole)


def _queued(device: torch.device, passing: Callable[[LapTimer, Iterator[float]], None]) -> LapTimer:
    """The laps of a passage in which the device was held before each part until Python had called it: for twice as
    long as that took in a passage before, and longer where it was late."""
    calling = CallingTimes()
    passing(calling, itertools.repeat(0.0))
    for factor in HOLDS:
        timer = lap_timer(device)
        passing(timer, iter([factor * seconds + LEAST_HOLD for seconds in calling.parts()]))
        if not timer.late:
            break
    return timer


class CallingTimes(WallLaps):
    """How long Python takes to call each part, while the device does what it was called for."""

    def parts(self) -> list[float]:
        """Seconds from each hold to its last mark."""
        return [chain[-1] - chain[0] for chain in self._chains if chain]


def _run_marked(program: Program, sample: Any, at: Any, timer: LapTimer, holds: Iterator[float]) -> None:
    values = {"sample": sample}
    last_use = {name: node.name for node in program.architecture.nodes for name in node.inputs}
    for node in program.architecture.nodes:
        inputs = tuple(values[name] for name in node.inputs)
        timer.hold(next(holds))
        if node.is_unit:
            branch = program.branch(node, inputs[0], at)
            timer.mark()
            values[node.name] = program.join(node, branch, inputs[0])
        else:
            values[node.name] = program.run(node, inputs, at)
        timer.mark()
        for name in {name for name in node.inputs if last_use[name] == node.name}:
            del values[name]


@dataclass
class StepSamples:
    """Samples by rounds: `pairs[k]` of the k-th thing timed, each (its seconds, seconds of an extract step beside it),
    and `extracts`, the extract steps themselves, in the order they were taken."""

    pairs: list[list[tuple[float, float]]] = field(default_factory=list)
    extracts: list[float] = field(default_factory=list)
    rounds: int = 0

    def add(self, pairs: Sequence[tuple[float, float]], extracts: Sequence[float]) -> None:
        """One more round."""
        self.pairs = self.pairs or [[] for _ in pairs]
        for kept, pair in zip(self.pairs, pairs, strict=True):
            kept.append(pair)
        self.extracts += extracts
        self.rounds += 1

    def relative(self, k: int) -> float:
        """The k-th thing's time over an extract step's: the median of its ratios to those beside it."""
        return statistics.median(step / extract for step, extract in self.pairs[k])

    def seconds(self, k: int, extract: float) -> float:
        """The k-th thing's time where an extract step takes `extract` seconds."""
        return self.relative(k) * extract

    def noise(self, k: int) -> float:
        """The standard error of `relative`, as a share of it. No prediction can be shown to be better."""
        ratios = [step / extract for step, extract in self.pairs[k]]
        spread = 1.4826 * statistics.median(abs(ratio - self.relative(k)) for ratio in ratios)
        return 1.2533 * spread / len(ratios) ** 0.5 / self.relative(k)  # of a median, by a robust deviation

    @property
    def extract_seconds(self) -> float:
        return statistics.median(self.extracts)

    def to_json(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "extracts": self.extracts, "rounds": self.rounds}

    @classmethod
    def from_json(cls, data: Any) -> StepSamples:
        return cls([[(a, b) for a, b in pairs] for pairs in data["pairs"]], list(data["extracts"]), data["rounds"])


def round_order(count: int, seed: int, between: int = BETWEEN_EXTRACTS) -> list[int]:
    """The choices of one round: 0, then masks in a random order with an extract step before every few of them."""
    order = list(range(1, count + 1))
    random.Random(seed).shuffle(order)
    choices: list[int] = []
    for start in range(0, count, between):
        choices += [0, *order[start : start + between]]
    return choices


def time_steps(
    unet: Any,
    masks: Sequence[Mask],
    inputs: dict[str, Any],
    device: torch.device,
    samples: StepSamples,
    *,
    rounds: int,
    warmups: int = 1,
    calls: int = 1,
    compile: CompileMode = "off",
    rule: Rule = COPY,
) -> Iterator[None]:
    """Time an inherit step of each of up to 64 masks, and extract steps beside them, through a plan at work on `unet`.

    Yields after every sample; `samples` grows by whole rounds, up to `rounds` of them, and may come from an earlier,
    interrupted measurement. calls: evaluations in sequence that make one sample, so that a GPU's queue is as full as
    within a loop. Compiled, every extract step of a round but the first is left out: each set of features to store is
    a variant of its own, which would have to be compiled. There an extract step stores what any mask of its plan reads,
    and the plan here has many: it is timed on a plan of one of them, and runs here untimed.
    """
    import torch

    numbers = [-1 - number for number in range(warmups)] + list(range(samples.rounds, rounds))
    compiled = compile != "off"
    between = len(masks) if compiled else BETWEEN_EXTRACTS
    first = [0] * (rule.history - 1)  # so that the rule reads as many features as it may from the beginning
    orders = [round_order(len(masks), number, between) for number in numbers]
    order_calls = [(choice, 1 if compiled and not choice else calls) for order in [*orders, [0]] for choice in order]
    choices = [*first, *(choice for choice, count in order_calls for _ in range(count))]
    clock = clock_for(device)
    # Where Python's pace counts, a block begins with an empty queue as well as it may.
    time_block = clock.time_block if compiled else clock.time

    def block(of: Any = unet) -> None:
        for _ in range(calls):
            of(**inputs)

    with contextlib.ExitStack() as stack, torch.no_grad():
        extracting = copy.copy(unet)
        if compiled:
            alone = [0] * (calls * (len(orders) + 1))
            stack.enter_context(at_work(extracting, alone, [_typical(unet, masks)], compile, rule))
        stack.enter_context(at_work(unet, choices, masks, compile, rule))

        def extract() -> float:
            if not compiled:
                return time_block(block) / calls
            seconds = time_block(lambda: block(extracting)) / calls
            unet(**inputs)
            return seconds

        for _ in first:
            unet(**inputs)
        begins = extract()
        for number, order, after in zip(numbers, orders, [*orders[1:], [0]], strict=True):
            taken = [begins]
            for _ in order[1:]:
                taken.append(time_block(block) / calls)
                yield
            begins = extract()
            assert order[0] == after[0] == 0
            if number >= 0:
                _keep(samples, [*order, 0], [*taken, begins])
            yield


def _typical(unet: Any, masks: Sequence[Mask]) -> Mask:
    """The mask that reads as many features as half of them do."""
    from explorer.unet.architecture import Architecture

    architecture = Architecture.of(unet)
    ordered = sorted(masks, key=lambda mask: len(liveness(architecture, mask).reads))
    return ordered[len(ordered) // 2]


@contextmanager
def at_work(
    unet: Any, choices: Sequence[int], masks: Sequence[Mask] = (), compile: CompileMode = "off", rule: Rule = COPY
) -> Iterator[Inheritance]:
    """A plan of `masks` at work on the bare `unet`, in a run that has begun and makes `choices` one after another."""
    from explorer.runtime.inherit import inherit
    from explorer.unet.architecture import Architecture

    plan = InheritancePlan(Architecture.of(unet), len(choices), tuple(masks), Segments.of(choices), rule)
    with inherit(unet, plan, compile=compile) as handle:
        handle.begin(len(choices))
        yield handle


def _keep(samples: StepSamples, order: list[int], taken: list[float]) -> None:
    """File a round's times; a step's extract step is the one before and the one after it, weighed by nearness."""
    places = [i for i, choice in enumerate(order) if choice == 0]
    times = [taken[i] for i in places]
    by_choice = {c: (taken[i], float(np.interp(i, places, times))) for i, c in enumerate(order) if c}
    samples.add([by_choice[choice] for choice in sorted(by_choice)], times[:-1])  # the last begins the next round
