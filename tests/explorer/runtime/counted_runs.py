"""Runs of pipelines with the nodes of each evaluation counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from explorer import InheritancePlan, strategy
from tests.explorer.tiny_pipelines import SIDE, Case, hole, picture, sd

IMG2IMG: dict[str, Any] = {"image": picture(), "strength": 0.5}
INPAINT: dict[str, Any] = {"image": picture(), "mask_image": hole(), "strength": 0.5, "height": SIDE, "width": SIDE}
TEXT = Case(sd)


def plan_for(pipe: Any, mode: str = "P3", name: str = "DC1", steps: int = 6) -> InheritancePlan:
    return strategy(name, mode=mode, steps=steps, unet=pipe.unet)


@contextlib.contextmanager
def counted(pipe: Any) -> Iterator[list[int]]:
    """How many ResUnits ran at each evaluation."""
    counts: list[int] = []
    hooks = [pipe.unet.conv_in.register_forward_hook(lambda *_: counts.append(0))]
    for module in pipe.unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            hooks.append(module.conv1.register_forward_hook(lambda *_: counts.__setitem__(-1, counts[-1] + 1)))
    yield counts
    for hook in hooks:
        hook.remove()


def extracts(counts: list[int]) -> list[int]:
    return [i for i, units in enumerate(counts) if units == max(counts)]
