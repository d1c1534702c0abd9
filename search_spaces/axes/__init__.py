"""The axes of the search, each declared once: a module with its class, and its place in `AXES`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from explorer.plans.plan import InheritancePlan
from search_spaces.axes.base import Axis, Choice, Draft, PlanRun, Study
from search_spaces.axes.masks import Masks
from search_spaces.axes.networks import Networks
from search_spaces.axes.rule import Rules
from search_spaces.axes.schedule import Schedules
from search_spaces.axes.scheduler import Scheduler
from search_spaces.axes.spacing import Spacings
from search_spaces.axes.steps import Steps
from search_spaces.space import Setting

AXES: list[type[Axis]] = [Steps, Scheduler, Rules, Schedules, Masks, Networks, Spacings]
"""In the order of moves, encodings and filters. A new one is the last, so that a seed draws the others as before."""

__all__ = [
    "AXES",
    "Axis",
    "Choice",
    "Draft",
    "PlanRun",
    "Study",
    "alone",
    "choices",
    "controls",
    "drawn",
    "keys",
    "names_nothing",
    "repaired",
    "suffix",
    "values_of",
]


def choices() -> list[type[Choice]]:
    """The axes that a study may lack."""
    return [axis for axis in AXES if issubclass(axis, Choice)]


def drawn(setting: Setting) -> list[Axis]:
    """The axes of a study, each after those that must be drawn before it."""
    left = [axis for axis in AXES if axis.searched(setting)]
    ordered: list[Axis] = []
    while left:
        waiting = {axis.name for axis in left}
        ready = next(axis for axis in left if waiting.isdisjoint(axis.after))
        left.remove(ready)
        ordered.append(ready(setting))
    return ordered


def controls(setting: Setting) -> Iterator[InheritancePlan]:
    """The controls that a study begins with."""
    for axis in AXES:
        if axis.searched(setting):
            yield from axis(setting).baselines()


def keys(plan: InheritancePlan, evaluations: int) -> dict[str, Any]:
    """What tells plans apart, by the name of the axis."""
    canonical = plan.canonical(evaluations)
    return {axis.name: axis.key(canonical) for axis in AXES}


def names_nothing(plan: InheritancePlan) -> bool:
    """Whether the plan has the pipeline's own of everything that it could name."""
    return all(axis.of(plan) is None for axis in choices())


def repaired(plan: InheritancePlan, setting: Setting) -> InheritancePlan:
    """The plan without values that its others exclude."""
    for axis in choices():
        if axis.searched(setting):
            plan = axis(setting).repaired(plan)
    return plan


def suffix(values: Mapping[str, Any]) -> str:
    """How the name of a plan ends that has these values, by the name of the axis."""
    return "".join(axis.suffix(values.get(axis.name)) for axis in choices())


def values_of(extra: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The options of the axes that a study may lack, from its stored settings."""
    return {axis.option: tuple(extra.get(axis.option, (axis.own,))) for axis in choices()}


def alone(named: Iterable[Any]) -> list[str]:
    """For a sentence: in what, beside fewer steps, controls with these facts differ from the pipeline."""
    rows = list(named)
    return [axis.alone for axis in choices() if any(axis.differs(facts) for facts in rows)]
