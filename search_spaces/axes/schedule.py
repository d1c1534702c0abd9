"""The schedule: which mask at which evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Every, Segments
from explorer.unet.mask import liveness
from search_spaces.axes.base import Axis, Draft, PlanRun
from search_spaces.moves import move_period, move_step
from search_spaces.schedule_genome import schedules_of
from search_spaces.space import Parameters, Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class Schedules(Axis):
    name = "schedule"
    after = ("steps", "scheduler", "masks")
    part = "choices"
    column = "mode"
    moves = (move_period, move_step)
    lengths = (0.15, 0.15)
    title = "Mode"
    help = (
        "When features are extracted anew: P5 at every fifth evaluation, P5† with a full tail, N along DeepCache's "
        "curve, free: written out step by step."
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.schedules = schedules_of(setting)

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        masks = draft.fields["masks"]
        schedule = self.schedules.suggest(trial, len(masks), draft.evaluations)
        if isinstance(schedule, Every) and any(liveness(self.setting.architecture, mask).reads for mask in masks):
            # What inherits needs an extract step.
            schedule = Segments.of([0, *schedule.resolve(draft.evaluations)[1:]])
        draft.fields["schedule"] = schedule

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        yield {}  # with those of the masks

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        """Share and mean place of the extract steps."""
        import numpy as np  # late, here and in masks: what refuses options needs none

        count = len(run.choices)
        return [len(run.extracts) / count, float(np.mean(run.extracts or [0])) / count]
