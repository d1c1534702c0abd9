"""What a search is asked to do: the command line's options, a TOML file with the same names, and the defaults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from explorer.compile_modes import compile_mode
from explorer.errors import PlanError, StudyError, brief, is_text
from explorer.plans.schedulers import OWN, check_name
from studies import removed

STORAGE_VARIABLE = "EXPLORER_STORAGE"  # a URL with a password is better there than where `ps` shows it
LATENCY = {"latency": "minimize", "speedup": "maximize"}
BASELINES = ("all", "short", "none")
SAMPLERS = ("tpe", "nsgaii", "random")
PROPOSALS = ("planned", "seeds", "sampler")
LISTS = {"objectives": "latency,fd,clip", "schedulers": "own,DPMSolverMultistepScheduler"}
RACING = ("drift", "off")
LARGEST = 2**53
"""No number of an option may be larger, so that all of them can be counted with and stored."""
AUTO = "auto"


@dataclass(frozen=True)
class SearchConfig:
    """A search. None: chosen by the model (prompts, guidance, extractor, reference, resolution), by what fits (batch,
    on the command line also `auto`) or open (timeout).

    trials: the study's total, baselines and earlier runs included. baselines: `all` (69 rows of Table V, DeepCache,
    encoder propagation and the plain controls), `short` (one mode of the 23) or `none`. batch: pictures a UNet call
    when quality is measured; latency_batch: when latency is, in `pairs`
    alternating pairs with the un-accelerated pipeline. reference: `embedded`, `baseline` (the un-accelerated
    pictures), a statistics file or a picture folder. guidance: up to 1 the pipeline runs without classifier-free
    guidance, as in diffusers. variant: which weight files to read (`explorer.load_pipeline`). prompt_count: the first
    so many prompts. compile: a mode of
    `explorer.compile_modes`; a file may say true (default) or false (off). calibrate: begin with a calibration, and let
    the space have the rule `fitted`; None: where that pays in a new study (`studies.searching.preparation`). proposals:
    a kind of `studies.proposing.proposers`, or `auto`.
    max_cache_mib, max_variants, max_age: limits on what is proposed (`studies.scoring.limits`). schedulers: what a plan
    of the space `joint` may run under, `own` (the pipeline's) first among them; each has its plain controls. racing:
    `drift`, a proposed plan is measured on few prompts first and dropped once a standing plan that is at least as fast
    clearly drifts less (`studies.scoring.racing`), or `off`. replay: MiB of the UNet's outputs that a study keeps, so
    that plans which begin alike share their beginning; 0 keeps none.
    """

    study: str = "search"
    model: str = "emoji"
    space: str = "joint"
    objectives: tuple[str, ...] = ("latency", "fd", "clip")
    prompts: str | None = None
    prompt_count: int | None = None
    steps: int = 50
    trials: int = 200
    timeout: float | None = None
    workers: int = 1
    storage: str = "sqlite:///explorer.db"
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    variant: str | None = None
    compile: str = "off"
    sampler: str = "tpe"
    guidance: float | None = None
    resolution: int | None = None
    batch: int | None = None
    latency_batch: int = 1
    pairs: int = 7
    extractor: str | None = None
    clip_model: str | None = None
    reference: str | None = None
    baselines: str = "all"
    calibrate: bool | None = None
    proposals: str = AUTO
    max_cache_mib: float | None = None
    max_variants: int | None = None
    max_age: int | None = None
    schedulers: tuple[str, ...] = (OWN,)
    racing: str = "drift"
    replay: int = 1024

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "trials",
            "workers",
            "batch",
            "latency_batch",
            "pairs",
            "prompt_count",
            "timeout",
            "resolution",
            "max_cache_mib",
            "max_variants",
            "max_age",
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value < LARGEST:
                given = brief(value, 40)
                raise StudyError(f"--{name.replace('_', '-')} must be more than zero, and a number, got {given}.")
        if not 0 <= self.replay < LARGEST:
            raise StudyError(f"--replay must be a number of MiB, or 0 for none, got {brief(self.replay, 40)}.")
        if not 0 <= self.seed < 2**31:
            raise StudyError(f"--seed must be from 0 to {2**31 - 1}, got {brief(self.seed, 40)}.")
        if self.steps == 1:
            raise StudyError(
                "--steps 1 is a single UNet evaluation, which has no earlier one to inherit features from; give 2 or "
                "more (Turbo models: 2 to 4)."
            )
        if self.guidance is not None and not 0 <= self.guidance < 1000:
            raise StudyError(
                "--guidance must be 0 or more (up to 1: without classifier-free guidance), got "
                f"{brief(self.guidance, 40)}."
            )
        if self.resolution is not None and self.resolution % 8:
            raise StudyError(f"--resolution must be a multiple of 8 pixels, got {self.resolution}.")
        for name, known in (
            ("baselines", BASELINES),
            ("sampler", SAMPLERS),
            ("proposals", (AUTO, *PROPOSALS)),
            ("racing", RACING),
        ):
            value = getattr(self, name)
            if value not in known and (name, value) != ("sampler", removed.SAMPLER):  # which earlier studies may have
                raise StudyError(f"unknown --{name} {brief(repr(value), 60)}; use one of {', '.join(known)}.")
        if self.max_variants == 1:
            raise StudyError("--max-variants counts the extract step as well, so 1 leaves nothing; give 2 or more.")
        try:
            compile_mode(self.compile)
        except PlanError as error:
            raise StudyError(f"--compile: {error}") from error
        self._check_schedulers()
        if not self.objectives:
            raise StudyError("--objectives names none; give some, such as latency,fd,clip.")

    def _check_schedulers(self) -> None:
        if OWN not in self.schedulers:
            raise StudyError(
                f"--schedulers must have {OWN} among its names, the pipeline's own, which every plan is held against; "
                f"got {','.join(self.schedulers) or 'none'}."
            )
        try:
            names = [name if name == OWN else check_name(name) for name in self.schedulers]
        except PlanError as error:
            raise StudyError(f"--schedulers: {error}") from error
        object.__setattr__(self, "schedulers", tuple(dict.fromkeys([OWN, *names])))

    @property
    def quality_objectives(self) -> tuple[str, ...]:
        return tuple(name for name in self.objectives if name not in LATENCY)


def make_config(given: dict[str, Any], file: Path | None = None, base: SearchConfig | None = None) -> SearchConfig:
    """The defaults (or `base`), then the TOML `file`, then what was `given` on the command line (None: not given).

    Raises:
        StudyError: for an unreadable file, an unknown name, or a value of the wrong type.
    """
    values: dict[str, Any] = _read(file) if file is not None else {}
    values.update({name: value for name, value in given.items() if value is not None})
    known = {field.name: field for field in fields(SearchConfig)}
    for name, value in values.items():
        if name not in known:
            raise StudyError(f"{file}: unknown name {brief(name, 60)!r}; known: {', '.join(known)}.")
        values[name] = _typed(name, value, str(known[name].type))
    for name in ("model", "prompts", "reference"):
        values[name] = absolute(values.get(name))
    base = base or SearchConfig()
    if values.get("batch") == AUTO:
        values["batch"] = None  # what stands, otherwise what fits
    return replace(base, **{name: value for name, value in values.items() if value is not None})


def absolute(value: str | None) -> str | None:
    """A path that exists is stored whole, so that a study knows it from any folder; other names stay."""
    if value is None or not Path(value).exists() or value == "emoji":
        return value
    return str(Path(value).resolve())


def check_place(config: SearchConfig) -> None:
    """Raises StudyError where the model of a study is a path at which there is nothing any more."""
    path = Path(config.model)
    if path.is_absolute() and not path.exists():
        raise StudyError(
            f"the model of the study {config.study!r} is not at {config.model} any more; say where it is now with "
            "`explorer search --model PATH`."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte-order mark
    except OSError as error:
        raise StudyError(f"cannot read {file}: {error.strerror}; give a TOML file.") from error
    except (ValueError, RecursionError) as error:  # of the decoder, of the parser, or a number that is too long
        raise StudyError(f"{file} is not a TOML file in UTF-8 ({brief(error, 160)}); correct it.") from error
    return {name.replace("-", "_"): value for name, value in data.items()}


def _typed(name: str, value: Any, declared: str) -> Any:
    """Check a value against the field's declared type; a text of several names is split at its commas."""
    if name in LISTS:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise StudyError(f"{name} must be names such as {LISTS[name]}, got {brief(repr(value), 60)}.")
        return tuple(part.strip() for part in parts if part.strip())
    if name == "compile" and isinstance(value, bool):
        return compile_mode(value)
    if name == "batch" and isinstance(value, str) and value != AUTO:
        if not value.isdecimal() or len(value) > 9:
            raise StudyError(f"batch must be a number or {AUTO}, got {brief(repr(value), 60)}.")
        return int(value)
    if name == "batch" and value == AUTO:
        return value
    wanted: tuple[type, ...] = (str,)
    if declared.startswith("bool"):
        wanted = (bool,)
    elif declared.startswith("int"):
        wanted = (int,)
    elif declared.startswith("float"):
        wanted = (int, float)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise StudyError(f"{name} must be a {wanted[-1].__name__}, got {brief(repr(value), 60)}.")
    if isinstance(value, str) and not is_text(value):
        raise StudyError(f"{name} holds a null character or half of a surrogate pair, got {brief(ascii(value), 60)}.")
    return value
