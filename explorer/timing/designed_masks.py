"""Masks that a cost model is fitted to: random, valid, and of every kind that a search proposes."""

from __future__ import annotations

import random
from collections.abc import Iterable

from explorer.errors import PlanError
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask

DRAWS = 200
"""Maximum draws for a mask. A small UNet has few different masks, so that fewer are returned."""


def designed_masks(architecture: Architecture, count: int, seed: int = 0, apart: Iterable[Mask] = ()) -> list[Mask]:
    """Up to `count` masks that compute different things, and other things than the masks of `apart`.

    In turn: units, layers or blocks drawn with a random share, inherited by residual, by output or mixed; and what
    DeepCache does, everything below a random depth by the output of one node.
    """
    draw = random.Random(seed)
    known = {mask.effective(architecture) for mask in apart} | {Mask()}
    made: list[Mask] = []
    for number in range(count * DRAWS):
        if len(made) == count:
            break
        mask = _deep(architecture, draw) if number % 4 == 3 else _drawn(architecture, draw)
        try:
            mask.check(architecture)
        except PlanError:
            continue
        effective = mask.effective(architecture)
        if effective not in known:
            known.add(effective)
            made.append(effective)
    return made


def _drawn(architecture: Architecture, draw: random.Random) -> Mask:
    """Units, layers or blocks, each inherited with one random probability."""
    groups = draw.choice(
        (
            [(unit,) for unit in architecture.units],
            list(architecture.layers.values()),
            list(architecture.blocks.values()),
        )
    )
    share = draw.uniform(0.1, 0.9)
    forms: tuple[Form, ...] = draw.choice((("residual",), ("residual",), ("output",), ("residual", "output")))
    chosen: dict[str, Form] = {}
    for group in groups:
        if draw.random() < share:
            form = draw.choice(forms)
            chosen.update((unit, form) for unit in group)
    return Mask.of(chosen)


def _deep(architecture: Architecture, draw: random.Random) -> Mask:
    """The input of an up layer by output, and a random part of what is left by residual."""
    cats = [node for node in architecture.nodes if node.kind == "cat"]
    depth = draw.choice(cats).inputs[0]
    share = draw.choice((0.0, 0.2, 0.5))
    chosen: dict[str, Form] = {unit: "residual" for unit in architecture.units if draw.random() < share}
    return Mask.of({**chosen, depth: "output"})
