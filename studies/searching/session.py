"""From a search's options to everything that runs it: pipeline, scorer, space, settings, baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from explorer.calibration.fitting import Fitter
from explorer.compile_modes import compile_mode
from explorer.devices import DeviceInfo, describe, resolve_device, resolve_dtype
from explorer.errors import PlanError, StudyError
from explorer.memory import check_memory, free_memory, is_out_of_memory, needed_for, out_of_memory
from explorer.models.batching import MOST, chosen_batch
from explorer.models.loading import EMOJI, default_guidance, fingerprint, load_pipeline
from explorer.models.pictures import generate
from explorer.models.prompts import PromptSet
from explorer.models.workload import (
    is_guided,
    latent_size,
    random_embeds,
    vae_factor,
)
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import OWN, evaluations_of, scheduler_for
from explorer.plans.strategies import PAPER_MODES, baselines
from explorer.quality.features import load_extractor
from explorer.quality.metrics import resolve
from explorer.quality.reference import load_reference
from explorer.quality.scorer import Scorer
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from search_spaces import make_space
from studies.config import LATENCY, SearchConfig, kept
from studies.device_lock import on_device
from studies.predicting.calibration import Calibration
from studies.predicting.drift_model import Screen
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.limits import Limits
from studies.scoring.racing import quarter
from studies.searching.asking import asked
from studies.settings import Objective, SamplerSettings, StudySettings
from studies.storage.saved import Saved

BASELINE_REFERENCE = "baseline"
ALWAYS = ("psnr", "ssim")
"""Paired drift is measured always: it separates candidates that a Frechet distance of few pictures does not."""


@dataclass(frozen=True)
class Session:
    """A search ready to run on this machine."""

    config: SearchConfig
    settings: StudySettings
    architecture: Architecture
    space: Any
    evaluator: CandidateEvaluator
    info: DeviceInfo
    fitter: Fitter

    def use(self, calibration: Calibration) -> None:
        """Fit and predict plans from the study's calibration from now on."""
        self.fitter.moments.update(calibration.moments)
        factor = vae_factor(self.evaluator.pipe)
        height, width = self.settings.resolution
        costs = anatomy(self.evaluator.pipe.unet, (height // factor, width // factor))
        evaluator = self.evaluator
        evaluator.predictor = Screen(calibration, evaluator.evaluations, costs.share, evaluator.time_share)

    def calibrating(self) -> Session:
        """The same of a study that is to be calibrated, whose space has the rule `fitted`. Nothing is loaded again."""
        of = self.space.setting
        space = make_space(self.space.name, of.architecture, of.steps, of.evaluations, self.fitter, of.others)
        settings = replace(self.settings, extra={**self.settings.extra, "calibrated": True})
        return replace(self, config=replace(self.config, calibrate=True), settings=settings, space=space)

    def reseeded(self, seed: int) -> Session:
        """The same with the pictures of other seeds. Nothing is loaded again."""
        evaluator = self.evaluator.reseeded(seed)
        config, settings = replace(self.config, seed=seed), replace(self.settings, seed=seed)
        return replace(self, config=config, settings=settings, evaluator=evaluator)

    @property
    def other_schedulers(self) -> tuple[str, ...]:
        """The further schedulers of the study, none of them the pipeline's own."""
        return tuple(self.settings.extra.get("schedulers", (OWN,))[1:])

    def baselines(self) -> Iterator[InheritancePlan]:
        """The controls and named strategies that every study begins with."""
        if self.config.baselines == "none":
            return
        complete = self.config.baselines == "all"
        modes = PAPER_MODES if complete else PAPER_MODES[:1]
        yield from baselines(
            self.architecture, self.config.steps, modes=modes, complete=complete, schedulers=self.other_schedulers
        )


def open_session(config: SearchConfig, pipe: Any = None, references: Saved | None = None) -> Session:
    """Load and check everything that `config` names, before anything is measured or stored. Nothing is calibrated where
    `config` leaves that open (`studies.searching.preparation.decided`).

    pipe: the model, where it is loaded already on the device and with the dtype that `config` names. references: where
    features of a reference folder are kept, so that only the study's first process reads its pictures.

    Raises:
        ExplorerError: the first thing that cannot be had, in one sentence.
    """
    try:
        # While latencies are measured here, loading waits, and they for it: both would take the other's time.
        with on_device(describe(resolve_device(config.device)), shared=True):
            return _open(config, pipe, references)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            device = str(resolve_device(config.device))
            words = out_of_memory(error, f"making {config.model} ready", device=device, dtype=config.dtype)
            raise StudyError(words) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StudyError(f"{config.model} cannot be made ready on {config.device} ({first}).") from error


def _open(config: SearchConfig, pipe: Any, references: Saved | None) -> Session:
    device = resolve_device(config.device)
    dtype = str(resolve_dtype(config.dtype, device)).removeprefix("torch.")
    asks = asked(config)
    prompts, trained, extractor = asks.prompts, asks.trained, asks.extractor
    if pipe is None:
        pipe = load_pipeline(config.model, device=str(device), dtype=dtype, variant=config.variant, loras=config.lora)
    architecture = Architecture.of(pipe.unet)
    most = int(pipe.scheduler.config.num_train_timesteps)
    if config.steps > most:
        raise StudyError(f"--steps must be at most {most} with this model's scheduler, got {config.steps}.")
    evaluations = evaluations_of(pipe.scheduler, config.steps)
    schedulers = _schedulers(config, pipe)
    space = make_space(config.space, architecture, config.steps, evaluations, schedulers=schedulers)
    info = describe(device)
    reference = config.reference or ("embedded" if config.model == EMOJI else BASELINE_REFERENCE)
    scorer, loaded = None, None
    if trained:
        metrics = list(config.quality_objectives)
        true_names = [objective.name for objective in resolve(metrics, extractor, config.clip_model)]
        metrics += [name for name in ALWAYS if name not in true_names]
        loaded = (
            None
            if reference == BASELINE_REFERENCE
            else load_reference(
                reference, load_extractor(extractor, device), keep=None if references is None else references.get
            )
        )
        scorer = Scorer(metrics, extractor, loaded, config.clip_model, device)
    guidance = default_guidance(config.model) if config.guidance is None else config.guidance
    own = int(pipe.unet.config.sample_size) * vae_factor(pipe)
    size = config.resolution or (own, own)
    features = _feature_bytes(pipe, config, size, dtype, guidance)
    check_memory(
        needed_for(features, compile_mode(config.compile)), free_memory(device),
        f"timing {config.model} at --latency-batch {config.latency_batch}, {size[0]}x{size[1]} px, {dtype}",
        device=str(device), dtype=dtype, batch="--latency-batch",
    )  # fmt: skip
    batch = config.batch or _batch(pipe, config, prompts, guidance, size, device, trained)
    evaluator = CandidateEvaluator(
        pipe,
        steps=config.steps,
        guidance=guidance,
        prompts=prompts.prompts,
        scorer=scorer,
        device=device,
        info=info,
        seed=config.seed,
        batch=batch,
        latency_batch=config.latency_batch,
        pairs=config.pairs,
        size=size,
        compile=compile_mode(config.compile),
        embeds=None if trained else random_embeds(pipe, config.latency_batch, device),
        replay=config.replay * 2**20 if trained else 0,
    )
    settings = StudySettings(
        model=config.model,
        architecture=architecture.signature,
        device=f"{info.kind}: {info.name}",
        dtype=dtype,
        resolution=size,
        steps=config.steps,
        scheduler=type(pipe.scheduler).__name__,
        space=config.space,
        objectives=_objectives(config, scorer),
        prompts=prompts.name,
        prompts_hash=_digest(prompts.texts),
        sampler=SamplerSettings(config.sampler, {}, config.seed),
        guidance=guidance,
        batch=batch,
        seed=config.seed,
        compile=compile_mode(config.compile),
        extractor=scorer.extractor if scorer else None,
        reference=reference if trained else None,
        extra=kept(config)
        | {
            "prompt count": len(prompts),
            "CLIP model": scorer.clip_model if scorer else None,
            "threads": info.threads if info.kind == "cpu" else None,
            "driver": info.driver,
            "torch": info.torch,
            "weights": fingerprint(pipe),
            "scheduler settings": _digest(dict(pipe.scheduler.config)),
            "reference pictures": _digest(loaded.mean.tolist()) if loaded else None,
        }
        | ({"schedulers": [OWN, *schedulers]} if schedulers else {}),
    )
    evaluator.limits = Limits(
        config.max_cache_mib,
        config.max_variants,
        config.max_age,
        {} if config.max_cache_mib is None else features,
        compile_mode(config.compile),
    )
    session = Session(config, settings, architecture, space, evaluator, info, Fitter({}))
    return session.calibrating() if config.calibrate else session


def _feature_bytes(
    pipe: Any, config: SearchConfig, size: tuple[int, int], dtype: str, guidance: float
) -> dict[str, int]:
    """Of each node's feature in the loop that is timed; with guidance the UNet sees two samples a picture."""
    samples = config.latency_batch * (2 if is_guided(guidance) else 1)
    latent = latent_size(size, vae_factor(pipe))
    itemsize = {"float64": 8, "float32": 4}.get(dtype, 2)
    return anatomy(pipe.unet, latent).feature_bytes(samples, itemsize)


def _schedulers(config: SearchConfig, pipe: Any) -> dict[str, int]:
    """The further schedulers that plans may run under, with the UNet evaluations of a full run under each. One of the
    pipeline's own class is its own."""
    own = pipe.scheduler
    names = [name for name in config.schedulers if name not in (OWN, type(own).__name__)]
    try:
        return {name: evaluations_of(scheduler_for(own, name), config.steps) for name in names}
    except (PlanError, ImportError, ValueError) as error:
        raise StudyError(f"--schedulers: {error}") from error


def _batch(
    pipe: Any, config: SearchConfig, prompts: PromptSet, guidance: float, size: tuple[int, int], device: Any,
    trained: bool,
) -> int:  # fmt: skip
    """Pictures a batch where nobody said; a model without weights makes none."""
    if not trained:
        return 1

    def run(batch: int) -> None:
        words = (prompts.texts * batch)[:batch]
        generate(pipe, words, seed=config.seed, steps=2, guidance=guidance, batch_size=batch, size=size)

    # A race looks after whole batches: all prompts in one would leave it nothing to decide.
    most = MOST if config.racing == "off" else min(MOST, quarter(len(prompts)))
    return chosen_batch(run, pipe, size, device, len(prompts), most)


def _objectives(config: SearchConfig, scorer: Scorer | None) -> tuple[Objective, ...]:
    """In the order that was asked for, under their true names."""
    quality = iter(scorer.objectives if scorer else [])
    made = []
    for name in config.objectives:
        if name in LATENCY:
            made.append(Objective(name, LATENCY[name]))
        else:
            true = next(quality)
            made.append(Objective(true.name, true.direction))
    return tuple(made)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
