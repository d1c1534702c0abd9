"""How far a student's pictures are from its teacher's, and an adapter's from guided ones, on prompts that they are not
taught on."""

from __future__ import annotations

import copy
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer import InheritancePlan, inherit
from explorer.bootstrap import mean_estimate
from explorer.estimate import Estimate
from explorer.files import write_whole
from explorer.models.pictures import generate
from explorer.models.workload import twin
from explorer.networks.speedup import SpeedUp
from explorer.networks.speedup_branch import SpeedUpUse
from explorer.networks.student import Student
from explorer.plans.schedule import Every
from explorer.plans.schedulers import scheduler_for
from explorer.quality.paired import psnr
from explorer.runtime.speed_up import speed_up
from explorer.unet.architecture import Architecture
from training.loop import Training
from training.teacher_data import under_ddim

STEPS = 10
"""Of each picture."""
LOOKS = 10
"""Measurements over a training, where their time allows."""
SHARE = 0.1
"""Of a training's time that they may take, but for the last one."""


class PairedDrift:
    """PSNR of a student's pictures to its teacher's, from the same noise under DDIM.

    Args:
        pipe: The teacher's pipeline.
        student: Whose nodes are removed.
        prompts: Held out from the training.
        guidance: The guidance scale.
        seed: Of the first picture.
    """

    def __init__(self, pipe: Any, student: Student, prompts: Sequence[str], guidance: float, seed: int = 1) -> None:
        self._pipe = under_ddim(pipe)
        self._how: dict[str, Any] = {"seed": seed, "steps": STEPS, "guidance": guidance, "batch_size": len(prompts)}
        self._prompts, self._removed = list(prompts), student.removed
        self._teacher = generate(self._pipe, self._prompts, **self._how)

    def __call__(self, network: nn.Module) -> Estimate:
        """The mean PSNR in dB with its 95% interval.

        Args:
            network: The student's UNet, see `Student.network`. It is not changed.
        """
        other = copy.copy(self._pipe)
        other.unet = network
        plan = InheritancePlan(Architecture.of(network), STEPS, (self._removed,), Every())
        with torch.no_grad(), inherit(other, plan):
            return mean_estimate(psnr(generate(other, self._prompts, **self._how), self._teacher))


class GuidedDrift:
    """PSNR of a base's pictures with a speed-up adapter to its guided ones, from the same noise.

    Args:
        pipe: The base's pipeline.
        use: What the adapter is trained for.
        prompts: Held out from the training.
        steps: Of the guided pictures.
        seed: Of the first picture.
    """

    def __init__(self, pipe: Any, use: SpeedUpUse, prompts: Sequence[str], steps: int, seed: int = 1) -> None:
        self._pipe, self._prompts = pipe, list(prompts)
        self._how: dict[str, Any] = {"seed": seed, "batch_size": len(prompts)}
        base = twin(pipe)
        base.scheduler = scheduler_for(base.scheduler, use.scheduler, use.spacing)
        with torch.no_grad():
            self._guided = generate(base, self._prompts, steps=steps, guidance=use.guidance, **self._how)

    def __call__(self, adapter: SpeedUp) -> Estimate:
        """The mean PSNR in dB with its 95% interval, at the adapter's guidance and steps."""
        other = twin(self._pipe)
        with torch.no_grad(), speed_up(other, adapter):
            made = generate(other, self._prompts, steps=adapter.use.steps, guidance=1.0, **self._how)
        return mean_estimate(psnr(made, self._guided))


class Looks:
    """When a training is interrupted for a measurement: at its end, and after each tenth of it unless the measurements
    would take more than a tenth of its time. What one takes is known from the one before."""

    def __init__(self) -> None:
        self._cost, self._spent, self._looked = 0.0, 0.0, 0

    def due(self, progress: float, seconds: float) -> bool:
        """Whether to measure now.

        Args:
            progress: The share of the training that is done, from 0 to 1.
            seconds: That the training has taken, its measurements included.
        """
        if progress >= 1:
            return True
        return int(progress * LOOKS) > self._looked and self._spent + self._cost <= SHARE * seconds

    def took(self, progress: float, seconds: float) -> None:
        """A measurement at `progress` has taken `seconds`."""
        self._looked = int(progress * LOOKS)
        self._cost = seconds
        self._spent += seconds


class DriftLog:
    """`drift.csv`: a row for each measurement. One takes the place of those of its step and later ones, which a resumed
    training measures again.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[tuple[int, float, float, float]] = []
        if path.exists():
            with path.open(encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    self.rows.append((int(row["step"]), float(row["psnr"]), float(row["low"]), float(row["high"])))

    def add(self, step: int, drift: Estimate) -> None:
        """Write a row."""
        self.rows = [row for row in self.rows if row[0] < step]
        self.rows.append((step, drift.value, drift.low, drift.high))
        lines = ["step,psnr,low,high", *(f"{n},{value:.3f},{low:.3f},{high:.3f}" for n, value, low, high in self.rows)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, ("\n".join(lines) + "\n").encode())


class DriftWatch:
    """A drift that is measured before a training, now and then in it, and at its end; logged and said.

    Args:
        path: Of the log, see `DriftLog`.
        to: What the drift is to, for people.
        say: Prints a line.
    """

    def __init__(self, path: Path, to: str, say: Callable[..., None]) -> None:
        self._log, self._looks = DriftLog(path), Looks()
        self._to, self._say = to, say

    def before(self, drift: Callable[[], Estimate]) -> None:
        """Measure an untrained network, unless the log of a resumed training has it."""
        if not self._log.rows:
            self._measure(drift, 0, 0.0, f"before: {{}} to {self._to} on held-out prompts")

    def look(self, training: Training, drift: Callable[[], Estimate]) -> None:
        """Measure the averaged weights after a step, where it is time to."""
        progress = training.budget.progress(training.step, training.seconds)
        if self._looks.due(progress, training.seconds):
            self._measure(drift, training.step, progress, f"step {training.step}: {{}} to {self._to}")

    def _measure(self, drift: Callable[[], Estimate], step: int, progress: float, line: str) -> None:
        began = time.monotonic()
        found = drift()
        self._log.add(step, found)
        self._looks.took(progress, time.monotonic() - began)
        self._say(line.format(f"{found.value:.1f} dB [{found.low:.1f}, {found.high:.1f}]"), markup=False)
