"""Predicts time, cost and drift of plans in scoring: time by a profile, cost and drift by the study's calibration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from explorer.errors import PlanError
from explorer.estimate import Estimate
from explorer.timing.speed_limit import speed_limit
from studies.metrics import PREDICTED, PREDICTED_COST

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan
    from explorer.timing.profile import Profile
    from explorer.unet.mask import Mask
    from studies.predicting.drift_model import DriftModel

    TimeShare = Callable[[InheritancePlan], float | None]


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts plans without running them.

    Attributes:
        plain: The plan of the un-accelerated run.
        evaluations: UNet evaluations of a run of a plan.
        profile: Of the pipeline, the workload of its latencies and the device; None where none was measured.
        make_model: Makes the drift model of a calibrated study from `time_share`; None without a calibration.
        students: What each student of the study lacks, by its name.
    """

    plain: InheritancePlan
    evaluations: Callable[[InheritancePlan], int]
    profile: Profile | None = None
    make_model: Callable[[TimeShare], DriftModel] | None = None
    students: Mapping[str, Mask] = field(default_factory=dict)

    @cached_property
    def model(self) -> DriftModel | None:
        """Predicts drift and cost; None before the study is calibrated."""
        return None if self.make_model is None else self.make_model(self.time_share)

    def latency(self, plan: InheritancePlan) -> Estimate | None:
        """Seconds of a run of the plan by the profile, within its worst error; None without one."""
        if self.profile is None:
            return None
        return self.profile.predicted_latency(plan, self.evaluations(plan), self.students)

    @cached_property
    def plain_seconds(self) -> float:
        """Seconds of the un-accelerated run by the profile, which thousands of plans looked at in a search share."""
        predicted = self.latency(self.plain)
        assert predicted is not None
        return predicted.value

    def time_share(self, plan: InheritancePlan) -> float | None:
        """Time of a run of the plan over the un-accelerated one's, by the profile; None without one."""
        predicted = self.latency(plan)
        return None if predicted is None else predicted.value / self.plain_seconds

    def cost_share(self, plan: InheritancePlan) -> float | None:
        """Time of a run of the plan over the un-accelerated one's, by the profile or else the calibration; None with
        neither."""
        if self.model is None:
            return self.time_share(plan)
        return self.model.cost(plan)

    def slower(self, plan: InheritancePlan) -> str | None:
        """Why the plan is not worth measuring: by the profile, even within its worst error, it is slower than the
        un-accelerated pipeline, which makes the better pictures. None where that is not so, or there is no profile."""
        predicted = self.latency(plan)
        if predicted is None or predicted.low <= self.plain_seconds:
            return None
        share = predicted.value / self.plain_seconds
        return f"predicted to take {share:.2f} times as long as the un-accelerated pipeline"

    def speed_limit(self, plan: InheritancePlan) -> float:
        """The largest speed-up of the plan that can be true (`explorer.timing.speed_limit`)."""
        whole = self.evaluations(self.plain)
        return speed_limit(plan, self.evaluations(plan), whole, self.profile, self.students)

    def estimates(self, plan: InheritancePlan) -> dict[str, Estimate]:
        """The drift and the cost that the study's calibration predicts, to be kept beside what is measured. Without one
        a profile still tells the cost."""
        if self.model is None:
            share = self.time_share(plan)
            return {} if share is None else {PREDICTED_COST: Estimate(share, share, share, 1)}
        found, pictures = {}, self.model.calibration.errors.pictures
        for name, predict in ((PREDICTED, self.model.drift), (PREDICTED_COST, self.model.cost)):
            with contextlib.suppress(PlanError):  # such as a number of steps or a scheduler that was not calibrated
                value = predict(plan)
                found[name] = Estimate(value, value, value, pictures)
        return found
