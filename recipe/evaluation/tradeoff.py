"""The trade-off that the product is about, on the shipped model: fewer steps by every solver, and reused features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from explorer import InheritancePlan, inherit, strategy
from explorer.bootstrap import mean_estimate
from explorer.quality import Reference, frechet, kid, paired
from explorer.quality.clip_score import cosines
from explorer.unet.mask import Mask
from recipe.evaluation.drawing import Drawer

STEPS = (50, 25, 20, 10, 5)
EVERY_UNIT = "every unit"
REUSED = (("DC0", ("P2", "P3", "P5", "P10")), (EVERY_UNIT, ("P2", "P5", "P10")))
"""What inherits, by mode: DeepCache's outermost branch, or the residual of every unit (the most that A-SDM's form can
skip)."""
GUIDANCES = (1.5, 2.0, 3.0, 3.75, 5.0)
FEW = 10
"""Steps at which guidances are compared with the most."""


@dataclass(frozen=True)
class Solver:
    """A scheduler of diffusers and its `timestep_spacing`."""

    scheduler: str
    spacing: str

    @property
    def name(self) -> str:
        return f"{self.scheduler.removesuffix('Scheduler')} {self.spacing}"


PNDM = Solver("PNDMScheduler", "linspace")
DDIM = Solver("DDIMScheduler", "leading")
SOLVERS = (
    PNDM,
    DDIM,
    Solver("DDIMScheduler", "trailing"),
    Solver("DPMSolverMultistepScheduler", "leading"),
    Solver("DPMSolverMultistepScheduler", "trailing"),
)
"""PNDM as it ships; `leading` is what Stable Diffusion's configurations say."""


@dataclass(frozen=True)
class Candidate:
    """Plain steps of a solver, or as many with features reused.

    Attributes:
        solver: Which one.
        steps: Of a run.
        mask: Of `REUSED`; None for plain steps.
        mode: Of the schedule; None for plain steps.
    """

    solver: Solver
    steps: int
    mask: str | None = None
    mode: str | None = None

    @property
    def name(self) -> str:
        reuse = f", {self.mask}/{self.mode}" if self.mask else ""
        return f"{self.solver.name}, {self.steps} steps{reuse}"

    def plan(self, unet: Any) -> InheritancePlan | None:
        """None for plain steps."""
        if self.mask is None or self.mode is None:
            return None
        plan = strategy("DC0", mode=self.mode, steps=self.steps, unet=unet)
        if self.mask == EVERY_UNIT:
            plan = replace(plan, masks=(Mask.of(plan.architecture.units),), name=None)
        return plan


def candidates(most: int) -> list[Candidate]:
    """Plain steps of every solver, `most` first, then every reuse at DDIM's `most` steps."""
    plain = [Candidate(solver, n) for solver in SOLVERS for n in (most, *(n for n in STEPS if n < most))]
    return plain + [Candidate(DDIM, most, mask, mode) for mask, modes in REUSED for mode in modes]


@contextlib.contextmanager
def solved_by(pipe: Any, solver: Solver) -> Iterator[None]:
    """Within it the pipeline has another scheduler of the same configuration."""
    import diffusers

    own = pipe.scheduler
    kind = getattr(diffusers, solver.scheduler)
    pipe.scheduler = kind.from_config(own.config, timestep_spacing=solver.spacing)
    try:
        yield
    finally:
        pipe.scheduler = own


def draw_candidate(
    draw: Drawer, candidate: Candidate, captions: list[str], guidance: float | None = None
) -> torch.Tensor:
    """uint8 [N, 3, 64, 64]: the candidate's pictures."""
    plan = candidate.plan(draw.pipe.unet)
    with solved_by(draw.pipe, candidate.solver), inherit(draw.pipe, plan) if plan else contextlib.nullcontext():
        return draw(captions, candidate.steps, candidate.name, guidance)


