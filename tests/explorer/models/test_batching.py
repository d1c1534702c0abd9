"""The batch that is chosen where nobody said: what fits and pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from explorer import DeviceError
from explorer.models import batching
from explorer.models.batching import chosen_batch, picture_bytes, tried
from tests.conftest import make_pipeline

CPU = torch.device("cpu")


class Clock:
    """A machine on which a batch takes `fixed` and `each` second a picture, and no more than `room` pictures fit."""

    def __init__(self, fixed: float, each: float, room: int = 1000) -> None:
        self.fixed, self.each, self.room, self.now = fixed, each, room, 0.0
        self.runs: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def run(self, batch: int) -> None:
        self.runs.append(batch)
        if batch > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.now += self.fixed + self.each * batch


@pytest.mark.parametrize(
    ("fixed", "each", "room", "most", "expected"),
    [
        (1.0, 0.1, 1000, 32, 32),  # larger batches pay to the end
        (1.0, 1.0, 1000, 32, 8),  # 2, 1.5, 1.25, 1.125, 1.06 a picture: 16 gain less than a tenth
        (0.0, 1.0, 1000, 32, 1),
        (1.0, 0.1, 9, 32, 8),  # memory ends it
        (1.0, 0.1, 1000, 4, 4),
    ],
)
def test_batches_double_while_they_fit_and_pay(
    monkeypatch: pytest.MonkeyPatch, fixed: float, each: float, room: int, most: int, expected: int
) -> None:
    clock = Clock(fixed, each, room)
    monkeypatch.setattr(batching, "time", clock)
    assert tried(clock.run, most) == expected


def test_a_batch_that_leaves_no_room_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0, 0.1)
    monkeypatch.setattr(batching, "time", clock)
    assert tried(clock.run, 32, lambda: clock.runs[-1] <= 4) == 4


def test_a_picture_that_does_not_fit_is_said() -> None:
    with pytest.raises(DeviceError, match="lower --resolution"):
        tried(Clock(1.0, 0.1, 0).run, 32)


@pytest.mark.parametrize(("free", "expected"), [(2**40, 8), (5, 2), (2, 1), (0.5, 1)])
def test_on_a_cpu_memory_bounds_the_batch(monkeypatch: pytest.MonkeyPatch, free: float, expected: int) -> None:
    pipe = make_pipeline()
    one = picture_bytes(pipe, (32, 32))
    assert one > 3 * 32 * 32 * 4
    monkeypatch.setattr(batching, "free_memory", lambda _: int(free * one))

    def run(_: int) -> Any:
        raise AssertionError("nothing is run on a CPU")

    assert chosen_batch(run, pipe, (32, 32), CPU, 20) == expected


def test_the_room_is_that_of_the_study_s_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two GPUs the second is asked, though the first is the current one. Not run on a GPU: its figures are faked."""
    second = torch.device("cuda", 1)
    peaks: list[int] = []

    def reserved(device: Any = None) -> int:
        return peaks[-1] if device == second else 0

    monkeypatch.setattr(torch.cuda, "max_memory_reserved", reserved)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (0, 100 if device == second else 10**6))
    monkeypatch.setattr(batching, "PAYS", 1e9)
    made = chosen_batch(lambda batch: peaks.append(20 * batch), make_pipeline(), (32, 32), second, 32)
    assert made == 4 and max(peaks) == 160


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_batch_is_tried() -> None:  # pragma: no cover - needs a GPU
    pipe, runs = make_pipeline().to("cuda"), []
    made = chosen_batch(runs.append, pipe, (32, 32), torch.device("cuda"), 5)
    assert made in (1, 2, 4, 8) and max(runs) <= 8
