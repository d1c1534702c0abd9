"""Uniform schedules of the masks that tell most: what a search should know of its space before it refines anything.

DeepCache's branches at several depths and a few of the paper's structures, with every rule, several periods and step
counts, and plain fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import rule_type
from explorer.plans.schedule import Periodic
from explorer.plans.strategies import STRATEGIES
from explorer.unet.mask import Mask
from search_spaces.axes.steps import STEPS_OF_FIFTY
from search_spaces.space import Setting, plan_of
from studies.proposing.proposers.base import Proposal, Tools

FEW = 3
NAMED = ("CO6", "RI", "CO3")
PERIODS = (1, 2, 3, 4, 5, 6, 8, 12)
SPREAD = 512
"""Places of the Halton sequence before what it left out."""
FAVOUR = 2.5
"""Power that draws its places toward the first masks and rules."""


class Seeds:
    """In the order of `seeds`."""

    name = "seeds"

    def __init__(self, tools: Tools) -> None:
        assert tools.setting is not None
        self.tools = tools
        self._left = seeds(tools.setting)

    def propose(self) -> Proposal | None:
        for plan in self._left:
            if self.tools.is_new(plan) and (found := self.tools.proposal(plan, self.name)) is not None:
                return found
        return None


def seeds(setting: Setting) -> Iterator[InheritancePlan]:
    """The seeds of a study, those that tell most together first.

    Pairs of step count and period stand in a row by the extract steps of a run, which are most of its cost. A Halton
    sequence (Halton 1960) goes over this row, the masks and the rules, the first masks and rules more often, so that
    any number of first seeds is spread over costs from the dearest to the cheapest. What it leaves out comes last.
    """
    from scipy.stats.qmc import Halton

    rules = sorted(setting.rules, key=lambda rule: not rule_type(rule).fitted)  # the fitted ones first
    levels = _levels(setting)
    masks = telling_masks(setting)
    seen: set[tuple[int, int, int]] = set()
    spread = (
        (int(len(levels) * a), int(len(masks) * b**FAVOUR), int(len(rules) * c**FAVOUR))
        for a, b, c in Halton(3, scramble=False).fast_forward(1).random(SPREAD).tolist()  # all zeros is the first
    )
    for level, mask, rule in (*spread, *product(range(len(levels)), range(len(masks)), range(len(rules)))):
        steps, period = levels[level]
        place = (level, mask, rule) if period > 1 else (level, 0, 0)
        if place in seen:
            continue
        seen.add(place)
        if period == 1:
            yield InheritancePlan(setting.architecture, steps)
        else:
            yield plan_of(setting, (masks[mask],), Periodic(period), rules[rule], steps)


def _levels(setting: Setting) -> list[tuple[int, int]]:
    """Step counts with a period, the run of most extract steps first; period 1 is fewer plain steps."""
    counts = setting.fractions(STEPS_OF_FIFTY)
    grid = [(count, period) for count, period in product(counts, PERIODS) if period < setting.at(count)]
    return sorted(grid, key=lambda each: (-math.ceil(setting.at(each[0]) / each[1]), each))


def telling_masks(setting: Setting) -> list[Mask]:
    """DeepCache's branches, the shallowest first, and after a few of them the paper's structures; each computes
    something else."""
    architecture = setting.architecture
    inputs = [node.inputs[0] for node in reversed(architecture.nodes) if node.kind == "cat"]
    branches = [Mask.of([name], "output") for name in inputs]
    named = [STRATEGIES[name].mask(architecture) for name in NAMED]
    masks = (*branches[:FEW], *named, *branches[FEW:])
    return list(dict.fromkeys(mask.effective(architecture) for mask in masks))
