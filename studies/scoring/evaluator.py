"""Scores one plan on the real pipeline: latency against the un-accelerated loop, then pictures and their quality."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from explorer.bootstrap import mean_estimate
from explorer.compile_modes import CompileMode
from explorer.devices import DeviceInfo
from explorer.errors import PlanError, ScoreError, StudyError
from explorer.estimate import Estimate
from explorer.models.pictures import as_png, check_informative, generate
from explorer.models.prompts import Prompt
from explorer.models.workload import is_guided, twin
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import evaluations_of_plan, scheduled
from explorer.quality.scorer import Scorer
from explorer.runtime.inherit import Inheritance, inherit
from explorer.runtime.replay import Recording
from explorer.timing.latency import PAIRS, Latency
from explorer.timing.profile import Profile
from explorer.timing.speed_limit import speed_limit
from explorer.unet.architecture import Architecture
from studies.device_lock import on_device
from studies.predicting.drift_model import Screen
from studies.scored import (
    LATENCY,
    PREDICTED,
    PREDICTED_COST,
    QUALITY,
    UNSTEADY_LATENCY,
    Part,
    Picture,
    Scored,
    together,
)
from studies.scoring.latency_meter import LatencyMeter
from studies.scoring.limits import Limits
from studies.scoring.racing import Race, rungs
from studies.scoring.running import _explained, encode
from studies.scoring.sheet import Sheet, first_and_worst, shared_out
from studies.storage.saved import Saved

DRIFT = ("psnr", "ssim")
"""What every look of a race measures and keeps, whatever decides."""
BEGINNINGS = "beginnings"
"""The folder of what plans that begin alike share, among what the study has saved."""
Painter = Callable[..., torch.Tensor]


class CandidateEvaluator:
    """Measures plans on `pipe`, which stays as it is: a plan is applied to a shallow copy that shares its weights.

    scorer: None measures latency alone (a model with random weights has no quality). embeds: prompt embeddings for a
    pipeline without a text encoder. size: height and width of a picture in pixels, the pipeline's own by default.
    profile: of this pipeline, workload and device; with one `predicted_latency` is kept beside what is measured.
    race: what proposed plans are measured against on few prompts first; None scores every plan whole. replay: bytes of
    UNet outputs that are kept in files, so that plans which begin alike do not compute their beginning twice; 0 never
    does. overlap: make pictures while those before are turned into bytes; None: on a CUDA device alone.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        steps: int,
        guidance: float,
        prompts: tuple[Prompt, ...],
        scorer: Scorer | None,
        device: torch.device,
        info: DeviceInfo,
        seed: int = 0,
        batch: int = 16,
        latency_batch: int = 1,
        pairs: int = PAIRS,
        size: tuple[int, int] | None = None,
        compile: CompileMode = "off",
        embeds: dict[str, Any] | None = None,
        profile: Profile | None = None,
        race: Race | None = None,
        replay: int = 0,
        overlap: bool | None = None,
    ) -> None:
        self.pipe = pipe
        self.steps, self.guidance, self.prompts, self.scorer = steps, guidance, prompts, scorer
        self.device, self.info, self.seed = device, info, seed
        self.batch, self.latency_batch, self.pairs = batch, latency_batch, pairs
        self.meter = LatencyMeter(device, info, images=latency_batch, pairs=pairs)
        self.size, self.compile = size, compile
        self._twin, self._stock = twin(pipe), pipe
        if compile != "off":
            # Compiled against eager would mix the compiler's gain with the plan's: both sides run in one mode.
            self._stock = twin(pipe)
            inherit(self._stock, InheritancePlan(Architecture.of(pipe.unet), steps), compile=compile)
        self.profile, self.race = profile, race
        self._whole: tuple[Profile, float] | None = None
        self.overlap = device.type == "cuda" if overlap is None else overlap
        self.recording = Recording(replay) if replay and compile == "off" else None
        self._conditions = embeds
        self._counts: dict[tuple[int, str | None], int] = {}
        self._baseline: torch.Tensor | None = None
        self._saved: Saved | None = None
        self._texts: dict[tuple[str, ...], dict[str, Any]] = {}
        self.predictor: Screen | None = None
        """Predicts drift and cost of the plans that are scored, once the study is calibrated."""
        self.limits: Limits | None = None
        """Beyond which a proposed plan is not measured."""

    def reseeded(self, seed: int) -> CandidateEvaluator:
        """The same pipelines, with pictures that begin at another seed. Use one of the two at a time."""
        other = copy.copy(self)
        other.seed, other._baseline, other.saved = seed, None, None
        return other

    @property
    def saved(self) -> Saved | None:
        """Where text embeddings, un-accelerated pictures, their features and beginnings of runs are kept for all
        processes of the study."""
        return self._saved

    @saved.setter
    def saved(self, saved: Saved | None) -> None:
        self._saved = saved
        if saved is not None and self.recording is not None:
            self.recording = Recording(self.recording.limit, saved.folder / BEGINNINGS)

    @property
    def stock(self) -> Any:
        """The un-accelerated pipeline that latencies are held against, in the mode of `compile`."""
        return self._stock

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan under its scheduler, by default the pipeline's (PNDM: one more than its
        steps)."""
        run = plan.steps, plan.scheduler
        if run not in self._counts:
            self._counts[run] = evaluations_of_plan(self.pipe.scheduler, plan)
        return self._counts[run]

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """Latency, speed-up, peak MiB of held features, and every metric of the scorer, with what each took; one part
        of it where that is asked. The un-accelerated pictures are this device's own: those of two devices differ by
        rounding. A plan that a race drops comes back with what was measured until then.

        Raises:
            ExplorerError or RuntimeError: when the plan cannot run or be scored; the pipeline is left as it was.
        """
        with _explained(), inherit(self._twin, plan, compile=self.compile) as handle:
            return self._score(plan, handle, part)

    def latency(self, plan: InheritancePlan) -> Latency:
        """The plan's latency alone. Raises as `score`."""
        with _explained(), inherit(self._twin, plan, compile=self.compile):
            return self.latency_of(self._twin, plan.steps, self.speed_limit(plan))

    @contextlib.contextmanager
    def painter(self, plan: InheritancePlan) -> Iterator[Painter]:
        """Within it the plan stays applied: call what it gives with prompts and the first one's seed, for the plan's
        pictures, or with `plain` steps for the un-accelerated pipeline's, under `scheduler` where one is named; uint8
        (N, 3, H, W)."""

        def paint(
            prompts: Sequence[Prompt], seed: int, plain: int | None = None, scheduler: str | None = None
        ) -> torch.Tensor:
            with _explained(), on_device(self.info, shared=True):
                if plain is None:
                    return self._pictures(self._twin, plan.steps, prompts, seed)
                with scheduled(self._stock, scheduler):
                    return self._pictures(self._stock, plain, prompts, seed)

        with inherit(self._twin, plan, compile=self.compile):
            yield paint

    def latency_of(self, pipe: Any, steps: int, limit: float | None = None) -> Latency:
        """The latency of a run of `pipe`, such as one that another tool has patched, against the stock one. The device
        is held for this process alone. limit: the largest speed-up that can be true."""
        return self.meter.measure(lambda: self._loop(self._stock, self.steps), lambda: self._loop(pipe, steps), limit)

    def speed_limit(self, plan: InheritancePlan) -> float:
        """The largest speed-up of the plan that can be true (`explorer.timing.speed_limit`)."""
        plain = InheritancePlan(plan.architecture, self.steps)
        return speed_limit(plan, self.evaluations(plan), self.evaluations(plain), self.profile)

    def screen(self, plan: InheritancePlan) -> str | None:
        """Why the plan need not be measured: it is beyond the limits, or by the profile, even within its worst error,
        it is slower than the un-accelerated pipeline, which makes the better pictures. None when it is to be
        measured."""
        beyond = None if self.limits is None else self.limits.reason(plan, self.evaluations(plan))
        if beyond is not None:
            return beyond
        if self.profile is None:
            return None
        predicted, whole = self._foretold(self.profile, plan)
        if predicted.low <= whole:
            return None
        return f"predicted to take {predicted.value / whole:.2f} times as long as the un-accelerated pipeline"

    def _score(self, plan: InheritancePlan, handle: Inheritance, part: Part | None) -> Scored:
        """With the plan applied to the twin."""
        if part == QUALITY:
            return self._quality(plan, self._sheet(plan, handle))
        if part == LATENCY or self.scorer is None:
            return self._latency(plan, handle)
        if self.race is not None and self.race.enters(plan.key(self.evaluations(plan))):
            return self._raced(self.race, plan, handle)
        latency = self._latency(plan, handle)
        return together(latency, self._quality(plan, self._sheet(plan, handle)))

    def _raced(self, race: Race, plan: InheritancePlan, handle: Inheritance) -> Scored:
        """All of the plan's scores, or those until a look at which the race drops it.

        What is cheap decides first. Where a profile or the calibration predicts the latency, its best case does at the
        first look, and only a plan that stands that is timed; otherwise nothing can be said before the latency is
        measured.
        """
        sheet, latency = self._sheet(plan, handle), None
        costs, foretold = self._predicted_costs(race, plan), self.cost_share(plan)
        if costs is None:
            latency = self._latency(plan, handle)
            costs = _best_costs(race, latency)
        for count in rungs(len(self.prompts), self.batch):
            if costs is None:  # an unsteady latency decides nothing: the plan is scored whole and timed again later
                break
            drift = sheet.drift(count, {*DRIFT, *race.metrics})
            beaten = race.beaten(costs, drift, foretold)
            if beaten is None and latency is None:
                latency = self._latency(plan, handle)
                costs = _best_costs(race, latency)
                beaten = None if costs is None else race.beaten(costs, drift, foretold)
            if beaten is not None:
                return together(latency, self._dropped(plan, sheet, drift, beaten.words))
        return together(latency or self._latency(plan, handle), self._quality(plan, sheet))

    def _predicted_costs(self, race: Race, plan: InheritancePlan) -> dict[str, float] | None:
        """The latency that the plan could have at best: within the profile's worst error, without one within that of
        the calibration's predictions for the study's plans; None where neither can say."""
        if self.profile is None:
            foretold = self.cost_share(plan)
            return None if foretold is None else race.costs_of(foretold)
        predicted, whole = self._foretold(self.profile, plan)
        return race.costs({"latency": predicted.low, "speedup": whole / predicted.low})

    def time_share(self, plan: InheritancePlan) -> float | None:
        """Time of a run of the plan over the un-accelerated one's, by the profile; None without one."""
        if self.profile is None:
            return None
        predicted, whole = self._foretold(self.profile, plan)
        return predicted.value / whole

    def cost_share(self, plan: InheritancePlan) -> float | None:
        """Time of a run of the plan over the un-accelerated one's, by the profile or else the calibration; None with
        neither."""
        return self.time_share(plan) if self.predictor is None else self.predictor.cost(plan)

    def _foretold(self, profile: Profile, plan: InheritancePlan) -> tuple[Estimate, float]:
        """Seconds of the plan by the profile, within its worst error, and of the un-accelerated run, which thousands of
        plans looked at in a search share."""
        if self._whole is None or self._whole[0] is not profile:
            plain = InheritancePlan(plan.architecture, self.steps)
            self._whole = profile, profile.predicted_latency(plain, self.evaluations(plain)).value
        return profile.predicted_latency(plan, self.evaluations(plan)), self._whole[1]

    def _dropped(self, plan: InheritancePlan, sheet: Sheet, drift: dict[str, Any], reason: str) -> Scored:
        pictures = sheet.pictures()
        return Scored(
            {name: mean_estimate(values) for name, values in drift.items()} | self._predicted(plan),
            {name: sheet.seconds / len(drift) for name in drift},
            {},
            {name: values.tolist() for name, values in drift.items()},
            [self._picture(i, pictures[i]) for i in first_and_worst(len(pictures), drift["psnr"].tolist())],
            screened=reason,
        )

    def _predicted(self, plan: InheritancePlan) -> dict[str, Estimate]:
        """The drift and the cost that the study's calibration predicts, beside what is measured. Without one a profile
        still tells the cost."""
        if self.predictor is None:
            share = self.time_share(plan)
            return {} if share is None else {PREDICTED_COST: Estimate(share, share, share, 1)}
        found, pictures = {}, self.predictor.calibration.errors.pictures
        for name, predict in ((PREDICTED, self.predictor.drift), (PREDICTED_COST, self.predictor.cost)):
            with contextlib.suppress(PlanError):  # such as a number of steps or a scheduler that was not calibrated
                value = predict(plan)
                found[name] = Estimate(value, value, value, pictures)
        return found

    def _latency(self, plan: InheritancePlan, handle: Inheritance) -> Scored:
        start = time.perf_counter()
        latency = self.latency_of(self._twin, plan.steps, self.speed_limit(plan))
        steady = latency.unsteady is None
        estimates = {"latency": latency.seconds, "speedup": latency.speedup} if steady else {}
        kept = "latency" if steady else UNSTEADY_LATENCY
        estimates[kept] = latency.seconds
        held = handle.peak_cache_bytes / 2**20  # of the loop that was timed
        estimates["cache_mib"] = Estimate(held, held, held, 1)
        if self.profile is not None:
            estimates["predicted_latency"] = self.profile.predicted_latency(plan, self.evaluations(plan))
        if self.scorer is None:  # otherwise kept with the quality, which is measured anywhere
            estimates |= self._predicted(plan)
        spent = {kept: time.perf_counter() - start}
        return Scored(estimates, spent, {}, {kept: latency.rows}, unsteady=latency.unsteady)

    def _quality(self, plan: InheritancePlan, sheet: Sheet) -> Scored:
        if self.scorer is None:
            raise ScoreError("a model with random weights has no quality to score; measure its latency alone.")
        sheet.draw(len(self.prompts))
        pictures = sheet.pictures()
        with on_device(self.info, shared=True):
            scores = self.scorer.score(pictures, self.prompts, self.baseline_pictures(), self._kept)
        extractors = {name: self.scorer.extractor for name in scores if name not in scores.each}
        extractors.update({name: self.scorer.clip_model for name in scores if name.startswith("clip")})
        if plan.extracts_always and (plan.steps, plan.scheduler) == (self.steps, None):
            kept = list(range(len(pictures)))  # what every other plan's pictures stand beside
        else:
            kept = first_and_worst(len(pictures), scores.each.get("psnr", []))
        return Scored(
            dict(scores) | self._predicted(plan), shared_out(scores, sheet.seconds), extractors, dict(scores.each),
            [self._picture(i, pictures[i]) for i in kept],
        )  # fmt: skip

    def _sheet(self, plan: InheritancePlan, handle: Inheritance) -> Sheet:
        """Of the plan that is applied to the twin."""

        def draw(prompts: Sequence[Prompt], first: int) -> torch.Tensor:
            handle.recording = self.recording  # not while a latency is measured
            try:
                return self._pictures(self._twin, plan.steps, prompts, self.seed + first)
            finally:
                handle.recording = None

        def check(pictures: torch.Tensor) -> None:
            check_informative(pictures, self.pipe.unet.dtype)

        return Sheet(self.prompts, draw, self.baseline_pictures, self.scorer, self.info, check)

    def baseline_pictures(self) -> torch.Tensor:
        """The un-accelerated pictures of the same prompts and seeds, made once; uint8 (N, 3, H, W)."""
        if self._baseline is None:
            try:
                made = self._kept("un-accelerated", lambda: {"pictures": self._pictures(self._stock, self.steps)})
                check_informative(made["pictures"], self.pipe.unet.dtype)
            except (ScoreError, RuntimeError) as error:
                # No plan could be scored beside it: the study stops instead of recording failures.
                raise StudyError(
                    f"the un-accelerated pipeline cannot make its pictures ({str(error).rstrip('.')})."
                ) from error
            self._baseline = made["pictures"]
        return self._baseline

    def _pictures(
        self, pipe: Any, steps: int, prompts: Sequence[Prompt] | None = None, seed: int | None = None
    ) -> torch.Tensor:
        return generate(
            pipe, self.prompts if prompts is None else prompts, seed=self.seed if seed is None else seed, steps=steps,
            guidance=self.guidance, batch_size=self.batch, size=self.size, embed=self._embed,
            overlap=self.overlap,
        )  # fmt: skip

    def _kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return make() if self.saved is None else self.saved.get(name, make)

    def _embed(self, words: list[str]) -> dict[str, Any]:
        """The embeddings of a batch, made once: every candidate has the same prompts."""
        batch = tuple(words)
        if batch not in self._texts:
            name = f"text-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]}"
            made = self._kept(
                name, lambda: encode(self.pipe, words, self.device, is_guided(self.guidance), self.prompts[0].negative)
            )
            self._texts[batch] = {key: value.to(self.device) for key, value in made.items()}
        return self._texts[batch]

    def _encoded(self, words: list[str]) -> dict[str, Any]:
        return encode(self.pipe, words, self.device, is_guided(self.guidance), self.prompts[0].negative)

    def _loop(self, pipe: Any, steps: int) -> None:
        """The denoising loop alone: embeddings are made beforehand and latents are not decoded."""
        shape = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        pipe(
            num_inference_steps=steps,
            guidance_scale=self.guidance,
            output_type="latent",
            generator=torch.Generator("cpu").manual_seed(self.seed),
            **self._embeds(),
            **shape,
        )

    def _embeds(self) -> dict[str, Any]:
        if self._conditions is None:
            words = [self.prompts[i % len(self.prompts)].text for i in range(self.latency_batch)]
            self._conditions = self._encoded(words)
        return self._conditions

    def _picture(self, number: int, picture: torch.Tensor) -> Picture:
        return Picture(number, *as_png(picture), prompt=self.prompts[number].text, seed=self.seed + number)


def _best_costs(race: Race, latency: Scored) -> dict[str, float] | None:
    """What a timed plan could cost at best; None where its timings are unsteady."""
    return race.at_best(latency.estimates) if latency.unsteady is None else None
