"""The trade-off that the product is about, on the shipped model: quality against fewer steps and against reuse."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from explorer import InheritancePlan, inherit, strategy
from explorer.mask import Mask
from explorer.quality import Reference, frechet, kid, paired
from explorer.quality.bootstrap import mean_estimate
from explorer.quality.clip_score import cosines
from explorer.quality.clip_score import estimate as clip_score
from recipe.drawing import Drawer

FEWER = (25, 20, 10, 5)
PERIODS = (2, 5, 10)
EVERY_UNIT = "every unit"
REUSED = ("DC0", EVERY_UNIT)
"""What inherits: DeepCache's outermost branch, or the residual of every unit (the most that A-SDM's form can skip)."""
SOLVERS = ("PNDMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")
SOLVER_STEPS = (10, 5)
GUIDANCES = (1.0, 1.5, 2.0, 3.0)
FEW = 10
"""Steps at which guidances are compared with the most."""


@dataclass(frozen=True)
class Candidate:
    """Fewer steps, or as many with features reused. mask: of `REUSED`; mode: of the schedule; None for plain steps."""

    name: str
    steps: int
    mask: str | None = None
    mode: str | None = None

    def plan(self, unet: Any) -> InheritancePlan | None:
        """None for plain steps."""
        if self.mask is None or self.mode is None:
            return None
        plan = strategy("DC0", mode=self.mode, steps=self.steps, unet=unet)
        if self.mask == EVERY_UNIT:
            plan = replace(plan, masks=(Mask.of(plan.architecture.units),), name=None)
        return plan


def candidates(steps: int) -> list[Candidate]:
    """The un-accelerated pipeline first."""
    fewer = [Candidate(f"{n} steps", n) for n in FEWER if n < steps]
    reuse = [Candidate(f"{steps} steps, {mask}/P{n}", steps, mask, f"P{n}") for mask in REUSED for n in PERIODS]
    return [Candidate(f"{steps} steps", steps), *fewer, *reuse]


def scores(
    pictures: torch.Tensor, baseline: torch.Tensor, shown: Any, references: dict[str, tuple[Any, Reference]]
) -> dict[str, Any]:
    """Drift from the baseline of the same seeds, CLIP score, and Frechet distance and KID by each extractor. shown: by
    picture, how well it shows its caption (`cosines`)."""
    found: dict[str, Any] = {
        "clip_score": mean_estimate(shown).to_json(),
        "psnr": mean_estimate(paired.psnr(pictures, baseline)).to_json(),
        "ssim": mean_estimate(paired.ssim(pictures, baseline)).to_json(),
    }
    for name, (extractor, reference) in references.items():
        values = extractor(pictures).values
        found[f"fd_{name}"] = frechet.estimate(values, reference.mean, reference.cov).to_json()
        found[f"kid_{name}"] = kid.estimate(values, reference.features).to_json()
    return found


def measure(
    draw: Drawer, captions: list[str], clip: Any, references: dict[str, tuple[Any, Reference]], steps: int
) -> list[dict[str, Any]]:
    """Every candidate on the same captions and seeds."""
    read = clip.encode_prompts(captions)
    baseline = draw(captions, steps)
    whole = cosines(clip.encode_pictures(baseline), read)
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(candidates(steps)):
        plan = each.plan(draw.pipe.unet)
        with inherit(draw.pipe, plan) if plan else contextlib.nullcontext():
            made = draw(captions, each.steps, each.name if plan else "")
        shown = cosines(clip.encode_pictures(made), read) if number else whole
        found = scores(made, baseline, shown, references)
        rows.append({**asdict(each), **found, "clip_gain": mean_estimate(shown - whole).to_json()})
        drift, shows = found["psnr"]["value"], found["clip_score"]["value"]
        print(f"{each.name}: PSNR {drift:.1f} dB, CLIP {shows:.1f}", flush=True)
    return rows


def solvers(draw: Drawer, captions: list[str], clip: Any, steps: int) -> list[dict[str, Any]]:
    """Fewer steps by other solvers: drift from each solver's own pictures at `steps`, and the CLIP score.

    The pipeline's scheduler is put back.
    """
    import diffusers

    pipe, read = draw.pipe, clip.encode_prompts(captions)
    own, rows = pipe.scheduler, []
    try:
        for name in SOLVERS:
            pipe.scheduler = getattr(diffusers, name).from_config(own.config)
            full: torch.Tensor | None = None
            for count in (steps, *(n for n in SOLVER_STEPS if n < steps)):
                made = draw(captions, count, name)
                full = made if full is None else full
                score = clip_score(clip.encode_pictures(made), read)
                drift = mean_estimate(paired.psnr(made, full))
                rows.append({"solver": name, "steps": count, "psnr": drift.to_json(), "clip_score": score.to_json()})
    finally:
        pipe.scheduler = own
    return rows


def guidances(
    draw: Drawer, captions: list[str], clip: Any, references: dict[str, tuple[Any, Reference]], steps: int
) -> list[dict[str, Any]]:
    """By guidance scale: CLIP score and Frechet distances at `steps`, and what `FEW` steps of the same solver lose."""
    read, rows = clip.encode_prompts(captions), []
    for guidance in GUIDANCES:
        full = draw(captions, steps, guidance=guidance)
        few = draw(captions, min(FEW, steps), guidance=guidance)
        found = scores(few, full, cosines(clip.encode_pictures(few), read), {})
        whole = scores(full, full, cosines(clip.encode_pictures(full), read), references)
        kept = {name: value for name, value in whole.items() if name == "clip_score" or name.startswith("fd_")}
        rows.append({"guidance": guidance, **kept, "psnr_few": found["psnr"], "clip_score_few": found["clip_score"]})
    return rows
