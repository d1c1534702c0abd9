"""A GPU of one queue in simulated time, in place of torch's events: what a clock reads of it is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from explorer.devices import CYCLES

MARK = 1.5e-6
"""Seconds that an event takes the GPU."""


class SimulatedGpu:
    """host, gpu: until when each is busy. A kernel begins once it was launched and those before it are done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.host = self.gpu = 0.0
        patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "synchronize", lambda *_: self.wait())
        patch.setattr(torch.cuda, "_sleep", lambda cycles: self.launch(cycles / CYCLES))
        patch.setattr(torch.cuda, "Event", lambda **_: Event(self))

    def launch(self, seconds: float, calling: float = 0.0) -> None:
        """A kernel of `seconds`, which took the host `calling` to launch."""
        self.host += calling
        self.gpu = max(self.gpu, self.host) + seconds

    def wait(self) -> None:
        self.host = max(self.host, self.gpu)


class Event:
    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu, self.at = gpu, 0.0

    def record(self) -> None:
        self._gpu.launch(MARK)
        self.at = self._gpu.gpu

    def elapsed_time(self, other: Any) -> float:
        return 1000 * (other.at - self.at)

    def query(self) -> bool:
        return self.at <= self._gpu.host


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    yield SimulatedGpu(monkeypatch)
