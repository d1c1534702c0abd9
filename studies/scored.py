"""What the driver needs of an evaluator, and what an evaluator gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan

Part = Literal["latency", "quality"]
"""What a worker measures of a plan when it does not measure all: latencies belong to the study's device alone."""
LATENCY: Part = "latency"
QUALITY: Part = "quality"


@dataclass(frozen=True)
class Picture:
    """A sample picture.

    Attributes:
        number: The prompt's number.
        png: The picture as a PNG file.
        thumbnail: A small copy as a PNG file.
        prompt: Its text.
        seed: The seed of the noise.
    """

    number: int
    png: bytes
    thumbnail: bytes
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Scored:
    """What was measured of one plan.

    Attributes:
        estimates: Value, interval and n of each metric (`latency` in seconds per picture, `speedup` as a ratio).
        seconds: Seconds that each measurement took.
        extractors: The extractor of each metric that has one.
        samples: Raw samples of each metric, stored as JSON.
        pictures: Sample pictures.
        screened: Why a race dropped the plan early; None for one that was scored completely.
        unsteady: Why the latency must be measured again. The disturbed one is then stored under `UNSTEADY_LATENCY` of
            `studies.metrics`.
    """

    estimates: Mapping[str, Estimate]
    seconds: Mapping[str, float] = field(default_factory=dict)
    extractors: Mapping[str, str | None] = field(default_factory=dict)
    samples: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    screened: str | None = None
    unsteady: str | None = None


def together(latency: Scored | None, quality: Scored) -> Scored:
    """The scores of a plan whose latency (if it was timed) and quality were measured separately."""
    if latency is None:
        return quality
    return replace(
        quality,
        estimates={**latency.estimates, **quality.estimates},
        seconds={**latency.seconds, **quality.seconds},
        samples={**latency.samples, **quality.samples},
        unsteady=latency.unsteady,
    )


@dataclass(frozen=True)
class Prediction:
    """What a calibration predicts of a plan.

    Attributes:
        drift: RMS of the final latents' change over the RMS of the latents.
        cost: Time of the plan's UNet evaluations over that of the un-accelerated run.
    """

    drift: float
    cost: float


class Evaluator(Protocol):
    """Scores plans on one device."""

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """Measure a plan.

        Args:
            plan: The plan.
            part: `latency` or `quality`; None measures both.

        Raises:
            ExplorerError: When the plan cannot be scored. The study records it and goes on.
            RuntimeError: The same.
        """

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan (with PNDM, one more than its steps)."""

    def rejection(self, plan: InheritancePlan) -> str | None:
        """Why a proposed plan is not measured; None if it is. Baselines are always measured."""
