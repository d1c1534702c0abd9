"""The CLIP score: how well a picture shows its prompt (Hessel et al. 2021, arXiv 2104.08718, without its rescaling by
2.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.bootstrap import mean_estimate
from explorer.errors import ScoreError
from explorer.estimate import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SCALE = 100.0
"""Papers report the cosine or 100 times it; here always 100 times, and the scale is stored with the score."""


def cosines(pictures: Array, prompts: Array) -> Array:
    """100 x cosine of each picture's embedding with its prompt's: rows of unit length (N, d), (N, d) -> (N,)."""
    if pictures.shape != prompts.shape:
        raise ScoreError(
            f"A CLIP score needs a prompt for every picture; {len(pictures)} pictures and {len(prompts)} prompts "
            "were given."
        )
    values: Array = SCALE * (pictures * prompts).sum(axis=1)
    return values


def estimate(pictures: Array, prompts: Array) -> Estimate:
    """The mean over the pictures, with its bootstrap interval."""
    return mean_estimate(cosines(pictures, prompts))
