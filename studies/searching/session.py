"""From a search's options to everything that runs it: settings, space, evaluator, baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from explorer.calibration.fitting import Fitter
from explorer.compile_modes import compile_mode
from explorer.devices import DeviceInfo, describe, resolve_device
from explorer.errors import StudyError
from explorer.memory import is_out_of_memory, out_of_memory
from explorer.models.loading import fingerprint
from explorer.models.workload import vae_factor
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import LAST_OF_FAMILIES, PAPER_MODES, PAPER_STRATEGIES, baselines
from explorer.quality.scorer import Scorer
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from search_spaces import make_space
from search_spaces.axes import choices, controls
from studies.config import SearchConfig, kept
from studies.device_lock import on_device
from studies.metrics import SPEEDS
from studies.predicting.calibration import Calibration
from studies.predicting.drift_model import DriftModel
from studies.scoring.evaluator import CandidateEvaluator
from studies.searching.opening import (
    Model,
    Quality,
    RunOptions,
    evaluator_of,
    load_model,
    load_quality,
    sized_runs,
    space_of,
    values_of,
)
from studies.settings import Objective, SamplerSettings, StudySettings
from studies.storage.saved import Saved


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

    def with_calibration(self, calibration: Calibration) -> Session:
        """The same, whose plans are fitted and predicted by the study's calibration. Nothing is loaded again."""
        factor = vae_factor(self.evaluator.pipe)
        height, width = self.settings.resolution
        costs = anatomy(self.evaluator.pipe.unet, (height // factor, width // factor))
        students = self.evaluator.predictions.students
        setting = self.space.setting
        schedulers = tuple(setting.schedulers) if setting.values else None
        model = partial(
            DriftModel, calibration, self.evaluator.evaluations, costs.share, students=students, schedulers=schedulers
        )
        fitter, space = Fitter(calibration.moments), self.space
        if space.setting.fit is not None:
            space = self._fitted_space(fitter)
        return replace(self, fitter=fitter, space=space, evaluator=self.evaluator.with_drift_model(model))

    def calibrating(self) -> Session:
        """The same of a study that is to be calibrated, whose space has the rule `fitted`. Nothing is loaded again."""
        settings = replace(self.settings, extra={**self.settings.extra, "calibrated": True})
        config, space = replace(self.config, calibrate=True), self._fitted_space(self.fitter)
        return replace(self, config=config, settings=settings, space=space)

    def _fitted_space(self, fitter: Fitter) -> Any:
        """The space with the rule `fitted`, whose weights `fitter` gives."""
        of = self.space.setting
        return make_space(self.space.name, of.architecture, of.steps, of.evaluations, fitter, of.values, of.forms)

    def reseeded(self, seed: int) -> Session:
        """The same with the pictures of other seeds. Nothing is loaded again."""
        evaluator = self.evaluator.reseeded(seed)
        config, settings = replace(self.config, seed=seed), replace(self.settings, seed=seed)
        return replace(self, config=config, settings=settings, evaluator=evaluator)

    def baselines(self) -> Iterator[InheritancePlan]:
        """The controls and named strategies that every study begins with."""
        if self.config.baselines == "none":
            return
        complete = self.config.baselines == "all"
        modes = PAPER_MODES if complete else PAPER_MODES[:1]
        yield from baselines(
            self.architecture, self.config.steps, modes=modes, complete=complete, controls=controls(self.space.setting),
            strategies=LAST_OF_FAMILIES if self.config.baselines == "few" else PAPER_STRATEGIES,
        )  # fmt: skip


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
    """The stages of `open_session`."""
    model = load_model(config, pipe)
    values = values_of(config, model.pipe)
    space = space_of(config, model, values)
    quality = load_quality(config, model, references)
    runs = sized_runs(config, model)
    students = {name: found.student for name, found in values.get("cast", {}).items()}
    evaluator = evaluator_of(config, model, quality, runs, students)
    settings = _settings(config, model, space, quality, runs)
    session = Session(config, settings, model.architecture, space, evaluator, model.info, Fitter({}))
    return session.calibrating() if config.calibrate else session


def _settings(
    config: SearchConfig, model: Model, space: Any, quality: Quality | None, runs: RunOptions
) -> StudySettings:
    """What identifies the study's measurements. They are stored, and every later process is held to them."""
    pipe, info, prompts, values = model.pipe, model.info, model.prompts, space.setting.values
    scorer, loaded = (quality.scorer, quality.pictures) if quality else (None, None)
    return StudySettings(
        model=config.model,
        architecture=model.architecture.signature,
        device=f"{info.kind}: {info.name}",
        dtype=model.dtype,
        resolution=runs.size,
        steps=config.steps,
        scheduler=type(pipe.scheduler).__name__,
        space=config.space,
        objectives=_objectives(config, scorer),
        prompts=prompts.name,
        prompts_hash=_digest(prompts.texts),
        sampler=SamplerSettings(config.sampler, {}, config.seed),
        guidance=runs.guidance,
        batch=runs.batch,
        seed=config.seed,
        compile=compile_mode(config.compile),
        extractor=scorer.extractor if scorer else None,
        reference=quality.reference if quality else None,
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
        | {
            name: value
            for axis in choices()
            if values.get(axis.name)
            for name, value in axis.kept(values[axis.name]).items()
        },
    )


def _objectives(config: SearchConfig, scorer: Scorer | None) -> tuple[Objective, ...]:
    """In the order that was asked for, under their true names."""
    quality = iter(scorer.objectives if scorer else [])
    made = []
    for name in config.objectives:
        if name in SPEEDS:
            made.append(Objective(name, SPEEDS[name].direction))
        else:
            true = next(quality)
            made.append(Objective(true.name, true.direction))
    return tuple(made)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