def scores(
    pictures: torch.Tensor,
    baseline: torch.Tensor,
    shown: Any,
    references: dict[str, tuple[Any, Reference]],
    kinds: list[str],
    features: dict[str, Any],
) -> dict[str, Any]:
    """Drift from the baseline of the same seeds, CLIP score, and Frechet distance and KID by each extractor, with what
    the distance has grown by since the baseline, whose interval is over pairs of pictures.

    Args:
        pictures: uint8 [N, 3, H, W].
        baseline: The same, of the same captions and seeds.
        shown: [N]: how well each picture shows its caption (`cosines`).
        references: By extractor, real pictures' statistics.
        kinds: The kind of each caption; drift and CLIP score are also given by kind.
        features: Of the baseline by extractor; filled in where it is the pictures themselves.
    """
    drifts = {"psnr": paired.psnr(pictures, baseline), "ssim": paired.ssim(pictures, baseline)}
    found: dict[str, Any] = {name: mean_estimate(values).to_json() for name, values in drifts.items()}
    found["clip_score"] = mean_estimate(shown).to_json()
    for kind in sorted(set(kinds)):
        rows = np.array([k == kind for k in kinds])
        found[f"psnr_{kind}"] = mean_estimate(np.asarray(drifts["psnr"])[rows]).to_json()
        found[f"clip_score_{kind}"] = mean_estimate(np.asarray(shown)[rows]).to_json()
    for name, (extractor, reference) in references.items():
        values = extractor(pictures).values
        found[f"fd_{name}"] = frechet.estimate(values, reference.mean, reference.cov).to_json()
        found[f"kid_{name}"] = kid.estimate(values, reference.features).to_json()
        if pictures is baseline:
            features[name] = values
        change = frechet.difference_estimate(values, features[name], reference.mean, reference.cov)
        found[f"change_of_fd_{name}"] = change.to_json()
    return found


def measure(
    draw: Drawer,
    captions: list[str],
    kinds: list[str],
    clip: Any,
    references: dict[str, tuple[Any, Reference]],
    steps: int,
) -> list[dict[str, Any]]:
    """Every candidate on the same captions and seeds; drift and the gain of the CLIP score are from the same solver's
    `steps`."""
    read = clip.encode_prompts(captions)
    rows: list[dict[str, Any]] = []
    most: dict[Solver, tuple[torch.Tensor, Any, dict[str, Any]]] = {}
    for each in candidates(steps):
        made = draw_candidate(draw, each, captions)
        shown = np.asarray(cosines(clip.encode_pictures(made), read))
        baseline, before, features = most.setdefault(each.solver, (made, shown, {}))
        found = scores(made, baseline, shown, references, kinds, features)
        about = {"name": each.name, **asdict(each.solver), **asdict(each)}
        about.pop("solver")
        rows.append({**about, **found, "clip_gain": mean_estimate(shown - before).to_json()})
        drift, shows = found["psnr"]["value"], found["clip_score"]["value"]
        print(f"{each.name}: PSNR {drift:.1f} dB, CLIP {shows:.1f}", flush=True)
    return rows


def guidances(
    draw: Drawer,
    captions: list[str],
    kinds: list[str],
    clip: Any,
    references: dict[str, tuple[Any, Reference]],
    steps: int,
) -> list[dict[str, Any]]:
    """By guidance scale: CLIP score and Frechet distances at PNDM's `steps`, and what `FEW` steps of it lose."""
    read, rows = clip.encode_prompts(captions), []
    for guidance in GUIDANCES:
        full = draw_candidate(draw, Candidate(PNDM, steps), captions, guidance)
        few = draw_candidate(draw, Candidate(PNDM, min(FEW, steps)), captions, guidance)
        found = scores(few, full, cosines(clip.encode_pictures(few), read), {}, kinds, {})
        complete = scores(full, full, cosines(clip.encode_pictures(full), read), references, kinds, {})
        kept = {name: value for name, value in complete.items() if name == "clip_score" or name.startswith("fd_")}
        rows.append({"guidance": guidance, **kept, "psnr_few": found["psnr"], "clip_score_few": found["clip_score"]})
    return rows
