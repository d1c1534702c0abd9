"""What removing one unit throughout a run does to the final latents: from the errors of single steps.

A removal acts at every evaluation. Its error at an evaluation, times that evaluation's effect, is what it adds to the
final latents; evaluations are added in squares, as they are for inheritance, and so are the units of a student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from explorer.calibration.moments import collect_moments
from explorer.calibration.step_errors import Design, StepErrors, measure_step_errors
from explorer.models.prompts import Prompt
from explorer.plans.schedulers import evaluations_of
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature

BATCH = 2
"""Pictures at once."""
PERTURBATION = "DC0"
"""The strategy whose error, copied, says how far the final latents move for an error at an evaluation."""
LEAST = 1e-12


def removal_squares(design: Design, errors: StepErrors) -> dict[Feature, float]:
    """By unit and form, the mean square by which removing that unit alone moves the final latents, over their own.

    Between the measured evaluations the logarithms of errors and effects are interpolated. Empty for a calibration
    without removals.
    """
    at = np.arange(design.evaluations)
    effects = np.log(np.maximum(errors.moved, LEAST) / np.maximum(errors.wrong, LEAST))
    effect = np.interp(at, design.steps, effects)
    latents = float(np.ravel(errors.latents)[0])
    squares = {}
    for removal, row in zip(design.removals, errors.removals, strict=False):
        error = np.interp(at, design.removal_steps, np.log(np.maximum(row, LEAST)))
        squares[removal] = float(np.exp(error + effect).sum()) / latents
    return squares


def removal_design(architecture: Architecture, evaluations: int) -> Design:
    """What `measure_removals` measures: the removals, and what the effect of each evaluation is read from."""
    design = Design.of(architecture, evaluations, names=(PERTURBATION,))
    return replace(design, nodes=(), ages=design.ages[:2], rules=("copy",))


def measure_removals(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    *,
    guidance: float,
    steps: int,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Feature, float]:
    """Measure `removal_squares` on un-accelerated runs of `pipe`, without the other errors of a calibration.

    Args:
        pipe: Of the teacher, without a plan.
        prompts: Of the runs.
        guidance: The guidance scale.
        steps: Of each run.
        seed: Of the first picture.
        size: Height and width in pixels; the pipeline's own by default.
        progress: Called with how many UNet evaluations are done, of how many.

    Raises:
        ScoreError: For no prompts, and features that hold infinities or NaNs.
    """
    evaluations = evaluations_of(pipe.scheduler, steps)
    design = removal_design(Architecture.of(pipe.unet), evaluations)
    starts = range(0, len(prompts), BATCH)
    how: dict[str, Any] = {"guidance": guidance, "size": size}
    done, total = 0, len(starts) * (evaluations + design.work)

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    moments = collect_moments(
        pipe, prompts, steps=steps, seed=seed, batch_size=BATCH, progress=lambda *_: report(evaluations), **how
    )
    made = [
        measure_step_errors(
            pipe, prompts[start : start + BATCH], design, moments, seed=seed + start, progress=report, **how
        )
        for start in starts
    ]
    return removal_squares(design, reduce(StepErrors.joined, made))
