"""The masks: which nodes inherit, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from explorer.plans.plan import InheritancePlan
from search_spaces.axes.base import Axis, Draft, PlanRun
from search_spaces.mask_genome import MaskGenome
from search_spaces.moves import move_cut, move_form, move_group
from search_spaces.schedule_genome import MOST_MASKS, schedules_of
from search_spaces.space import Parameters, Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class Masks(Axis):
    """One to three masks; the schedule chooses among them."""

    name = "masks"
    column = "form"
    moves = (move_group, move_cut, move_form)
    lengths = (0.15, 0.15)
    title = "Kind"
    help = "What is inherited: residual branches, whole outputs, or both."

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.masks = MaskGenome(setting.architecture, forms=setting.forms)
        self.schedules = schedules_of(setting)

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        count = trial.suggest_int("masks", 1, MOST_MASKS)
        draft.fields["masks"] = tuple(self.masks.suggest(trial, f"m{k}") for k in range(1, count + 1))

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        """With those of the schedule, which numbers the masks."""
        for masks, schedule in self.schedules.guesses(plan, evaluations):
            chosen: dict[str, Any] = {}
            encoded = [self.masks.encode(mask, f"m{k}") for k, mask in enumerate(masks, 1)]
            if None in encoded:
                continue  # a form that the space has not, or a bypassed sampler: the level `node` has all others
            for each in encoded:
                chosen |= each or {}
            yield {"masks": len(masks), **chosen, **schedule}

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        """Mean and spread of the inherit steps' times."""
        import numpy as np

        return [float(np.mean(run.times)), float(np.std(run.times))]
