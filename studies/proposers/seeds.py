"""Uniform schedules of the masks that tell most: what a search should know of its space before it refines anything.

DeepCache's branches at several depths and a few of the paper's structures, with every rule, several periods and step
counts, and plain fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from explorer.mask import Mask
from explorer.plan import InheritancePlan
from explorer.schedule import Periodic
from explorer.strategies import STRATEGIES
from search_spaces.joint import STEPS_OF_FIFTY
from search_spaces.space import Setting, plan_of
from studies.proposers.base import POOL, Proposal, Tools

BRANCHES = 6
NAMED = ("CO6", "RI", "CO3", "EP", "AI")
RULES = ("fitted", "copy", "forecast1", "forecast2")
PERIODS = (3, 2, 4, 5, 6, 8)
STEPS = (50, 25, 35, 20, 40, 30, 15, 10)


class Seeds:
    """In the order of `seeds`; where plans can be ranked, the best of the next POOL."""

    name = "seeds"

    def __init__(self, tools: Tools[InheritancePlan]) -> None:
        assert tools.setting is not None
        self.tools = tools
        self._left = seeds(tools.setting)
        self._pool: list[InheritancePlan] = []

    def propose(self) -> Proposal[InheritancePlan] | None:
        while True:
            self._pool = [plan for plan in self._pool if self.tools.is_new(plan)]
            wanted = 1 if self.tools.rank is None else POOL
            for plan in self._left:
                if self.tools.is_new(plan):
                    self._pool.append(plan)
                if len(self._pool) >= wanted:
                    break
            if not self._pool:
                return None
            places = [0] if self.tools.rank is None else [*self.tools.rank(self._pool), 0]
            plan = self._pool.pop(places[0])
            found = self.tools.proposal(plan, self.name)
            if found is not None:
                return found


def seeds(setting: Setting) -> Iterator[InheritancePlan]:
    """The seeds of a study, the most telling first: each of mask, rule, period and step count stands in an order, and a
    plan whose places add up to less comes before one whose places add up to more."""
    rules = [rule for rule in RULES if rule in setting.rules]
    counts = list(dict.fromkeys(count for n in STEPS if (count := round(setting.steps * n / 50)) >= 1))
    known = setting.fractions(STEPS_OF_FIFTY)
    counts = [count for count in counts if count in known]
    masks = telling_masks(setting)
    grid = product(range(len(counts)), range(len(masks)), range(len(rules)), range(len(PERIODS)))
    plain = [(place, -1, 0, 0) for place in range(1, len(counts))]
    for step, mask, rule, period in sorted([*plain, *grid], key=lambda places: (sum(places), places)):
        if mask < 0:
            yield InheritancePlan(setting.architecture, counts[step])
        elif PERIODS[period] < setting.at(counts[step]):
            yield plan_of(setting, (masks[mask],), Periodic(PERIODS[period]), rules[rule], counts[step])


def telling_masks(setting: Setting) -> list[Mask]:
    """DeepCache's branches and the paper's structures in turn, each computing something else."""
    architecture = setting.architecture
    inputs = [node.inputs[0] for node in reversed(architecture.nodes) if node.kind == "cat"]
    branches = [Mask.of([name], "output") for name in inputs[:BRANCHES]]
    named = [STRATEGIES[name].mask(architecture) for name in NAMED]
    mixed = [mask for pair in zip(branches, [*named, *branches][: len(branches)], strict=True) for mask in pair]
    return list(dict.fromkeys(mask.effective(architecture) for mask in (*mixed, *branches, *named)))
