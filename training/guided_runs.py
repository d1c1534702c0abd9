"""Guided runs of a model over guidance scales and negative prompts, recorded to train a speed-up adapter on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.errors import TrainingError
from explorer.models.pictures import run
from explorer.models.prompts import Prompt
from explorer.plans.schedulers import scheduler_for
from training.loop import step_generator
from training.teacher_data import recorded_calls, recorded_runs, trajectory, under, under_ddim

USUAL = ("blurry", "low quality", "deformed", "text, watermark")
"""Negative prompts that people write."""
EMPTY = 0.5
"""Share of runs with the empty negative prompt, which is what most calls have."""


@dataclass(frozen=True)
class GuidedRuns:
    """Recorded runs.

    Attributes:
        states: (F + 1, R, C, h, w) the samples of R runs before each of F evaluations, and after the last.
        times: (F,) the timesteps of the evaluations.
        context: (R, T, D) text states of the prompts.
        negative: (R, T, D) text states of the negative prompts.
        guidance: (R,) the guidance scales.
        added: What SDXL's UNet is given besides, by name, (R, ...).
    """

    states: Tensor
    times: Tensor
    context: Tensor
    negative: Tensor
    guidance: Tensor
    added: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.guidance)


def negative_prompts(prompts: Sequence[str]) -> list[str]:
    """What to draw negative prompts from: the styles that several prompts end with (`flat style`), the usual ones, and
    the prompts themselves. As many draws are of a style or a usual one as of a prompt.

    Args:
        prompts: Of the recorded runs.
    """
    ends = Counter(text.rpartition(",")[2].strip() for text in dict.fromkeys(prompts) if "," in text)
    short = [end for end, number in ends.items() if number > 1 and end]
    short += USUAL if not short else ()
    captions = list(dict.fromkeys(prompts))
    return captions + short * max(1, len(captions) // len(short))


def guided_runs(
    pipe: Any,
    prompts: Sequence[str],
    negatives: Sequence[str],
    count: int,
    folder: Path,
    *,
    steps: int,
    most: float,
    spacing: str = "trailing",
    seed: int = 0,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> GuidedRuns:
    """Record `count` guided runs of a model under DDIM, or go on with those in `folder`.

    Args:
        pipe: The pipeline.
        prompts: Taken in turn, each time with another seed.
        negatives: Drawn from for the negative prompts that are not empty; those of a run's own prompt are left out.
        count: Of runs.
        folder: Where the runs are kept, see `recorded_runs`.
        steps: UNet evaluations of a run.
        most: The largest guidance scale; they are drawn evenly from just above 1.
        spacing: Of the timesteps.
        seed: Of the first run, and of what is drawn.
        batch: Runs at once, which share a guidance scale.
        progress: Called with how many runs are done, of how many.

    Raises:
        TrainingError: For no prompts, and for a folder with runs of another kind.
    """
    if not prompts or count < 1 or most <= 1:
        raise TrainingError(
            f"an adapter is taught on a prompt, a run and a guidance above 1 at least, got {len(prompts)}, {count} and "
            f"{most:g}."
        )
    model = under_ddim(pipe)
    model.scheduler = scheduler_for(model.scheduler, None, spacing)

    def record(wanted: range) -> dict[str, Tensor]:
        return _recorded(model, prompts, negatives, wanted, steps, most, seed)

    found = recorded_runs(
        folder / "guided", count, record, of=_about(pipe, prompts, negatives, [steps, most, spacing, seed, batch]),
        other="another model or of other settings", batch=batch, progress=progress,
    )  # fmt: skip
    plain = {name: value for name, value in found.items() if "." not in name}
    return GuidedRuns(**plain, added=under("added.", found))


def _recorded(
    pipe: Any, prompts: Sequence[str], negatives: Sequence[str], wanted: range, steps: int, most: float, seed: int
) -> dict[str, Tensor]:
    drawn = step_generator(seed, wanted.start)
    guidance = 1 + (most - 1) * float(torch.rand((), generator=drawn).clamp_min(0.05))
    texts: list[str | Prompt] = []
    for number in wanted:
        text = prompts[number % len(prompts)]
        others = [each for each in negatives if each != text]
        empty = not others or float(torch.rand((), generator=drawn)) < EMPTY
        chosen = "" if empty else others[int(torch.randint(len(others), (), generator=drawn))]
        texts.append(Prompt(text, negative=chosen))
    with torch.no_grad(), recorded_calls(pipe) as calls:
        latents = run(pipe, texts, seed=seed + wanted.start, steps=steps, guidance=guidance, output_type="latent")
    size = len(texts)
    both, seen = calls[0]["encoder_hidden_states"].half().cpu(), trajectory(calls, size)
    found = {
        "states": torch.cat([seen["states"], latents.half().cpu()[None]]),
        "times": seen["times"],
        "negative": both[:size],
        "context": both[size:],
        "guidance": torch.full((size,), guidance),
    }
    for name, value in (calls[0].get("added_cond_kwargs") or {}).items():
        found[f"added.{name}"] = value[size:].float().cpu()
    return found


def _about(pipe: Any, prompts: Sequence[str], negatives: Sequence[str], numbers: list[Any]) -> str:
    """What recorded runs depend on."""
    from explorer.models.loading import fingerprint

    told = json.dumps([fingerprint(pipe), list(prompts), list(negatives), numbers])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
