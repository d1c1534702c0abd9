"""What a command asks of a study, and what of it cannot be: known before torch is imported and a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ScoreError, StudyError
from explorer.models.loading import EMOJI, default_guidance, has_weights
from explorer.models.lora import parse_lora
from explorer.models.prompts import PromptSet, load_prompts, search_prompts, with_negative
from explorer.models.workload import is_guided
from explorer.plans.cast import Cast, cast_students
from explorer.quality.features import default_extractor
from explorer.quality.metrics import least_pictures, resolve
from search_spaces.axes import values_of
from studies import removed
from studies.config import SearchConfig, check_place, make_config, restored
from studies.settings import StudySettings


@dataclass(frozen=True)
class Asked:
    """What the options of a search mean.

    Attributes:
        prompts: What pictures are made of.
        trained: Whether the model has weights, so that quality can be measured.
        extractor: Of the features that distances are computed from.
    """

    prompts: PromptSet
    trained: bool
    extractor: str


def asked(config: SearchConfig) -> Asked:
    """What `config` means.

    Raises:
        ExplorerError: For options that no model makes possible: quality of random weights, prompts that cannot be read,
            a LoRA file that does not exist, a negative prompt without guidance, an unknown metric, or fewer prompts
            than one needs.
    """
    trained, embedded = has_weights(config.model), config.model == EMOJI
    if not trained and config.calibrate:
        raise StudyError(f"{config.model} has random weights, so there is nothing to calibrate; leave --calibrate out.")
    if not trained and config.quality_objectives:
        raise StudyError(
            f"{config.model} has random weights, so {', '.join(config.quality_objectives)} would mean nothing; "
            "use --objectives latency, or a model with trained weights."
        )
    prompts = load_prompts(config.prompts or search_prompts(config.model), config.prompt_count)
    guidance = default_guidance(config.model) if config.guidance is None else config.guidance
    if config.negative_prompt and not is_guided(guidance):
        raise StudyError(
            f"--negative-prompt does nothing without classifier-free guidance, and --guidance is {guidance:g}; give "
            "more than 1, or leave the negative prompt out."
        )
    for lora in config.lora:
        parse_lora(lora).check()
    prompts = with_negative(prompts, config.negative_prompt)
    extractor = config.extractor or default_extractor(embedded)
    if trained:
        _check_count(config, extractor, prompts)
    return Asked(prompts, trained, extractor)


def _check_count(config: SearchConfig, extractor: str, prompts: PromptSet) -> None:
    """Too few prompts for a metric are a mistake of the study, not of each candidate."""
    for objective in resolve(config.quality_objectives, extractor, config.clip_model):
        least = least_pictures(objective.name, extractor, config.clip_model)
        if len(prompts) < least:
            raise ScoreError(
                f"{objective.name} needs at least {least} prompts, as fewer show nothing, and {prompts.name} has "
                f"{len(prompts)}; give more, or --objectives latency,psnr, which few prompts tell apart."
            )


def config_of(settings: StudySettings, study: str, **run: Any) -> SearchConfig:
    """The options that give a stored study's settings again: how its workers know what to measure. run: those that a
    study does not hold."""
    of_fields = {
        "model": settings.model,
        "space": settings.space,
        "objectives": tuple(objective.name for objective in settings.objectives),
        "prompts": settings.prompts,
        "steps": settings.steps,
        "seed": settings.seed,
        "dtype": settings.dtype,
        "compile": settings.compile,
        "sampler": settings.sampler.name,
        "guidance": settings.guidance,
        "resolution": settings.resolution,
        "batch": settings.batch,
        "extractor": settings.extractor,
        "reference": settings.reference,
        "calibrate": settings.extra.get("calibrated", False),
    } | values_of(settings.extra)
    return SearchConfig(study=study, **of_fields | restored(settings.extra) | run)


def measured_config(settings: StudySettings, study: str, *, cast: Cast | None = None, **run: Any) -> SearchConfig:
    """As `config_of`, for measuring one plan of the study: its space does not count there, and may be one that this
    version does not have. cast: the plan's; no other students need be there."""
    named = [each for each in settings.extra.get("students", ()) if each.partition("=")[0] in cast_students(cast)]
    return config_of(settings, study, **{"space": SearchConfig().space, "students": tuple(named)} | run)


def stored_settings(storage: str, study: str) -> StudySettings | None:
    """The settings of a study; None where the storage does not hold it. No database file is made.

    Raises:
        StudyError: For a storage that cannot be opened or made.
    """
    from studies.storage import sqlite  # late, as Optuna and SQLAlchemy take most of a second
    from studies.storage.database import parse_url
    from studies.storage.store import Store

    url = parse_url(storage)
    if sqlite.is_sqlite(url) and not sqlite.file_of(url).exists():
        sqlite.check_place(url)
        return None
    with Store.open(storage) as store:
        found = [each.settings for each in store.studies() if each.name == study]
    return found[0] if found else None


def _is_no_file_yet(storage: str) -> bool:
    """Whether a storage is a SQLite file that does not exist, so that the study is a new one."""
    path = storage.removeprefix("sqlite:///")
    return "://" not in path and not Path(path).exists()


def config_asked(
    given: Mapping[str, Any], file: Path | None = None, new: Mapping[str, Any] | None = None
) -> SearchConfig:
    """The options of a command on a study that exists or is to be made, checked as far as they can be without a model.

    Args:
        given: The options of the command line.
        file: A TOML file of further ones.
        new: What holds of a study that is made.

    Raises:
        ExplorerError: The first thing that cannot be, in one sentence. Nothing is stored then.
    """
    config = make_config(given, file)
    if _is_no_file_yet(config.storage):
        asked(make_config({**given, **(new or {})}, file))  # reports errors before the storage's imports
    settings = stored_settings(config.storage, config.study)
    if settings is not None:
        config = make_config(given, file, config_of(settings, config.study))
        check_place(config)
    elif new is not None:
        config = make_config({**given, **new}, file)
    removed.check_sampler(config.sampler)
    asked(config)
    return config
