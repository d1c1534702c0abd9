"""The stages of `studies.searching.session.open_session`: from a search's options to its model, space, scorer, runs and
evaluator. Each refuses in one sentence what cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.compile_modes import compile_mode, uses_graphs
from explorer.devices import DeviceInfo, describe, resolve_device, resolve_dtype
from explorer.errors import ModelError, PlanError, StudyError
from explorer.memory import check_memory, free_memory, needed_for
from explorer.models.batching import MOST, chosen_batch
from explorer.models.loading import EMOJI, default_guidance, load_pipeline
from explorer.models.pictures import generate
from explorer.models.prompts import PromptSet
from explorer.models.workload import is_guided, latent_size, random_embeds, vae_factor
from explorer.networks.found import own_bytes, students_of_model
from explorer.plans.schedulers import evaluations_of
from explorer.quality.features import load_extractor
from explorer.quality.metrics import resolve
from explorer.quality.reference import Reference, load_reference
from explorer.quality.registry import DRIFT
from explorer.quality.scorer import Scorer
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from search_spaces import Space, make_space
from search_spaces.axes import choices
from search_spaces.joint import JointSpace
from studies.scoring.assembly import make_evaluator
from studies.scoring.limits import PlanLimits
from studies.scoring.racing import quarter
from studies.searching.asking import Asked, asked

if TYPE_CHECKING:
    import torch

    from explorer.networks.student import Student
    from studies.config import SearchConfig
    from studies.scoring.evaluator import CandidateEvaluator
    from studies.storage.saved import Saved

BASELINE_REFERENCE = "baseline"


@dataclass(frozen=True)
class Model:
    """What is searched, and where it runs.

    Attributes:
        pipe: The pipeline, on `device` and with `dtype`.
        architecture: Of its UNet.
        asks: What the search's options mean for it: prompts, extractor, whether its weights are trained.
        device: Where it runs.
        info: The device's facts.
        dtype: Its name, such as `float16`.
    """

    pipe: Any
    architecture: Architecture
    asks: Asked
    device: torch.device
    info: DeviceInfo
    dtype: str

    @property
    def trained(self) -> bool:
        """Whether its weights are; a model with random ones makes no pictures."""
        return self.asks.trained

    @property
    def prompts(self) -> PromptSet:
        """Of the study."""
        return self.asks.prompts


@dataclass(frozen=True)
class Quality:
    """How pictures are scored.

    Attributes:
        scorer: Of the study's metrics and the drift that is measured always.
        reference: The name of the pictures that distances are measured from.
        pictures: What is known of them; None where they are the un-accelerated ones, which are not made yet.
    """

    scorer: Scorer
    reference: str
    pictures: Reference | None


@dataclass(frozen=True)
class RunOptions:
    """How pictures are made and the loop is timed.

    Attributes:
        guidance: The guidance scale.
        size: Height and width of a picture in pixels.
        batch: Pictures a call.
        feature_bytes: Of each node's feature in the loop that is timed.
    """

    guidance: float
    size: tuple[int, int]
    batch: int
    feature_bytes: dict[str, int]


def load_model(config: SearchConfig, pipe: Any) -> Model:
    """The model with the study's prompts. What can be refused without loading it is refused first.

    Args:
        config: The search's options.
        pipe: The model, where it is loaded already.
    """
    device = resolve_device(config.device)
    dtype = str(resolve_dtype(config.dtype, device)).removeprefix("torch.")
    asks = asked(config)
    if pipe is None:
        pipe = load_pipeline(config.model, device=str(device), dtype=dtype, variant=config.variant, loras=config.lora)
    return Model(pipe, Architecture.of(pipe.unet), asks, device, describe(device), dtype)


def space_of(config: SearchConfig, model: Model, values: Mapping[str, Mapping[str, Any]]) -> Space:
    """The space that is searched, for the model's steps and the `values_of` its axes."""
    scheduler = model.pipe.scheduler
    most = int(scheduler.config.num_train_timesteps)
    if config.steps > most:
        raise StudyError(f"--steps must be at most {most} with this model's scheduler, got {config.steps}.")
    evaluations = evaluations_of(scheduler, config.steps)
    return make_space(config.space, model.architecture, config.steps, evaluations, values=values)


def load_quality(config: SearchConfig, model: Model, references: Saved | None) -> Quality | None:
    """The scorer of the study's metrics with its reference pictures; None for a model with random weights.

    Args:
        config: The search's options.
        model: Whose pictures are scored.
        references: Where features of a reference folder are kept.
    """
    if not model.trained:
        return None
    extractor = model.asks.extractor
    metrics = list(config.quality_objectives)
    true_names = [objective.name for objective in resolve(metrics, extractor, config.clip_model)]
    metrics += [name for name in DRIFT if name not in true_names]
    reference = config.reference or ("embedded" if config.model == EMOJI else BASELINE_REFERENCE)
    pictures = None
    if reference != BASELINE_REFERENCE:
        keep = None if references is None else references.get
        pictures = load_reference(reference, load_extractor(extractor, model.device), keep=keep)
    scorer = Scorer(metrics, extractor, pictures, config.clip_model, model.device)
    return Quality(scorer, reference, pictures)


