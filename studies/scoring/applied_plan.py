"""Scores the plan that is applied to the pipeline: what is measured of it, in which order, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from explorer.bootstrap import mean_estimate
from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.quality.registry import DRIFT
from search_spaces.axes import names_nothing
from studies.device_lock import on_device
from studies.metrics import CACHE, PREDICTED_LATENCY, UNSTEADY_LATENCY, is_clip
from studies.scored import LATENCY, QUALITY, Part, Scored, together
from studies.scoring.racing import rungs
from studies.scoring.sheet import Sheet, first_and_worst, shared_out

if TYPE_CHECKING:
    from explorer.devices import DeviceInfo
    from explorer.plans.plan import InheritancePlan
    from explorer.quality.scorer import Scorer
    from explorer.runtime.inherit import Inheritance
    from explorer.timing.latency import Latency
    from studies.scoring.picture_maker import PictureMaker
    from studies.scoring.predictor import Predictor
    from studies.scoring.racing import Race


@dataclass(frozen=True, eq=False)
class AppliedPlan:
    """One plan while it is scored.

    Attributes:
        plan: The plan.
        handle: Applies it to the pipeline that pictures are made with.
        timed: Measures its latency.
        maker: Makes its pictures.
        predictions: What is known of it before it is measured.
        scorer: Scores its pictures; None measures its latency alone.
        race: What it is measured against on few prompts first; None scores it in full.
        info: Facts of the device, by which it is locked.
    """

    plan: InheritancePlan
    handle: Inheritance
    timed: Callable[[], Latency]
    maker: PictureMaker
    predictions: Predictor
    scorer: Scorer | None
    race: Race | None
    info: DeviceInfo

    def score(self, part: Part | None) -> Scored:
        """One part of the plan's scores, or all (None). Raises as `CandidateEvaluator.score`."""
        if part == QUALITY:
            return self._quality(self._sheet())
        if part == LATENCY or self.scorer is None:
            return self._latency()
        if self.race is not None and self.race.enters(self.plan.key(self.predictions.evaluations(self.plan))):
            return self._raced(self.race)
        latency = self._latency()
        return together(latency, self._quality(self._sheet()))

    def _raced(self, race: Race) -> Scored:
        """All of the plan's scores, or those until a look at which the race drops it.

        What is cheap decides first. Where a profile or the calibration predicts the latency, its best case does at the
        first look, and only a plan that passes that is timed; otherwise nothing can be said before the latency is
        measured.
        """
        sheet, latency = self._sheet(), None
        costs, predicted = self._predicted_costs(race), self.predictions.cost_share(self.plan)
        if costs is None:
            latency = self._latency()
            costs = _best_costs(race, latency)
        for count in rungs(len(self.maker.prompts), self.maker.batch):
            if costs is None:  # an unsteady latency decides nothing: the plan is scored in full and timed again later
                break
            drift = sheet.drift(count, {*DRIFT, *race.metrics})
            beaten = race.beaten(costs, drift, predicted)
            if beaten is None and latency is None:
                latency = self._latency()
                costs = _best_costs(race, latency)
                beaten = None if costs is None else race.beaten(costs, drift, predicted)
            if beaten is not None:
                return together(latency, self._dropped(sheet, drift, beaten.words))
        return together(latency or self._latency(), self._quality(sheet))

    def _predicted_costs(self, race: Race) -> dict[str, float] | None:
        """The latency that the plan could have at best: within the profile's worst error, without one within that of
        the calibration's predictions for the study's plans; None where neither can say."""
        predicted = self.predictions.latency(self.plan)
        if predicted is not None:
            seconds = predicted.low
            return race.costs({"latency": seconds, "speedup": self.predictions.plain_seconds / seconds})
        share = self.predictions.cost_share(self.plan)
        return None if share is None else race.costs_of(share)

    def _dropped(self, sheet: Sheet, drift: dict[str, Any], reason: str) -> Scored:
        pictures = sheet.pictures()
        return Scored(
            {name: mean_estimate(values) for name, values in drift.items()} | self.predictions.estimates(self.plan),
            {name: sheet.seconds / len(drift) for name in drift},
            {},
            {name: values.tolist() for name, values in drift.items()},
            [self.maker.sample(i, pictures[i]) for i in first_and_worst(len(pictures), drift["psnr"].tolist())],
            screened=reason,
        )

    def _latency(self) -> Scored:
        start = time.perf_counter()
        latency = self.timed()
        steady = latency.unsteady is None
        estimates = {"latency": latency.seconds, "speedup": latency.speedup} if steady else {}
        kept = "latency" if steady else UNSTEADY_LATENCY
        estimates[kept] = latency.seconds
        held = (self.handle.peak_cache_bytes + self.handle.student_bytes) / 2**20  # of the loop that was timed
        estimates[CACHE] = Estimate(held, held, held, 1)
        predicted = self.predictions.latency(self.plan)
        if predicted is not None:
            estimates[PREDICTED_LATENCY] = predicted
        if self.scorer is None:  # otherwise kept with the quality, which is measured anywhere
            estimates |= self.predictions.estimates(self.plan)
        spent = {kept: time.perf_counter() - start}
        return Scored(estimates, spent, {}, {kept: latency.rows}, unsteady=latency.unsteady)

    def _quality(self, sheet: Sheet) -> Scored:
        if self.scorer is None:
            raise ScoreError("a model with random weights has no quality to score; measure its latency alone.")
        maker, plan = self.maker, self.plan
        sheet.draw(len(maker.prompts))
        pictures = sheet.pictures()
        with on_device(self.info, shared=True):
            scores = self.scorer.score(pictures, maker.prompts, maker.baseline, maker.kept)
        extractors = {name: self.scorer.extractor for name in scores if name not in scores.each}
        extractors.update({name: self.scorer.clip_model for name in scores if is_clip(name)})
        if plan.extracts_always and plan.steps == maker.steps and names_nothing(plan):
            kept = list(range(len(pictures)))  # every other plan's pictures are compared with these
        else:
            kept = first_and_worst(len(pictures), scores.each.get("psnr", []))
        return Scored(
            dict(scores) | self.predictions.estimates(plan), shared_out(scores, sheet.seconds), extractors,
            dict(scores.each), [maker.sample(i, pictures[i]) for i in kept],
        )  # fmt: skip

    def _sheet(self) -> Sheet:
        maker = self.maker
        draw = partial(maker.planned, self.handle, self.plan.steps)
        return Sheet(maker.prompts, draw, lambda: maker.baseline, self.scorer, self.info, maker.check)


def _best_costs(race: Race, latency: Scored) -> dict[str, float] | None:
    """What a timed plan could cost at best; None where its timings are unsteady."""
    return race.at_best(latency.estimates) if latency.unsteady is None else None
