"""Pictures in many places: a caption of one picture is learned by rote, and its path from noise is nearly straight.

Placed, a picture is drawn anew at a random size, place and side on white, so that one caption has many pictures. Never
larger than it was, so no picture loses a part or its sharpness.
"""

from __future__ import annotations

import re

import torch
from torch.nn import functional

from recipe.data.items import Dataset, Item

SMALLEST = 36
"""Side in pixels of the smallest placed picture; the largest is the picture itself."""

SEED = 8
REAL_SEED = 9
"""Of the placed real pictures that generated ones are compared with."""

# Words of names whose picture would be another thing, or read wrong, in a mirror: sides, letters, digits, maps.
ONE_SIDED = re.compile(
    r"\b(left\w*|right\w*|first|second|third|last|waxing|waning|earth|globe|map|japan|clock|watch|stopwatch|eight ball|"
    r"calendar|ticket|tickets|newspaper|receipt|banknote|credit card|card|label|name|book|ledger|page|memo|clipboard|"
    r"bookmark tabs|scroll|placard|taxi|bus|police car|ambulance|fire engine|fuel pump|bank|post office|hotel|hospital|"
    r"store|school|stop sign|musical|score|piano|keyboard|x ray|chart|hundred|symbol|symbols|e mail|sleeping|sleepy|"
    r"die|mahjong|slot machine|speech|t rex|dvd|disc|disk|minidisc|identification|dollar|yen|euro|pound|abacus|"
    r"ruler|pager|fax|radio|television|thermometer|letter|envelope|medal|lantern|moon cake|love you hand|movie|"
    r"video|videocassette|film|clapper|typewriter|trackball|printer|level slider|control knobs|barber)\b"
)


def may_mirror(items: list[Item]) -> torch.Tensor:
    """bool [N]: whether a picture is still its caption's in a mirror."""
    return torch.tensor([ONE_SIDED.search(item.concept) is None for item in items], dtype=torch.bool)


def place(pictures: torch.Tensor, mirror: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """uint8 [N, 3, S, S]: each picture `SMALLEST` to S wide, somewhere on white, half of them mirrored where they may.

    mirror: bool [N]. The numbers come from `generator` alone, on the CPU, so the places are the same on every device.
    """
    count, _, full, _ = pictures.shape
    device = pictures.device
    smallest = min(SMALLEST, full)
    sides = torch.randint(smallest, full + 1, (count,), generator=generator)
    at = (torch.rand(count, 2, generator=generator) * (full - sides + 1)[:, None]).long()
    turned = (torch.rand(count, generator=generator) < 0.5) & mirror.cpu()
    canvas = torch.full(pictures.shape, 255, dtype=torch.uint8, device=device)
    source = torch.where(turned.to(device)[:, None, None, None], pictures.flip(-1), pictures)
    for side in sides.unique().tolist():
        rows = (sides == side).nonzero()[:, 0].to(device)
        drawn = source[rows]
        if side < full:
            drawn = functional.interpolate(drawn.float(), (side, side), mode="bicubic", antialias=True)
            drawn = drawn.round().clamp(0, 255).to(torch.uint8)
        canvas[rows, :, :side, :side] = drawn
    # what is in the corner goes to its place; what comes in over the other edge is white
    steps = torch.arange(full)
    down, across = ((steps[None] - at[:, axis, None]) % full for axis in (0, 1))
    moved = canvas.gather(2, down.to(device)[:, None, :, None].expand(pictures.shape))
    return moved.gather(3, across.to(device)[:, None, None, :].expand(pictures.shape))


def copies(pictures: torch.Tensor, mirror: torch.Tensor, count: int, seed: int = SEED) -> torch.Tensor:
    """uint8 [count, N, 3, S, S]: `count` placings of every picture, copy k by seed and k alone."""
    return torch.stack([copy(pictures, mirror, k, seed) for k in range(count)])


def copy(pictures: torch.Tensor, mirror: torch.Tensor, number: int, seed: int = SEED) -> torch.Tensor:
    """uint8 [N, 3, S, S]: one placing of every picture."""
    return place(pictures, mirror, torch.Generator().manual_seed(seed * 1_000_003 + number))


def copy_numbers(count: int, batch: int, seed: int, step: int) -> torch.Tensor:
    """int64 [batch]: which of `count` placings each sample of a training step takes; zeros where there is one."""
    if count == 1:
        return torch.zeros(batch, dtype=torch.long)
    return torch.randint(count, (batch,), generator=torch.Generator().manual_seed((seed + SEED) * 1_000_003 + step))


def real_pictures(data: Dataset, rows: list[int], placed: bool, number: int = 0) -> torch.Tensor:
    """uint8 [len(rows), 3, S, S]: real pictures as the generator was taught to draw them."""
    pictures = data.pictures[rows]
    return copy(pictures, may_mirror([data.items[i] for i in rows]), number, REAL_SEED) if placed else pictures