def sized_runs(config: SearchConfig, model: Model) -> RunOptions:
    """Guidance, size and batch of the study's runs, for which the device has the memory."""
    pipe = model.pipe
    guidance = default_guidance(config.model) if config.guidance is None else config.guidance
    own = int(pipe.unet.config.sample_size) * vae_factor(pipe)
    size = config.resolution or (own, own)
    features = _feature_bytes(config, model, size, guidance)
    check_memory(
        needed_for(features, compile_mode(config.compile)), free_memory(model.device),
        f"timing {config.model} at --latency-batch {config.latency_batch}, {size[0]}x{size[1]} px, {model.dtype}",
        device=str(model.device), dtype=model.dtype, batch="--latency-batch",
    )  # fmt: skip
    batch = config.batch or _batch(config, model, guidance, size)
    return RunOptions(guidance, size, batch, features)


def evaluator_of(
    config: SearchConfig, model: Model, quality: Quality | None, runs: RunOptions, students: Mapping[str, Student]
) -> CandidateEvaluator:
    """What scores the study's plans, before it has a profile, a calibration, a race or saved files."""
    mode = compile_mode(config.compile)
    features = {} if config.max_cache_mib is None else runs.feature_bytes
    if students and uses_graphs(mode):
        raise StudyError(
            f"--compile {mode} captures the steps of one network, and --students names {', '.join(students)}; use "
            "--compile off or default."
        )
    itemsize = model.pipe.unet.dtype.itemsize
    weights = {name: own_bytes(student, itemsize) for name, student in students.items()}
    return make_evaluator(
        model.pipe,
        steps=config.steps,
        guidance=runs.guidance,
        prompts=model.prompts.prompts,
        scorer=quality.scorer if quality else None,
        device=model.device,
        info=model.info,
        seed=config.seed,
        batch=runs.batch,
        latency_batch=config.latency_batch,
        pairs=config.pairs,
        size=runs.size,
        compile=mode,
        embeds=None if model.trained else random_embeds(model.pipe, config.latency_batch, model.device),
        limits=PlanLimits(config.max_cache_mib, config.max_variants, config.max_age, features, mode, weights),
        students=students,
        replay=config.replay * 2**20 if model.trained else 0,
    )


def values_of(config: SearchConfig, pipe: Any) -> dict[str, dict[str, Any]]:
    """What plans may have beside the pipeline's own, by the name of the axis (`Setting.values`)."""
    found = {}
    for axis in choices():
        names = getattr(config, axis.option)
        try:
            found[axis.name] = axis.known(_usual_students(config, pipe) if names is None else names, pipe, config.steps)
        except (PlanError, ModelError, ImportError, ValueError) as error:
            raise StudyError(f"--{axis.option}: {error}") from error
    return found


def _usual_students(config: SearchConfig, pipe: Any) -> tuple[str, ...]:
    """The students of a search that names none: those beside the model, where a plan may have any."""
    possible = config.space == JointSpace.name and not uses_graphs(compile_mode(config.compile))
    return students_of_model(pipe) if possible else ()


def _feature_bytes(config: SearchConfig, model: Model, size: tuple[int, int], guidance: float) -> dict[str, int]:
    """Of each node's feature in the loop that is timed; with guidance the UNet sees two samples a picture."""
    samples = config.latency_batch * (2 if is_guided(guidance) else 1)
    latent = latent_size(size, vae_factor(model.pipe))
    itemsize = {"float64": 8, "float32": 4}.get(model.dtype, 2)
    return anatomy(model.pipe.unet, latent).feature_bytes(samples, itemsize)


def _batch(config: SearchConfig, model: Model, guidance: float, size: tuple[int, int]) -> int:
    """The default batch; a model without weights makes no pictures."""
    if not model.trained:
        return 1
    prompts = model.prompts

    def run(batch: int) -> None:
        texts = (prompts.texts * batch)[:batch]
        generate(model.pipe, texts, seed=config.seed, steps=2, guidance=guidance, batch_size=batch, size=size)

    # A race checks after complete batches: with all prompts in one batch it could not drop a plan.
    most = MOST if config.racing == "off" else min(MOST, quarter(len(prompts)))
    return chosen_batch(run, model.pipe, size, model.device, len(prompts), most)
