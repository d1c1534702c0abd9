"""The first picture of the README: the same prompts and seeds, stock and with a plan, and the measured seconds.

    python docs/side_by_side.py --plan DC0/P3+f2

Writes docs/images/side-by-side.png and prints what it measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from explorer import InheritancePlan, default_guidance, inherit, load_pipeline, strategy
from explorer.models.pictures import generate
from explorer.timing.latency import compare

ROOT = Path(__file__).parents[1]
PROMPTS = ("unicorn face, 3d style", "beer mug, flat style", "mouse face, noto style", "thumbs down, 3d style",
           "television, noto style", "heart, flat style", "animal mammal, 3d style", "food sweet")  # fmt: skip
SIDE, MARGIN, CAPTION = 112, 8, 26


def main() -> None:
    """Draw, time in turn, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", default="DC0/P3+f2", help="a named strategy, or the folder of an export")
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "side-by-side.png")
    given = parser.parse_args()
    pipe: Any = load_pipeline(given.model)
    pipe.set_progress_bar_config(disable=True)
    if Path(given.plan).is_dir():
        plan = InheritancePlan.from_pretrained(given.plan)
    else:
        plan = strategy(given.plan, steps=given.steps, unet=pipe.unet)
    guidance = default_guidance(given.model)
    stock, fast = runner(pipe, None, given.steps, guidance), runner(pipe, plan, plan.steps, guidance)
    rows = [call(PROMPTS, given.seed) for call in (stock, fast)]
    found = compare(
        lambda: stock(PROMPTS[:1], given.seed),
        lambda: fast(PROMPTS[:1], given.seed),
        device=torch.device("cpu"),
        images=1,
    )
    seconds, ratio = found.seconds, found.speedup
    texts = [
        f"stock diffusers, {given.steps} steps: {seconds.value * ratio.value:.2f} s a picture",
        f"{plan.name or plan.describe()}, {plan.steps} steps: {seconds.value:.2f} s, "
        f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times as fast",
    ]
    print("\n".join(texts), "unsteady" if found.unsteady else "", sep="\n")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, texts).save(given.out, optimize=True)


def runner(
    pipe: Any, plan: InheritancePlan | None, steps: int, guidance: float
) -> Callable[[Sequence[str], int], torch.Tensor]:
    """What makes pictures of prompts from a seed, with a plan or without."""

    def call(prompts: Sequence[str], seed: int) -> torch.Tensor:
        applied: AbstractContextManager[Any] = nullcontext() if plan is None else inherit(pipe, plan)
        with applied:
            return generate(pipe, prompts, seed=seed, steps=steps, guidance=guidance, batch_size=len(prompts))

    return call


def sheet(rows: Sequence[torch.Tensor], texts: Sequence[str]) -> Image.Image:
    """Rows of pictures, uint8 (N, 3, H, W) each, with a line of text under each row."""
    width = MARGIN + len(rows[0]) * (SIDE + MARGIN)
    high = SIDE + CAPTION + MARGIN
    made = Image.new("RGB", (width, MARGIN + len(rows) * high), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=15)
    for i, (pictures, text) in enumerate(zip(rows, texts, strict=True)):
        for j, picture in enumerate(pictures):
            image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            made.paste(image, (MARGIN + j * (SIDE + MARGIN), MARGIN + i * high))
        draw.text((MARGIN, MARGIN + i * high + SIDE + 4), text, fill="black", font=font)
    return made


if __name__ == "__main__":
    main()
