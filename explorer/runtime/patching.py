"""The forward that a UNet has while a plan is applied, and how it comes off again in any order.

Another tool may have wrapped ours since, and keep it: taken off, it runs the stock forward wherever it is still called,
and is taken away where such a tool puts it back.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from explorer.errors import ModelError

_PLACES = ("forward", "_old_forward")  # accelerate's offloading hooks wrap `forward` and call `_old_forward`


class Patch:
    """In place of `unet.forward`: `forward(unet, ...)` until it is taken off, then the stock forward."""

    def __init__(self, unet: nn.Module, forward: Callable[..., Any]) -> None:
        functools.update_wrapper(self, type(unet).forward)
        self._unet = unet
        self._forward: Callable[..., Any] | None = forward
        unet.__dict__["_old_forward" if "_old_forward" in unet.__dict__ else "forward"] = self  # inside of such hooks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = self._forward
        if forward is None:
            return type(self._unet).forward(self._unet, *args, **kwargs)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            _refuse()
        return forward(self._unet, *args, **kwargs)

    def take_off(self) -> None:
        """Doing it twice is no error."""
        self._forward = None
        clear(self._unet)

    def is_off(self) -> bool:
        return self._forward is None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._unet), self._unet)
        return types.MethodType(type(copied).forward, copied)

    def __reduce__(self) -> Any:
        return getattr, (self._unet, "forward")


def clear(unet: nn.Module) -> None:
    """Take away patches that are off, also where a hook was put over one or taken from under it since."""
    for place in _PLACES:
        found = unet.__dict__.get(place)
        if not isinstance(found, Patch) or not found.is_off():
            continue
        if place == "_old_forward":
            unet.__dict__[place] = types.MethodType(type(unet).forward, unet)
        else:
            del unet.__dict__[place]


@torch.compiler.disable(reason="a UNet with a plan cannot be compiled from outside; use inherit(..., compile=True)")
def _refuse() -> None:
    raise ModelError(
        "torch.compile or torch.jit.trace was put on a UNet that has a plan, and would compile the plan's bookkeeping; "
        "take it off (pipe.unet = pipe.unet._orig_mod) and let the plan compile: inherit(pipe, plan, compile=True)."
    )
