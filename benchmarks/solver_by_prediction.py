"""What PNDM loses at few steps, by what the model predicts, by guidance, and by whether a caption has many pictures.

No trained model: over a set of known pictures the best denoiser is exact, the posterior mean of a mixture of Gaussians
about them, and so are its noise (epsilon) and velocity. Errors are root mean squares, of pictures in [-1, 1], from the
same noise's picture by 500 DDIM steps.

    python -m benchmarks.solver_by_prediction --work build/emoji
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.shared.report import write_result
from recipe.data.placing import copies, may_mirror
from recipe.data.prepare import load_dataset
from recipe.networks.unet import BETAS

STEPS = (50, 20, 10, 5)
WIDTH = 0.05
"""Deviation of the Gaussian about each picture."""
Guided = tuple[torch.Tensor, torch.Tensor, float]


def posterior_mean(x: torch.Tensor, alpha: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """E[x0 | x] [B, D] where x0 is near one of `centers` [M, D] or, for each row its own, [B, M, D]."""
    spread = alpha * WIDTH**2 + 1 - alpha
    if centers.ndim == 2:
        centers = centers.expand(len(x), *centers.shape)
    far = torch.baddbmm(
        (alpha * centers.square().sum(-1))[:, :, None], centers, x[:, :, None], alpha=float(-2 * alpha.sqrt())
    )
    weights = torch.softmax(-far[:, :, 0] / (2 * spread), -1)
    mean = torch.bmm(weights[:, None], centers)[:, 0]
    return mean + alpha.sqrt() * WIDTH**2 / spread * (x - alpha.sqrt() * mean)


def draw(scheduler: Any, steps: int, prediction: str, everything: torch.Tensor, own: torch.Tensor, scale: float,
         noise: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """The pictures [B, D] of a whole loop under guidance."""
    scheduler.set_timesteps(steps)
    alphas, x = scheduler.alphas_cumprod.double(), noise
    for t in scheduler.timesteps:
        alpha = alphas[t]
        clean = posterior_mean(x, alpha, own)
        if scale != 1:
            free = posterior_mean(x, alpha, everything)
            clean = free + scale * (clean - free)
        epsilon = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean
        x = scheduler.step(epsilon if prediction == "epsilon" else velocity, t, x).prev_sample
    return x


def world(work: Path, concepts: int, count: int, side: int) -> torch.Tensor:
    """float64 [captions, count, D]: `count` placings of some pictures at side x side pixels (1: as they are)."""
    data = load_dataset(work)
    rows = data.where(split="train")[: 3 * concepts]
    pictures = data.pictures[rows]
    many = copies(pictures, may_mirror([data.items[i] for i in rows]), count) if count > 1 else pictures[None]
    small = functional.interpolate(many.flatten(0, 1).float() / 127.5 - 1, (side, side), mode="area")
    return small.flatten(1).unflatten(0, (-1, len(rows))).transpose(0, 1).double()


def measure(pictures: torch.Tensor, scale: float, shown: int) -> dict[str, dict[str, float]]:
    """Errors by solver, prediction and steps."""
    from diffusers import DDIMScheduler, PNDMScheduler

    own, everything = pictures[:shown], pictures.flatten(0, 1)
    noise = torch.randn(shown, own.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    common: dict[str, Any] = {**BETAS, "steps_offset": 1, "set_alpha_to_one": False}
    target = draw(DDIMScheduler(**common, clip_sample=False), 500, "epsilon", everything, own, scale, noise)
    found: dict[str, dict[str, float]] = {}
    for kind, options in ((PNDMScheduler, {"skip_prk_steps": True}), (DDIMScheduler, {"clip_sample": False})):
        for prediction in ("epsilon", "v_prediction"):
            name = f"{kind.__name__.removesuffix('Scheduler')} {prediction}"
            found[name] = {}
            for steps in STEPS:
                scheduler = kind(**common, **options, prediction_type=prediction)
                made = draw(scheduler, steps, prediction, everything, own, scale, noise)
                found[name][str(steps)] = float((made - target).square().mean().sqrt())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/emoji"), help="work folder of the recipe, prepared")
    parser.add_argument("--concepts", type=int, default=30)
    parser.add_argument("--copies", type=int, default=48, help="placings of a picture")
    parser.add_argument("--side", type=int, default=12, help="pixels")
    parser.add_argument("--shown", type=int, default=6, help="pictures drawn")
    parser.add_argument("--out", type=Path)
    parser.set_defaults(
        device="cpu", dtype="float64", model="exact", batch=1, resolution=None, compile="off", quick=False
    )
    arguments = parser.parse_args()
    figures = {}
    for count in (1, arguments.copies):
        pictures = world(arguments.work, arguments.concepts, count, arguments.side)
        for scale in (1.0, 2.0, 3.0):
            name = f"{count} pictures a caption, guidance {scale:g}"
            figures[name] = measure(pictures, scale, arguments.shown)
            for solver, row in figures[name].items():
                print(name, "|", solver, "|", " ".join(f"{n}: {v:.3f}" for n, v in row.items()), flush=True)
    write_result("solver-by-prediction", figures, {}, arguments)


if __name__ == "__main__":
    main()
