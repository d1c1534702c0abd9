"""The space `joint`, the default: every axis of the search together (`search_spaces.axes`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan
from search_spaces.axes import Axis, Draft, drawn
from search_spaces.axes.steps import STEPS_OF_FIFTY
from search_spaces.schedule_genome import MOST_MASKS
from search_spaces.space import BaseSpace, Parameters, Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class JointSpace(BaseSpace):
    """Any plan of up to three masks at one of the step counts, every baseline among them."""

    name = "joint"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.steps = setting.fractions(STEPS_OF_FIFTY)
        self.axes = drawn(setting)
        self.holds = f"plans of up to {MOST_MASKS} masks" + "".join(axis.holds for axis in self.axes)

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        draft = Draft(self.setting)
        for axis in self.axes:
            axis.suggest(trial, draft)
        return draft.plan()

    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        return _together(self.axes, plan, evaluations)


def _together(axes: Sequence[Axis], plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
    """Every combination of the axes' guesses, the most telling of each first."""
    if not axes:
        yield {}
        return
    for first in axes[0].guesses(plan, evaluations):
        for rest in _together(axes[1:], plan, evaluations):
            yield {**first, **rest}
