"""What a certified plan changes, by the category of the prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.bootstrap import mean_estimate
from explorer.quality.scorer import Raw
from studies.certificates.document import plain_document


def by_category(
    category: NDArray[np.str_], full: Raw, plan: Raw, clip: str, prompts: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """What the plan changes on the prompts of each category.

    Args:
        category: (N,) of each picture's prompt; empty where it has none.
        full: Scores of the un-accelerated pipeline.
        plan: Scores of the plan.
        clip: Name of the CLIP score.
        prompts: (N,) the number of each picture's prompt.

    Returns:
        By category: CLIP score, its change, PSNR and drift. Empty where there are fewer than two categories.
    """
    ours, theirs = plan.each, full.each
    values = {
        "clip": theirs[clip], "clip_change": ours[clip] - theirs[clip], "psnr": ours["psnr"], "drift": 1 - ours["ssim"],
    }  # fmt: skip
    rows = {name: category == name for name in sorted({*category.tolist()} - {""})}
    if len(rows) < 2:
        return {}
    return {
        name: plain_document({each: mean_estimate(found[at], groups=prompts[at]) for each, found in values.items()})
        for name, at in rows.items()
    }
