"""Steps over static buffers, run without a capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from explorer import InheritancePlan
from explorer.runtime.graphs import StaticSteps
from explorer.unet.program import Program
from tests.explorer.dispatched import Allocated

CPU = torch.device("cpu")


def direct(step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
    """In place of a CUDA graph: the step itself, over the same buffers."""
    return step


class Poisoned:
    """In place of CUDA graphs that share a pool: what a step made is overwritten with NaN before any next one, so that
    a reference that was kept across steps shows. The first run of a step allocates the buffers, as before a capture."""

    def __init__(self) -> None:
        self._made = Allocated()
        self.poisoned = 0

    def __call__(self, step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
        step()

        def replay() -> torch.Tensor:
            for each in self._made.alive():
                self.poisoned += 1
                each.fill_(torch.nan)
            self._noise = None
            self._made = Allocated()
            with self._made:
                self._noise = step()  # a graph keeps its output
            return self._noise.clone()

        return replay


def static_steps(unet: Any, plan: InheritancePlan) -> StaticSteps:
    return StaticSteps(Program(unet), plan, compile=False, capture=direct)


def over_buffers(handle: Any, monkeypatch: pytest.MonkeyPatch, capture: Any = direct) -> StaticSteps:
    """Let `handle` run as `cudagraphs-eager` does, with `capture` in place of the capture."""
    steps = StaticSteps(Program(handle.unet), handle.plan, compile=False, capture=capture)
    monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs-eager")
    handle._idle.append(steps)
    return steps
