"""Steps over static buffers, run without a capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from explorer import InheritancePlan
from explorer.runtime.graphs import StaticSteps
from explorer.unet.program import Program

CPU = torch.device("cpu")


def direct(step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
    """In place of a CUDA graph: the step itself, over the same buffers."""
    return step


def static_steps(unet: Any, plan: InheritancePlan) -> StaticSteps:
    return StaticSteps(Program(unet), plan, compile=False, capture=direct)


def over_buffers(handle: Any, monkeypatch: pytest.MonkeyPatch) -> StaticSteps:
    """Let `handle` run as `cudagraphs-eager` does, with `direct` in place of the capture."""
    steps = static_steps(handle.unet, handle.plan)
    monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs-eager")
    handle._idle.append(steps)
    return steps
