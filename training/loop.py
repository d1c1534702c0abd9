"""What all trainings share: a budget, a learning rate, averages, checkpoints that survive a kill, a log of losses."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from explorer.errors import TrainingError
from explorer.files import write_whole
from training.muon import Muon
from training.processes import Processes
from training.team import Loss, Team
from training.tensors import load_tensors, metadata_of, save_tensors


@dataclass(frozen=True)
class Budget:
    """How long a training lasts: `steps`, or `minutes` of its own running time, whichever ends first.

    A budget of steps repeats exactly; a budget of minutes ends on time on an unknown machine. The card says which steps
    a budget of minutes came to.
    """

    steps: int | None = None
    minutes: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """The share that is done, from 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


CHECKPOINT = "checkpoint.safetensors"


def check_step(batch: int, rate: float) -> None:
    """Refuse a batch and a learning rate of which no training step can be made. Raises TrainingError."""
    if batch < 1 or not 0 < rate < 1:
        raise TrainingError(f"a batch of 1 or more and a rate from 0 to 1 are needed, got {batch}, {rate}.")


DECAY = 0.3
"""The last share of a budget, over which the learning rate falls."""


def trapezoid(progress: float, step: int, warm_up: int, floor: float = 0.01) -> float:
    """Learning-rate factor: linear warm-up over `warm_up` steps, constant, then linear down to `floor`.

    A training that is still in its constant part can be given a longer budget: its steps so far are the same.
    """
    return min(1.0, (step + 1) / warm_up) * max(floor, min(1.0, (1 - progress) / DECAY))


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The random numbers of one step, by seed and step alone: a resumed run draws what an unbroken one would. Another
    kind of device draws other numbers."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)


def normal(
    shape: Sequence[int], generator: torch.Generator, device: torch.device, seed: int, step: int
) -> torch.Tensor:
    """Standard normal numbers of one step on `device`: from `generator` on a CPU; a GPU draws its own, as it would wait
    for a CPU's."""
    if device.type != "cpu":
        generator = step_generator(seed, step, device)
    return torch.randn(tuple(shape), generator=generator, device=device)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small tensor on `device`, without waiting for the work that a GPU has in its queue."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Average:
    """Exponential moving average of the parameters, with a warm-up so that the random start is forgotten."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and live parameters; a second call undoes it."""
        for name, p in self.parameters.items():
            live = p.detach().clone()
            p.copy_(self.values[name])
            self.values[name].copy_(live)


def crew(
    parameters: dict[str, torch.nn.Parameter], optimizer: Muon, loss_of: Loss, workers: int = 1, accelerator: Any = None
) -> Team | Processes:
    """Who makes a training's steps; arguments as of `Training.run`."""
    if accelerator is None:
        return Team(list(parameters.values()), optimizer, loss_of, workers)
    return Processes(list(parameters.values()), optimizer, loss_of, accelerator)


