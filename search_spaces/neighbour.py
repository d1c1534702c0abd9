"""The next plan of a search: one move away from a good one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import Rule
from search_spaces.axes import AXES, keys, repaired
from search_spaces.axes.base import Move
from search_spaces.axes.rule import move_rule
from search_spaces.space import Setting, with_rule

ATTEMPTS = 20


def moves(setting: Setting) -> tuple[Move, ...]:
    """Those of the axes that the study has."""
    return tuple(move for axis in AXES if axis.searched(setting) for move in axis.moves)


def neighbour(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """A valid plan one move away that does something else than `plan`; None when none was found."""
    known = keys(plan, setting.evaluations_of(plan))
    ways = moves(setting)
    rule = plan.rule.name
    free = plan.with_rule(Rule()) if plan.rule.weights is not None else plan
    for _ in range(ATTEMPTS):
        move = random.choice(ways)
        try:
            moved = move(plan if move is move_rule else free, setting, random)
            moved = None if moved is None else repaired(moved, setting)
            if moved is not None and free is not plan and move is not move_rule and rule in setting.rules:
                moved = with_rule(moved, rule, setting)  # weights belong to one mask and schedule: fit again
        except PlanError:  # such as a mask whose output ignores the sample
            continue
        if moved is None:
            continue
        moved = replace(moved, name=None)
        if keys(moved, setting.evaluations_of(moved)) != known:
            return moved
    return None
