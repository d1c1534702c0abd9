"""How far a student's pictures are from its teacher's, on prompts that it is not taught on."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer import InheritancePlan, inherit
from explorer.bootstrap import mean_estimate
from explorer.estimate import Estimate
from explorer.files import write_whole
from explorer.models.pictures import generate
from explorer.networks.student import Student
from explorer.plans.schedule import Every
from explorer.quality.paired import psnr
from explorer.unet.architecture import Architecture
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