@dataclass
class Training:
    """One training's state on disk: parameters, their average, the optimizer's moments, the step and its seconds."""

    folder: Path
    parameters: dict[str, torch.nn.Parameter]
    optimizer: Muon
    average: Average
    budget: Budget
    save_every: float = 60.0
    log_every: int = 50
    stop_at: float | None = None
    """Moment of `time.monotonic` at which to save and end for now; the budget's rest is for another run."""
    on_save: Callable[[], None] = lambda: None
    about: dict[str, str] = field(default_factory=dict)
    """Facts that a checkpoint must share to be gone on from."""
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    rows: int = 0
    writes: bool = True
    """Whether this process writes files: one of several does."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        return self.folder / CHECKPOINT

    def save(self) -> None:
        """Write the checkpoint."""
        if not self.writes:
            return
        tensors: dict[str, torch.Tensor] = {}
        for name, p in self.parameters.items():
            tensors[f"p/{name}"] = p
            tensors[f"a/{name}"] = self.average.values[name]
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"o/{key}/{name}"] = torch.as_tensor(value)
        save_tensors(tensors, self.path, {"step": str(self.step), "seconds": repr(self.seconds), **self.about})
        self.on_save()

    @torch.no_grad()
    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one.

        Raises:
            TrainingError: when it cannot be read, is none of such a network, or was made otherwise, as `about` says.
        """
        if not self.path.exists():
            self.forget_later_rows()
            return False
        metadata, tensors = metadata_of(self.path), load_tensors(self.path)
        own = all(tensors.get(f"a/{name}", p.new_empty(0)).shape == p.shape for name, p in self.parameters.items())
        if not own or not {"step", "seconds"} <= metadata.keys():
            raise TrainingError(f"{self.path} is no checkpoint of this network; move it away to train from the start.")
        other = {k: metadata.get(k) for k, v in self.about.items() if metadata.get(k) != v}
        if other:
            asked = {k: self.about[k] for k in other}
            raise TrainingError(
                f"{self.path} was trained with {other}, not {asked}; move it away to train from the start."
            )
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        for name, p in self.parameters.items():
            # a checkpoint that has travelled holds the averages alone, see recipe.packing.parcels
            p.copy_(tensors.get(f"p/{name}", tensors[f"a/{name}"]))
            self.average.values[name].copy_(tensors[f"a/{name}"])
            state = {
                k.split("/")[1]: v for k, v in tensors.items() if k.startswith("o/") and k.split("/", 2)[2] == name
            }
            # the moments take the parameter's memory format, else every step converts between two layouts
            self.optimizer.state[p] = {k: v if v.ndim == 0 else torch.empty_like(p).copy_(v) for k, v in state.items()}
        self.forget_later_rows()
        print(f"resumed at step {self.step} after {self.seconds / 60:.1f} min", flush=True)
        return True

    @property
    def log(self) -> Path:
        return self.folder / "losses.csv"

    def forget_later_rows(self) -> None:
        """Take out of the log what came after the checkpoint: those steps are made, and logged, again. A line that a
        kill cut short goes as well, and a log without a row."""
        if not self.log.exists():
            return
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [row for row in lines[1:] if row.endswith("\n") and int(row.split(",")[0]) <= self.step]
        if rows:
            write_whole(self.log, "".join([lines[0], *rows]).encode())
        else:
            self.log.unlink()

    def run(self, loss_of: Loss, rate: float, warm_up: int, workers: int = 1, accelerator: Any = None) -> Iterator[int]:
        """Train until the budget is spent; yields after every step. `loss_of(step, share)["loss"]` is minimised.

        workers: processes on a CPU that this one starts. accelerator: of the processes that `accelerate launch` has
        started, instead; the first of them writes.
        """
        if accelerator is not None:
            self.writes = accelerator.is_main_process
        team = crew(self.parameters, self.optimizer, loss_of, workers, accelerator)
        saved = started = time.monotonic()
        before = self.seconds
        try:
            while (progress := self.budget.progress(self.step, self.seconds)) < 1.0:
                if self.stop_at is not None and time.monotonic() > self.stop_at:
                    break
                now = rate * trapezoid(progress, self.step, warm_up)
                losses = team.step(self.step, now)
                self.average.update(self.step)
                self.step += 1
                self.seconds = team.agree(before + time.monotonic() - started)
                self.note(losses)
                if self.step % self.log_every == 0 or self.budget.progress(self.step, self.seconds) >= 1.0:
                    self.report(now)
                if time.monotonic() - saved > self.save_every:
                    self.save()
                    saved = time.monotonic()
                yield self.step
        finally:
            team.end()
        self.save()

    def note(self, losses: dict[str, torch.Tensor]) -> None:
        """Add a step's losses to those that the next row of the log averages; a GPU is not waited for."""
        for name, value in losses.items():
            added = value.detach().double()
            self.sums[name] = self.sums[name] + added if name in self.sums else added
        self.rows += 1

    def report(self, rate: float) -> None:
        """Write a row to the log, and show it with the time left."""
        if not self.rows or not self.writes:
            return
        means = {name: float(value) / self.rows for name, value in self.sums.items()}
        self.sums, self.rows = {}, 0
        fresh = not self.log.exists()
        with self.log.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(["step", "seconds", "rate", *means])
            writer.writerow([self.step, f"{self.seconds:.1f}", f"{rate:.3g}", *(f"{v:.5f}" for v in means.values())])
        done = self.budget.progress(self.step, self.seconds)
        left = self.seconds * (1 - done) / max(done, 1e-9) / 60
        shown = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        pace = 1000 * self.seconds / self.step
        print(f"step {self.step} {pace:.0f} ms/step {shown} | {100 * done:.1f}% done, {left:.1f} min left", flush=True)
