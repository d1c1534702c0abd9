"""Masks made from the calibration: units and cuts chosen one by one by the error that they add for the time they save.

A run is cut into as many stretches as a plan has masks. From empty masks on, at each turn that stretch takes that entry
which adds least to the predicted square of the drift for the step time it saves; whenever the run's mean step time
passes one of TARGETS, the masks that stand then are a plan's. So a stretch in which errors cost little inherits more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from explorer.errors import PlanError
from explorer.mask import Feature, Mask
from explorer.plan import InheritancePlan
from explorer.schedule import Periodic
from search_spaces.joint import STEPS_OF_FIFTY
from search_spaces.mask_genome import repair
from search_spaces.space import Setting, plan_of

if TYPE_CHECKING:
    from studies.screen import Screen

TARGETS = (0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.12)
"""Mean times of an inherit step over a full one at which masks are taken."""
STRETCHES = ((), (0.5,), (0.35, 0.7))
"""Where a plan's masks follow one another, as fractions of the run."""
PERIODS = (2, 3, 4, 5)
STEPS = (50, 40, 35, 30, 25, 20)
RULES = ("fitted", "copy", "forecast1")
LEAST_SAVED = 1e-6


def greedy_plans(setting: Setting, screen: Screen) -> Iterator[InheritancePlan]:
    """Plans of greedy masks for every step count, period, stretches and rule, the plainest first."""
    known = setting.fractions(STEPS_OF_FIFTY)
    counts = [count for count in dict.fromkeys(round(setting.steps * n / 50) for n in STEPS) if count in known]
    rules = [rule for rule in RULES if rule in setting.rules]
    grid = product(range(len(counts)), range(len(PERIODS)), range(len(STRETCHES)), range(len(rules)))
    for step, period, stretch, rule in sorted(grid, key=lambda places: (sum(places), places)):
        schedule = Periodic(PERIODS[period], switches=STRETCHES[stretch])
        count = setting.at(counts[step])
        if PERIODS[period] >= count:
            continue
        choices = schedule.resolve(count)
        for masks in greedy_masks(setting, screen, counts[step], choices, rules[rule]):
            try:
                yield plan_of(setting, masks, schedule, rules[rule], counts[step])
            except PlanError:  # such as a step count that the calibration does not reach
                break


@dataclass
class _Stretch:
    """squares: by feature, what it adds over the stretch; count: its inherit steps."""

    squares: dict[Feature, float]
    count: int
    mask: Mask
    time: float = 1.0
    error: float = 0.0


def greedy_masks(
    setting: Setting, screen: Screen, steps: int, choices: tuple[int, ...], rule: str
) -> Iterator[tuple[Mask, ...]]:
    """The masks, one for each choice but 0, whenever the mean step time passes a target."""
    architecture = setting.architecture
    entries = candidates(setting)
    squares = screen.squares(steps, choices, rule, entries)
    at = np.array(choices)
    stretches = [
        _Stretch(
            dict(zip(entries, squares[:, at == k].sum(axis=1).tolist(), strict=True)), int((at == k).sum()), Mask()
        )
        for k in range(1, max(choices) + 1)
    ]
    if any(stretch.count == 0 for stretch in stretches):
        return
    total = sum(stretch.count for stretch in stretches)
    targets = list(TARGETS)
    while targets:
        best: tuple[float, _Stretch, Mask, float, float] | None = None
        for stretch in stretches:
            forms = stretch.mask.forms
            for name, form in entries:
                if forms.get(name) == form:
                    continue
                mask = repair(architecture, Mask.of({**forms, name: form})).effective(architecture)
                time = screen.time(mask)
                saved = (stretch.time - time) * stretch.count
                if saved < LEAST_SAVED or not all(entry in stretch.squares for entry in mask.entries):
                    continue
                error = sum(stretch.squares[entry] for entry in mask.entries)
                price = (error - stretch.error) / saved
                if best is None or price < best[0]:
                    best = price, stretch, mask, time, error
        if best is None:
            return
        _, stretch, stretch.mask, stretch.time, stretch.error = best
        mean = sum(each.time * each.count for each in stretches) / total
        if mean <= targets[0]:
            targets = [target for target in targets if target < mean]
            if all(stretch.mask for stretch in stretches):
                yield tuple(each.mask for each in stretches)


def candidates(setting: Setting) -> list[Feature]:
    """Every unit by its residual, and the input of every up layer by its output: a cut such as DeepCache's."""
    architecture = setting.architecture
    cuts = dict.fromkeys(node.inputs[0] for node in architecture.nodes if node.kind == "cat")
    return [*((unit, "residual") for unit in architecture.units), *((name, "output") for name in cuts)]
