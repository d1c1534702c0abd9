"""The options of a search, each declared once, and the TOML file with the same names."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.compile_modes import COMPILE_MODES, compile_mode
from explorer.errors import ModelError, PlanError, StudyError, brief
from explorer.models.lora import parse_lora
from explorer.models.sizes import LARGEST as LARGEST_SIDE
from explorer.models.sizes import parse_resolution, resolution_text
from explorer.plans.cast import TEACHER
from explorer.plans.schedulers import OWN, SPACINGS, check_name, check_spacing
from explorer.quality.registry import METRICS
from studies import removed
from studies.axis_options import own_first, teacher_first
from studies.metrics import SPEEDS
from studies.names import check_study_name
from studies.option import LARGEST, POSITIVE, Group, declared, option

STORAGE_VARIABLE = "EXPLORER_STORAGE"  # a URL with a password is better there than where `ps` shows it
BASELINES = ("all", "short", "few", "none")
SAMPLERS = ("tpe", "nsgaii", "random")
PROPOSALS = ("planned", "seeds", "sampler")
RACING = ("drift", "off")
AUTO = "auto"
MEASURES, SAMPLES, RUNS = Group.MEASURES, Group.SAMPLES, Group.RUNS


def _names(name: str, example: str) -> Callable[[Any], Any]:
    """Reads names from a text that has commas between them, or from a list."""

    def read(value: Any) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise StudyError(f"{name} must be names such as {example}, got {brief(repr(value), 60)}.")
        return tuple(part.strip() for part in parts if part.strip())

    return read


def _loras(value: Any) -> tuple[str, ...]:
    """Each as `PATH:SCALE`, its path absolute, so that a study knows it from any folder."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise StudyError(f"lora must be files such as style.safetensors:0.8, got {brief(repr(value), 60)}.")
    try:
        return tuple(str(parse_lora(each)) for each in given)
    except ModelError as error:
        raise StudyError(str(error)) from error


def _some_objectives(objectives: tuple[str, ...]) -> tuple[str, ...]:
    if not objectives:
        raise StudyError("--objectives names none; give some, such as latency,fd,clip.")
    return objectives


def _pipeline_steps(steps: int) -> int:
    if steps == 1:
        raise StudyError(
            "--steps 1 is a single UNet evaluation, which has no earlier one to inherit features from; give 2 or "
            "more (Turbo models: 2 to 4)."
        )
    return steps


def _known_space(space: str) -> str:
    from search_spaces import check_space  # late: help needs no spaces

    return check_space(space)


def _compile_mode(value: Any) -> str:
    """A file may say true (default) or false (off)."""
    try:
        return compile_mode(value)
    except PlanError as error:
        raise StudyError(f"--compile: {error}") from error


def _batch(value: Any) -> Any:
    """None for `auto`; digits as a number."""
    if value == AUTO:
        return None
    if isinstance(value, str):
        if not value.isdecimal() or len(value) > 9:
            raise StudyError(f"batch must be a number or {AUTO}, got {brief(repr(value), 60)}.")
        return int(value)
    return value


def _resolution(value: Any) -> Any:
    """Height and width; a single number is both."""
    try:
        return parse_resolution(value)
    except ModelError as error:
        raise StudyError(str(error)) from error


def _whole_latents(size: Any) -> Any:
    """For Stable Diffusion, whose latents have 8 pixels a side; `latent_size` knows the model's own factor."""
    if size is not None and any(side > LARGEST_SIDE for side in size):
        raise StudyError(f"--resolution must be {LARGEST_SIDE} pixels a side at most, got {resolution_text(size)}.")
    if size is not None and any(side % 8 for side in size):
        raise StudyError(f"--resolution must be a multiple of 8 pixels, got {resolution_text(size)}.")
    return size


def _several_variants(count: int) -> int:
    if count == 1:
        raise StudyError("--max-variants counts the extract step as well, so 1 leaves nothing; give 2 or more.")
    return count


