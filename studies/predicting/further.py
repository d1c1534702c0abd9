"""What a calibration tells of plans beside the pipeline's own scheduler, spacing and network: control runs under each
scheduler and spacing of the study, the features' moments under each scheduler, and each student alone.

Every one is a piece of its own, and a calibration is whole without them: what was not measured is not predicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studies.predicting.parts import Part, moments_of

if TYPE_CHECKING:
    from explorer.calibration.moments import Moments

PREFIX = "further/"
"""How the names of these pieces begin."""
Family = tuple[str | None, str | None]
"""A scheduler and a spacing, as plans name them."""
_LEAST = 1e-12


@dataclass(frozen=True)
class NetworkError:
    """Of a student (`explorer.calibration.network_errors.NetworkErrors`)."""

    errors: NDArray[np.float64]
    alone: float
    share: float


@dataclass(frozen=True)
class Further:
    """What was measured beside the pipeline's own.

    Attributes:
        plain: By scheduler and spacing, and by step count: mean square distance of the final latents of plain steps
            from those of the study's un-accelerated run.
        moments: Of the features of runs of the study's steps, by scheduler.
        networks: Of the students, by name.
        refused: Why pieces could not be made, by their names; of the calibration that was just made, and not kept.
    """

    plain: Mapping[Family, Mapping[int, float]] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)
    networks: Mapping[str, NetworkError] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def distance(self, family: Family, steps: int) -> float | None:
        """Mean square by which `steps` plain steps move the final latents; None where the family was not measured.
        Between the measured step counts the logarithms are interpolated."""
        known = self.plain.get(family)
        if not known:
            return None
        counts = sorted(known)
        logs = [math.log(max(known[count], _LEAST)) for count in counts]
        return math.exp(float(np.interp(math.log(steps), np.log(counts), logs)))


def plain_part(family: Family) -> str:
    scheduler, spacing = family
    return f"{PREFIX}plain/{scheduler or ''}~{spacing or ''}"


def moments_part(scheduler: str) -> str:
    return f"{PREFIX}moments/{scheduler}"


def network_part(name: str) -> str:
    return f"{PREFIX}network/{name}"


def further_of(parts: Mapping[str, Part]) -> Further:
    """What the stored pieces tell."""
    plain: dict[Family, dict[int, float]] = {}
    moments: dict[str, Moments] = {}
    networks: dict[str, NetworkError] = {}
    for name, part in parts.items():
        if "plain of" in part.facts:
            scheduler, spacing = part.facts["plain of"]
            plain[scheduler, spacing] = dict(zip(part.facts["steps of"], part.arrays["distance"].tolist(), strict=True))
        elif "network" in part.facts:
            alone, share = part.arrays["alone"].tolist()
            networks[part.facts["network"]] = NetworkError(part.arrays["errors"], alone, share)
        elif name.startswith(PREFIX):
            moments[part.facts["moments of"]] = moments_of(part)
    return Further(plain, moments, networks)
