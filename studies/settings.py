"""What a study measures. It is stored with the study, and a run with other settings is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from explorer.compile_modes import CompileMode, compile_mode
from explorer.errors import StudyError
from search_spaces.axes import choices

DIRECTIONS = ("minimize", "maximize")
OF_THE_DEVICE = ("device", "driver", "torch", "threads")
"""What a latency depends on and a picture does not, but for rounding."""


@dataclass(frozen=True)
class Objective:
    """One axis of the front.

    Attributes:
        name: The metric's true name.
        direction: `minimize` or `maximize`.

    Raises:
        StudyError: For another direction.
    """

    name: str
    direction: str

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise StudyError(f"the direction {self.direction!r} of {self.name} is unknown; use minimize or maximize.")


@dataclass(frozen=True)
class SamplerSettings:
    """The sampler of a study.

    Attributes:
        name: One of `studies.config.SAMPLERS`.
        arguments: Arguments of its class.
        seed: The study's seed.
    """

    name: str = "tpe"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class StudySettings:
    """What must be equal for two measurements to share a front.

    Attributes:
        model: Name, path or hub id.
        architecture: Signature of the UNet's `Architecture`.
        device: Name of the device.
        dtype: Such as `float16`.
        resolution: Height and width of a picture in pixels.
        steps: Steps of the un-accelerated pipeline.
        scheduler: Class of the pipeline's scheduler.
        space: Name of the search space.
        objectives: Axes of the front.
        prompts: Name of the prompt set.
        prompts_hash: Hash of its content.
        sampler: The sampler.
        guidance: Guidance scale.
        batch: Pictures per UNet call when quality is measured.
        seed: Of the pictures.
        compile: Compile mode.
        extractor: Of the Frechet distance's features.
        reference: What pictures are compared with.
        extra: Further facts that must match, by name (JSON values).

    Raises:
        StudyError: For no objectives, or one that is named twice.
    """

    model: str
    architecture: str
    device: str
    dtype: str
    resolution: tuple[int, int]
    steps: int
    scheduler: str
    space: str
    objectives: tuple[Objective, ...]
    prompts: str
    prompts_hash: str
    sampler: SamplerSettings = SamplerSettings()
    guidance: float = 7.5
    batch: int = 1
    seed: int = 0
    compile: CompileMode = "off"
    extractor: str | None = None
    reference: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) != len(names):
            raise StudyError(f"a study needs different objectives, at least one; got {', '.join(names) or 'none'}.")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        data = asdict(self)
        data["resolution"] = list(self.resolution)
        data["objectives"] = [asdict(objective) for objective in self.objectives]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudySettings:
        """Read what `to_json` wrote; unknown fields are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values["resolution"] = tuple(values["resolution"])
        values["objectives"] = tuple(Objective(**objective) for objective in values["objectives"])
        values["sampler"] = SamplerSettings(**values["sampler"])
        values["compile"] = compile_mode(values.get("compile"))  # a bool in studies of earlier versions
        return cls(**values)


def scheduler_words(settings: StudySettings) -> str:
    """The study's scheduler, and what its plans may have beside the pipeline's own."""
    others = [name for axis in choices() for name in axis.among(settings)]
    return settings.scheduler + (f" (plans also of {', '.join(others)})" if others else "")


def flatten(settings: StudySettings) -> dict[str, Any]:
    """Each thing that must match, by the name a person would use for it."""
    data = settings.to_json()
    data.pop("batch")  # a picture does not depend on how many are made at once
    sampler = data.pop("sampler")
    extra = data.pop("extra")
    data["resolution"] = "x".join(str(side) for side in data["resolution"])
    data["objectives"] = ", ".join(f"{objective['direction']} {objective['name']}" for objective in data["objectives"])
    data["prompts"] = f"{data['prompts']} ({data.pop('prompts_hash')[:12]})"
    data["sampler"], data["sampler seed"] = sampler["name"], sampler["seed"]
    data["sampler arguments"] = dict(sampler["arguments"])
    given = [axis for axis in choices() if axis.option in extra]
    return data | dict(extra) | {axis.option: [axis.named(each) for each in extra[axis.option]] for axis in given}


def same_weights(stored: StudySettings, asked: StudySettings) -> bool:
    """Whether the models of both have the same fingerprint, wherever they are."""
    fingerprint = stored.extra.get("weights")
    return fingerprint is not None and fingerprint == asked.extra.get("weights")


def differences(stored: StudySettings, asked: StudySettings) -> list[tuple[str, Any, Any]]:
    """(what, the study's value, the asked value) for everything in which the two differ."""
    there, here = flatten(stored), flatten(asked)
    if same_weights(stored, asked):
        there["model"] = here["model"]  # a folder that was moved, or copied
    return [(name, there.get(name), here.get(name)) for name in {**there, **here} if there.get(name) != here.get(name)]


def difference_words(different: list[tuple[str, Any, Any]], what: str) -> str:
    """The outcome of `differences` in words; what: who has the stored values."""
    return "; ".join(f"{label}: {what} has {there!r}, this run {here!r}" for label, there, here in different)


def check_same(name: str, stored: StudySettings, asked: StudySettings) -> None:
    """Raises StudyError, saying both sides, unless `asked` measures exactly what the study `name` measures."""
    _refuse(name, differences(stored, asked))


def check_elsewhere(name: str, stored: StudySettings, asked: StudySettings) -> str:
    """In what the device of `asked` differs from the study's, in words; empty when it is the same.

    Raises:
        StudyError: when anything else differs, so that even the quality would be another one.
    """
    different = differences(stored, asked)
    device = [difference for difference in different if difference[0] in OF_THE_DEVICE]
    if len(device) < len(different):
        _refuse(name, different)
    return difference_words(device, "the study")


def _refuse(name: str, different: list[tuple[str, Any, Any]]) -> None:
    if different:
        raise StudyError(
            f"the study {name!r} measures something else ({difference_words(different, 'the study')}); use its "
            "settings or another --study name."
        )