def _sampler(name: Any) -> Any:
    known = (*SAMPLERS, removed.SAMPLER)  # which earlier studies may have
    if isinstance(name, str) and name not in known:
        raise StudyError(f"unknown --sampler {brief(repr(name), 60)}; use one of {', '.join(SAMPLERS)}.")
    return name


@dataclass(frozen=True)
class SearchConfig:
    """The options of a search. None: chosen by the model (prompts, guidance, extractor, reference, resolution), by
    what fits (batch), by whether it pays (calibrate), by what is there (students), or open (timeout)."""

    study: str = option("search", RUNS, "Name of the study. The same name resumes it.", check=check_study_name)
    model: str = option(
        "emoji",
        MEASURES,
        "As in `explorer models`, a folder, a .safetensors checkpoint or a hub id.",
        short="-m",
    )
    lora: tuple[str, ...] = option(
        (), MEASURES, "LoRA file (.safetensors) that is fused into the model, with its scale. Repeatable.",
        read=_loras, repeated=True, kept="LoRA", metavar="PATH[:SCALE]",
    )  # fmt: skip
    space: str = option(
        "joint", SAMPLES, "Search space: joint, named, block, layer, unit or schedule.", check=_known_space
    )
    objectives: tuple[str, ...] = option(
        ("latency", "fd", "clip"),
        MEASURES,
        f"Comma-separated: {', '.join((*SPEEDS, *METRICS))}.",
        read=_names("objectives", "latency,fd,clip"),
        check=_some_objectives,
        write=",".join,
    )
    prompts: str | None = option(None, MEASURES, "A shipped set, a .txt or a .jsonl file.", unset="the model's")
    negative_prompt: str | None = option(
        None, MEASURES, "Negative prompt of every picture.", unset="none", kept="negative prompt", metavar="TEXT"
    )
    prompt_count: int | None = option(
        None, MEASURES, "Use only the first N prompts.", unset="all", bounds=POSITIVE, kept="prompt count", metavar="N"
    )
    steps: int = option(50, MEASURES, "Steps of the un-accelerated pipeline.", bounds=POSITIVE, check=_pipeline_steps)
    trials: int = option(
        200, RUNS, "Total number of plans in the study, baselines and earlier runs included.",
        bounds=POSITIVE, worker=True,
    )  # fmt: skip
    timeout: float | None = option(
        None, RUNS, "Time limit in seconds, including loading. Plans in progress finish.", bounds=POSITIVE, worker=True
    )
    workers: int = option(1, RUNS, "Processes on this machine.", bounds=POSITIVE)
    storage: str = option("sqlite:///explorer.db", RUNS, "SQLite file or SQLAlchemy URL.", envvar=STORAGE_VARIABLE)
    seed: int = option(
        0, MEASURES, "Seed of the pictures and of the sampler.",
        bounds={"ge": 0, "lt": 2**31}, expected=f"from 0 to {2**31 - 1}",
    )  # fmt: skip
    device: str = option(AUTO, MEASURES, "auto, cpu, cuda, cuda:1 or mps.", worker=True)
    dtype: str = option(AUTO, MEASURES, "auto, float32, float16 or bfloat16.")
    variant: str | None = option(
        None, MEASURES, "Weight files to read, such as fp16 or non_ema.", unset="those of the dtype", kept="variant"
    )
    compile: str = option(
        "off", MEASURES, f"Compile mode: {', '.join(COMPILE_MODES)}.", read=_compile_mode, metavar="MODE"
    )
    sampler: str = option("tpe", SAMPLES, "tpe, random, or nsgaii (Optuna's NSGA-II).", read=_sampler)
    guidance: float | None = option(
        None, MEASURES, "Guidance scale. Up to 1, classifier-free guidance is off.", unset="the model's",
        bounds={"ge": 0, "lt": 1000}, expected="0 or more (up to 1: without classifier-free guidance)",
    )  # fmt: skip
    resolution: tuple[int, int] | None = option(
        None, MEASURES, "Size of a picture in pixels: a side, or HEIGHTxWIDTH.", unset="the model's",
        read=_resolution, check=_whole_latents, write=resolution_text, metavar="HxW",
    )  # fmt: skip
    batch: int | None = option(
        None, MEASURES, "Pictures per UNet call when quality is measured, or auto: what fits and pays.",
        unset=AUTO, bounds=POSITIVE, read=_batch, metavar="N",
    )  # fmt: skip
    latency_batch: int = option(
        1, MEASURES, "Pictures per call when latency is measured.", bounds=POSITIVE, kept="latency batch"
    )
    pairs: int = option(
        7, MEASURES, "Timed pairs of baseline and candidate, at least 3.", bounds=POSITIVE, kept="timed pairs"
    )
    extractor: str | None = option(
        None, MEASURES, "Features of FD and KID: emojiclip, efficientnet or inception.", unset="the model's"
    )
    clip_model: str | None = option(
        None, MEASURES, "open_clip model of the CLIP score.", unset="ViT-g-14, or the extractor where that is a CLIP",
        kept="CLIP model",
    )  # fmt: skip
    reference: str | None = option(
        None, MEASURES, "embedded, baseline (the un-accelerated pictures), a statistics file or a folder of pictures.",
        unset="the model's",
    )  # fmt: skip
    baselines: str = option(
        "all", RUNS, "Baselines to score first: all (69 rows of Table V, DeepCache, encoder propagation and "
        "controls), short (one mode of the 23), few (one of each family) or none.", choices=BASELINES,
    )  # fmt: skip
    calibrate: bool | None = option(None, RUNS, "Calibrate first, which adds the rule fitted.", unset="where it pays")
    proposals: str = option(
        AUTO, RUNS, "How plans are proposed: planned (needs a calibration), seeds or sampler; auto: planned in a "
        "calibrated study, otherwise seeds.", choices=(AUTO, *PROPOSALS), worker=True,
    )  # fmt: skip
    max_cache_mib: float | None = option(
        None, SAMPLES, "Maximum MiB that the cached features of a plan, and its students' own weights, take at once.",
        bounds=POSITIVE, kept="max cache MiB",
    )  # fmt: skip
    max_variants: int | None = option(
        None, SAMPLES, "Maximum number of distinct compiled steps per plan.",
        bounds=POSITIVE, check=_several_variants, kept="max variants",
    )  # fmt: skip
    max_age: int | None = option(
        None, SAMPLES, "Maximum age of inherited features in UNet evaluations.", bounds=POSITIVE, kept="max age"
    )
    schedulers: tuple[str, ...] = option(
        (OWN,), SAMPLES, "Schedulers that a plan of the space joint may use, comma-separated: own (the pipeline's) "
        "and names such as DPMSolverMultistep or DPMSolverMultistep+karras.",
        read=_names("schedulers", "own,DPMSolverMultistepScheduler"), check=own_first("--schedulers", check_name),
        write=",".join,
    )  # fmt: skip
    spacings: tuple[str, ...] = option(
        (OWN,), SAMPLES, "Spacings of the timesteps that a plan of the space joint may use, comma-separated: own (the "
        f"scheduler's), {', '.join(SPACINGS)}.", read=_names("spacings", "own,trailing"),
        check=own_first("--spacings", check_spacing), write=",".join,
    )  # fmt: skip
    students: tuple[str, ...] | None = option(
        None, SAMPLES, "Smaller networks that a plan of the space joint may run, comma-separated: NAME=DIR as "
        f"`explorer distill` writes one, NAME of one in the folder students of the model, or {TEACHER} for none.",
        unset="those in that folder", read=_names("students", "base,m2=DIR"), check=teacher_first, write=",".join,
        worker=True,
    )  # fmt: skip
    racing: str = option(
        "drift", RUNS, "drift: measure a plan on few prompts first, and on more if it may be on the front; or off.",
        choices=RACING, worker=True,
    )  # fmt: skip
    replay: int = option(
        1024, RUNS, "MiB of UNet outputs kept on disk for plans with the same beginning. 0: none.",
        bounds={"ge": 0, "lt": LARGEST}, expected="a number of MiB, or 0 for none", worker=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, each in OPTIONS.items():
            object.__setattr__(self, name, each.checked(getattr(self, name)))

    @property
    def quality_objectives(self) -> tuple[str, ...]:
        return tuple(name for name in self.objectives if name not in SPEEDS)


OPTIONS = declared(SearchConfig)
"""Every option by its name, in the order of the help."""
WORKER = tuple(name for name, of in OPTIONS.items() if of.option.worker)
"""The options that each process of a search gets."""
BENCHED = (
    "model", "lora", "students", "device", "dtype", "variant", "pairs", "steps", "guidance", "resolution", "compile",
)  # fmt: skip
"""What `explorer bench` takes, and an export's script gives it."""
CERTIFIED = (
    "prompts", "negative_prompt", "model", "lora", "students", "device", "dtype", "variant", "guidance", "resolution",
    "clip_model", "reference", "batch", "pairs", "compile",
)  # fmt: skip
"""What `explorer certify` takes."""


def kept(config: SearchConfig) -> dict[str, Any]:
    """What a study's `extra` holds of its options: `Option.kept` with the value. One that is None or empty is
    absent, as in studies from before the option. Values are those of JSON."""
    values = {of.option.kept: getattr(config, name) for name, of in OPTIONS.items() if of.option.kept is not None}
    given = {name: value for name, value in values.items() if name is not None and value not in (None, ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def restored(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a study's `extra` holds."""
    names = {name: of.option.kept for name, of in OPTIONS.items() if of.option.kept is not None}
    return {name: extra[kept_as] for name, kept_as in names.items() if kept_as in extra}


def make_config(given: Mapping[str, Any], file: Path | None = None, base: SearchConfig | None = None) -> SearchConfig:
    """The defaults (or `base`), then the TOML `file`, then what was `given` on the command line (None: not given).

    Raises:
        StudyError: for an unreadable file, an unknown name, or a value that an option cannot have.
    """
    values: dict[str, Any] = _read(file) if file is not None else {}
    values.update({name: value for name, value in given.items() if value is not None})
    for name in values:
        if name not in OPTIONS:
            raise StudyError(f"{file}: unknown name {brief(name, 60)!r}; known: {', '.join(OPTIONS)}.")
    checked = {name: OPTIONS[name].checked(value) for name, value in values.items()}
    for name in ("model", "prompts", "reference"):
        checked[name] = absolute(checked.get(name))
    return replace(base or SearchConfig(), **{name: value for name, value in checked.items() if value is not None})


def absolute(value: str | None) -> str | None:
    """A path that exists becomes absolute, so that a study works from any folder; other names stay."""
    if value is None or not Path(value).exists() or value == "emoji":
        return value
    return str(Path(value).resolve())


def check_place(config: SearchConfig) -> None:
    """Raises StudyError where the model of a study is a path at which there is nothing any more."""
    path = Path(config.model)
    if path.is_absolute() and not path.exists():
        raise StudyError(
            f"the model of the study {config.study!r} is not at {config.model} any more; give its new place with "
            "`explorer search --model PATH`."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte-order mark
    except OSError as error:
        raise StudyError(f"cannot read {file}: {error.strerror}; give a TOML file.") from error
    except (ValueError, RecursionError) as error:  # of the decoder, of the parser, or a number that is too long
        raise StudyError(f"{file} is not valid TOML in UTF-8 ({brief(error, 160)}).") from error
    return {name.replace("-", "_"): value for name, value in data.items()}
