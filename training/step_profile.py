"""What a distillation will take, measured before it begins: memory by the batch, and the time of a step.

The steps are those of the training itself, on a network that is thrown away. Memory grows linearly with the batch, so
two small batches tell it for all; the time of a step is measured at the batch that is chosen.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.errors import DeviceError, TrainingError
from explorer.files import write_whole
from explorer.memory import HEADROOM, free_memory, is_out_of_memory
from explorer.networks.student import Student
from training.distill import Pair, Settings, make_loss, trainable
from training.loop import Budget, crew
from training.muon import Muon
from training.teacher_data import Examples

SIZES = (2, 4)
"""Batches at which memory is measured."""
MOST = 256
"""Largest batch that is chosen by itself: BK-SDM's."""
SHARE = {"cuda": 0.9, "cpu": 0.5}
"""Of the free memory that a training may take, by the kind of device."""
SLOW = 60.0
"""Seconds: a longer step is not measured but taken to be proportional to the batch."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training's steps: `held` between them (weights, their average, moments), and within one `fixed` and
    `sample` for each sample of the batch."""

    held: int
    fixed: int
    sample: int

    def needed(self, batch: int) -> int:
        """Bytes for steps of a batch, with headroom for the allocator and the kernels."""
        return int(HEADROOM * (self.held + self.fixed + self.sample * batch))

    def largest(self, usable: int) -> int:
        """The largest batch that `usable` bytes hold; 0 where not even one sample fits."""
        return max(0, int((usable / HEADROOM - self.held - self.fixed) // max(1, self.sample)))


@dataclass(frozen=True)
class Prediction:
    """What a training will take.

    Attributes:
        batch: Samples of a step, of all processes.
        seconds: Of a step.
        needed: Bytes on each device beside the teacher.
        usable: Bytes that the training may take there; 0 where it is not known.
        device: Where.
    """

    batch: int
    seconds: float
    needed: int
    usable: int
    device: str

    def describe(self, budget: Budget) -> str:
        """Two clauses: memory and time."""
        of = f" of {self.usable / 2**30:.1f} that may be used" if self.usable else ""
        memory = f"about {self.needed / 2**30:.2g} GiB on {self.device}{of}"
        pace = f"{self.seconds:.2g} s a step of {self.batch} samples"
        ends = []
        if budget.steps:
            ends.append(f"{budget.steps:,} steps take about {budget.steps * self.seconds / 60:.1f} min")
        if budget.minutes:
            ends.append(f"{budget.minutes:g} min are about {60 * budget.minutes / self.seconds:,.0f} steps")
        return f"predicted: {memory}; {pace}, {', '.join(ends)}"


def predict(
    pipe: Any,
    begun: Student,
    examples: Examples,
    settings: Settings,
    batch: int | None,
    *,
    checkpointing: bool = False,
    accelerator: Any = None,
) -> Prediction:
    """Measure steps of a training, and choose its batch where none is given.

    Args:
        pipe: The teacher's pipeline.
        begun: The student before training, see `training.distill.initial`.
        examples: What it is taught on.
        settings: Of the training; their batch is not read.
        batch: Samples of a step, of all processes. None: the largest power of two for each process that fits, up to
            256 for all.
        checkpointing: As of `distill`.
        accelerator: As of `distill`. All processes must call this.

    Raises:
        DeviceError: For a batch that does not fit into the memory, with the largest one that does.
    """
    processes = 1 if accelerator is None else accelerator.num_processes
    device = next(pipe.unet.parameters()).device
    usable = int(SHARE.get(device.type, SHARE["cpu"]) * free_memory(device))
    if device.type == "cpu":
        usable //= processes  # they share it
    less = "" if checkpointing else "; --checkpointing takes less memory for more time"
    try:
        steps = _Steps(pipe, begun, examples, settings, checkpointing, accelerator)
        memory, seconds = steps.memory()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"a training step of {SIZES[-1]} samples ran out of memory on {device}; end what else holds memory there"
            f"{less}."
        ) from error
    fitting = _of_all(memory.largest(usable) if usable else sys.maxsize, accelerator)
    batch = batch or chosen_batch(fitting, processes)
    share = -(-batch // processes)
    if share > fitting:
        most = f"--batch {fitting * processes} is the largest that fits" if fitting else "no batch fits"
        raise DeviceError(
            f"a step of --batch {batch} needs about {memory.needed(share) / 2**30:.2g} GiB on {device}, and "
            f"{usable / 2**30:.2g} GiB may be used; {most}{less}."
        )
    pace = seconds * share / SIZES[-1]
    if pace < SLOW:
        pace = steps.seconds(share)
    return Prediction(batch, pace, memory.needed(share), usable, str(device))


def chosen_batch(fitting: int, processes: int = 1) -> int:
    """The batch of all processes where `fitting` samples fit into each: a power of two for each, up to 256 for all."""
    share = min(fitting, MOST // processes)
    return int(processes * 2 ** math.floor(math.log2(max(1, share))))


def save_prediction(prediction: Prediction, path: Path) -> None:
    """Write a prediction, for a resumed training to take the same batch and for comparing it with what came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(prediction), indent=1).encode())


def load_prediction(path: Path) -> Prediction:
    """Inverse of `save_prediction`. Raises TrainingError for another file."""
    try:
        data = json.loads(path.read_bytes())
        return Prediction(
            int(data["batch"]), float(data["seconds"]), int(data["needed"]), int(data["usable"]), str(data["device"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} holds no batch ({error}); give --batch as the training began, or move its folder away."
        ) from error


def _of_all(fitting: int, accelerator: Any) -> int:
    """The least of what fits in each process."""
    if accelerator is None:
        return fitting
    return int(accelerator.gather(torch.tensor([fitting], device=accelerator.device)).min())


class _Steps:
    """Steps of the training on a network of their own."""

    def __init__(
        self, pipe: Any, begun: Student, examples: Examples, settings: Settings, checkpointing: bool, accelerator: Any
    ) -> None:
        network, self._parameters = trainable(begun, pipe.unet)
        self._device = next(network.parameters()).device
        self._pair = Pair(pipe.unet, network, begun.removed, checkpointing=checkpointing)
        self._optimizer = Muon(self._parameters.values(), settings.rate)
        self._accelerator, self._settings = accelerator, settings
        self._taught = (examples, pipe.scheduler, begun.timesteps)

    def memory(self) -> tuple[StepMemory, float]:
        """Memory, and the seconds of a step of the larger of `SIZES`."""
        peaks = []
        for share in SIZES:
            self._step(share)  # the first one also makes the moments, and kernels choose their ways
            self._optimizer.zero_grad(set_to_none=True)
            with peak_bytes(self._device) as peak:
                self._step(share)
            peaks.append(peak[0])
        seconds = self._timed(SIZES[-1])
        weights = sum(p.numel() * p.element_size() for p in self._parameters.values())
        moments = sum(
            each.numel() * each.element_size() for state in self._optimizer.state.values() for each in state.values()
        )
        sample = max(0, peaks[1] - peaks[0]) // (SIZES[1] - SIZES[0])
        return StepMemory(2 * weights + moments, max(0, peaks[0] - SIZES[0] * sample), sample), seconds

    def seconds(self, share: int) -> float:
        """Of a step of `share` samples in each process, after one that is not timed."""
        self._step(share)
        return self._timed(share)

    def _timed(self, share: int) -> float:
        began = time.monotonic()
        self._step(share)
        return time.monotonic() - began

    def _step(self, share: int) -> None:
        processes = 1 if self._accelerator is None else self._accelerator.num_processes
        examples, scheduler, part = self._taught
        settings = replace(self._settings, batch=share * processes)
        loss = make_loss(self._pair, examples, scheduler, settings, part)
        crew(self._parameters, self._optimizer, loss, accelerator=self._accelerator).step(0, self._settings.rate)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@contextlib.contextmanager
def peak_bytes(device: torch.device) -> Iterator[list[int]]:
    """Measures the most bytes that torch holds on `device` within it beside those before; the list has the number
    afterwards."""
    found = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found[0] = torch.cuda.max_memory_allocated(device) - before
        return
    with _Held() as held:
        yield found
    found[0] = held.peak


class _Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it and still held: a CPU's allocator keeps no count."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if _has_data(each)}
        made = func(*args, **(kwargs or {}))
        for storage in (each.untyped_storage() for each in tree_leaves(made) if _has_data(each)):
            if storage._cdata in given or storage._cdata in self._known:
                continue  # a view, or changed in place
            self._known.add(storage._cdata)
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return made

    def _free(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._now -= size


def _has_data(each: Any) -> bool:
    return isinstance(each, torch.Tensor) and each.layout is torch.strided
