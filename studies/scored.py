"""What the driver needs of a space and an evaluator, and what an evaluator gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from optuna.trial import BaseTrial

from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan

Part = Literal["latency", "quality"]
"""What a worker measures of a plan when it does not measure all: latencies belong to the study's device alone."""
LATENCY: Part = "latency"
QUALITY: Part = "quality"


class Space(Protocol):
    """A search space: suggestions to a plan, and a plan back to the parameters that give it."""

    @property
    def name(self) -> str: ...

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        """Raises ExplorerError for a combination that is no plan."""

    def parameters(self, plan: InheritancePlan) -> dict[str, Any]:
        """Raises ExplorerError when the plan lies outside of the space."""


@dataclass(frozen=True)
class Picture:
    """A sample: the prompt's number, the picture and its thumbnail as PNG bytes, the prompt and the seed."""

    number: int
    png: bytes
    thumbnail: bytes
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Scored:
    """All that was measured of one plan, by metric.

    estimates: value with interval and n (`latency` in seconds per picture, `speedup` as a ratio). seconds: what the
    measurement cost. extractors: the features' name where the metric has some. samples: raw samples, kept as JSON.
    screened: why a race dropped the plan before all was measured; None for one that was scored whole. unsteady: why its
    latency is not to be quoted and has to be measured again; the disturbed one is then under `UNSTEADY_LATENCY` of
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
    """The scores of one plan whose latency, where it was timed, and quality were measured apart."""
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
    """drift: root mean square of the final latents' change over that of the latents. cost: time of the plan's UNet
    evaluations over the un-accelerated run's."""

    drift: float
    cost: float


class Evaluator(Protocol):
    """Scores plans on one device."""

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """Measure one part of the plan's scores, or all (None).

        Raises ExplorerError or RuntimeError when the plan cannot be scored: the study records it and goes on."""

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan (PNDM: one more than its steps)."""

    def rejection(self, plan: InheritancePlan) -> str | None:
        """Why a proposed plan need not be measured; None when it is to be. Baselines are never screened."""
