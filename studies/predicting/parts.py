"""Stored pieces of a calibration: arrays, what they were made for, and features' moments in this form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explorer.unet.mask import Feature

if TYPE_CHECKING:
    from explorer.calibration.moments import Moments

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """One stored piece: its arrays, what it was made for and its cost in seconds."""

    name: str
    facts: dict[str, Any]
    arrays: Arrays
    seconds: float


def moments_arrays(moments: Moments) -> tuple[Arrays, dict[str, Any]]:
    facts = {
        "features": [list(feature) for feature in moments.gram],
        "scheduler": moments.scheduler, "steps": moments.steps, "evaluations": moments.evaluations,
        "guidance": moments.guidance, "pictures": moments.pictures, "architecture": moments.architecture,
    }  # fmt: skip
    return {"gram": np.stack(list(moments.gram.values()))}, {"moments": facts}


def moments_of(part: Part) -> Moments:
    from explorer.calibration.moments import Moments

    facts = dict(part.facts["moments"])
    features: list[Feature] = [(name, form) for name, form in facts.pop("features")]
    return Moments(gram=dict(zip(features, part.arrays["gram"], strict=True)), **facts)
