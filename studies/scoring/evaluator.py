"""Scores plans on the real pipeline: latency against the un-accelerated loop, then pictures and their quality."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from explorer.plans.schedulers import scheduled
from studies.device_lock import on_device
from studies.scoring.applied_plan import AppliedPlan
from studies.scoring.running import plan_explained

if TYPE_CHECKING:
    import torch

    from explorer.compile_modes import CompileMode
    from explorer.models.prompts import Prompt
    from explorer.plans.plan import InheritancePlan
    from explorer.quality.scorer import Scorer
    from explorer.timing.latency import Latency
    from explorer.timing.profile import Profile
    from studies.predicting.drift_model import DriftModel
    from studies.queue.quiet_machine import Quiet
    from studies.scored import Part, Scored
    from studies.scoring.latency_meter import LatencyMeter
    from studies.scoring.limits import PlanLimits
    from studies.scoring.picture_maker import PictureMaker
    from studies.scoring.pipelines import DenoisingLoop, Pipelines
    from studies.scoring.predictor import Predictor, TimeShare
    from studies.scoring.racing import Race
    from studies.storage.saved import Saved

    Painter = Callable[..., torch.Tensor]


@dataclass(frozen=True, eq=False)
class CandidateEvaluator:
    """Measures plans. `studies.scoring.assembly` makes one. Nothing is assigned to it afterwards: a method `with_...`
    gives another one, which shares every other part.

    Attributes:
        pipelines: What is measured: the pipeline itself, and its twin that plans are applied to.
        loop: What is timed.
        meter: Times it.
        maker: Makes the pictures.
        predictions: What is known of a plan before it is measured.
        scorer: Scores the pictures; None measures latency alone.
        limits: Beyond which a proposed plan is not measured.
        make_race: Makes the race from `predictions.cost_share`; None scores every plan whole.
    """

    pipelines: Pipelines
    loop: DenoisingLoop
    meter: LatencyMeter
    maker: PictureMaker
    predictions: Predictor
    scorer: Scorer | None = None
    limits: PlanLimits | None = None
    make_race: Callable[[TimeShare], Race] | None = None

    # Other evaluators of the same pipelines, of which one is used at a time ------------------------------------------

    def reseeded(self, seed: int) -> CandidateEvaluator:
        """With pictures from another seed, which are not saved."""
        return replace(self, loop=replace(self.loop, seed=seed), maker=self.maker.reseeded(seed))

    def with_saved(self, saved: Saved) -> CandidateEvaluator:
        """With pictures that are kept for all processes of the study."""
        return replace(self, maker=self.maker.with_saved(saved))

    def with_quiet(self, quiet: Quiet) -> CandidateEvaluator:
        """With timings that wait otherwise for a quiet machine."""
        return replace(self, meter=self.meter.with_quiet(quiet))

    def with_profile(self, profile: Profile) -> CandidateEvaluator:
        """With times that a profile predicts, which are kept beside what is measured."""
        return replace(self, predictions=replace(self.predictions, profile=profile))

    def with_drift_model(self, make: Callable[[TimeShare], DriftModel]) -> CandidateEvaluator:
        """With drift and cost that the study's calibration predicts.

        Args:
            make: Makes the model, given a plan's time over the un-accelerated one's as the profile predicts it.
        """
        return replace(self, predictions=replace(self.predictions, make_model=make))

    def with_race(self, make: Callable[[TimeShare], Race]) -> CandidateEvaluator:
        """With proposed plans that are measured on few prompts first.

        Args:
            make: Makes the race, given a plan's predicted time over the un-accelerated one's.
        """
        return replace(self, make_race=make)

    # What it is made of ----------------------------------------------------------------------------------------------

    @cached_property
    def race(self) -> Race | None:
        """The race of proposed plans on few prompts; None scores every plan completely."""
        return None if self.make_race is None else self.make_race(self.predictions.cost_share)

    @property
    def pipe(self) -> Any:
        return self.pipelines.pipe

    @property
    def stock(self) -> Any:
        """The un-accelerated pipeline that latencies are held against, in the mode of `compile`."""
        return self.pipelines.stock

    @property
    def compile(self) -> CompileMode:
        return self.pipelines.compile

    @property
    def device(self) -> torch.device:
        return self.meter.device

    @property
    def latency_batch(self) -> int:
        return self.meter.images

    @property
    def pairs(self) -> int:
        return self.meter.pairs

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return self.maker.prompts

    @property
    def steps(self) -> int:
        return self.maker.steps

    @property
    def guidance(self) -> float:
        return self.maker.guidance

    @property
    def seed(self) -> int:
        return self.maker.seed

    @property
    def batch(self) -> int:
        return self.maker.batch

    @property
    def size(self) -> tuple[int, int] | None:
        return self.maker.size

    @property
    def profile(self) -> Profile | None:
        return self.predictions.profile

    @property
    def predictor(self) -> DriftModel | None:
        """Predicts drift and cost of plans; None before the study is calibrated."""
        return self.predictions.model

    # Scores ----------------------------------------------------------------------------------------------------------

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan (`Pipelines.evaluations`)."""
        return self.pipelines.evaluations(plan)

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """Latency, speed-up, peak MiB of held features, and every metric of the scorer, with what each took; one part
        of it where that is asked. The un-accelerated pictures are this device's own: those of two devices differ by
        rounding. A plan that a race drops comes back with what was measured until then.

        Raises:
            ExplorerError or RuntimeError: when the plan cannot run or be scored; the pipeline is left as it was.
        """
        with plan_explained(), self.pipelines.applied(plan) as handle:
            applied = AppliedPlan(
                plan, handle, lambda: self._latency(plan), self.maker, self.predictions, self.scorer, self.race,
                self.meter.info,
            )  # fmt: skip
            return applied.score(part)

    def latency(self, plan: InheritancePlan) -> Latency:
        """The plan's latency alone. Raises as `score`."""
        with plan_explained(), self.pipelines.applied(plan):
            return self._latency(plan)

    def _latency(self, plan: InheritancePlan) -> Latency:
        """Of the plan that is applied now."""
        return self.latency_of(self.pipelines.candidate, plan.steps, self.predictions.speed_limit(plan))

    def latency_of(self, pipe: Any, steps: int, limit: float | None = None) -> Latency:
        """The latency of a run of `pipe`, such as one that another tool has patched, against the stock one. The device
        is held for this process alone. limit: the largest speed-up that can be true."""
        loop = self.loop.run
        return self.meter.measure(lambda: loop(self.stock, self.steps), lambda: loop(pipe, steps), limit)

    def baseline_pictures(self) -> torch.Tensor:
        """The un-accelerated pictures (`PictureMaker.baseline`), made once."""
        return self.maker.baseline

    @contextlib.contextmanager
    def painter(self, plan: InheritancePlan) -> Iterator[Painter]:
        """Within it the plan stays applied: call what it gives with prompts and the first one's seed, for the plan's
        pictures, or with `plain` steps for the un-accelerated pipeline's, under `scheduler` and with timesteps of
        `spacing` where these are named; uint8 (N, 3, H, W)."""

        def paint(
            prompts: Sequence[Prompt], seed: int, plain: int | None = None, scheduler: str | None = None,
            spacing: str | None = None,
        ) -> torch.Tensor:  # fmt: skip
            with plan_explained(), on_device(self.meter.info, shared=True):
                if plain is None:
                    return self.maker.pictures(self.pipelines.candidate, plan.steps, prompts, seed)
                with scheduled(self.stock, scheduler, spacing):
                    return self.maker.pictures(self.stock, plain, prompts, seed)

        with self.pipelines.applied(plan):
            yield paint

    def rejection(self, plan: InheritancePlan) -> str | None:
        """Why the plan need not be measured: it is beyond the limits, or surely slower than the un-accelerated pipeline
        (`Predictor.slower`). None when it is to be measured."""
        beyond = None if self.limits is None else self.limits.reason(plan, self.evaluations(plan))
        return self.predictions.slower(plan) if beyond is None else beyond
