"""How far a network made from a pipeline's UNet is from it: at every evaluation of the pipeline's own runs, and where a
run by that network alone ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.calibration.moments import Array
from explorer.calibration.probe import Probe
from explorer.devices import clock_for
from explorer.models.pictures import run
from explorer.models.prompts import Prompt
from explorer.models.workload import is_guided
from explorer.networks.student import Student
from explorer.plans.cast import TEACHER
from explorer.plans.plan import InheritancePlan
from explorer.runtime.inherit import inherit
from explorer.runtime.networks import networks_of
from explorer.runtime.runs import Running
from explorer.unet.architecture import Architecture
from explorer.unet.conditions import read_conditions
from explorer.unet.variant import Variant

_NAME = "student"


@dataclass(frozen=True)
class NetworkErrors:
    """Of one network.

    Attributes:
        errors: (evaluations,) mean squares of the guided prediction's error along the pipeline's own run.
        alone: Mean square distance of the final latents of a run by this network alone from the pipeline's own.
        share: Median time of a step over that of a step of the pipeline's UNet.
    """

    errors: Array
    alone: float
    share: float


def measure_network(
    pipe: Any,
    student: Student,
    prompts: Sequence[str | Prompt],
    *,
    steps: int,
    guidance: float,
    seed: int,
    size: tuple[int, int] | None = None,
    progress: Callable[[int], None] = lambda evaluations: None,
) -> NetworkErrors:
    """Run `pipe` on one batch of `prompts` by its own UNet, with the student's prediction beside it, then by the
    student alone.

    Args:
        pipe: Of the teacher, without a plan.
        student: The network.
        prompts: Of the runs.
        steps: Of each run.
        guidance: The guidance scale.
        seed: Of the first picture.
        size: Height and width in pixels; the pipeline's own by default.
        progress: Told how many further UNet evaluations are done.

    Raises:
        ExplorerError: For a student of another teacher, and one that cannot run on this pipeline.
    """
    plan = InheritancePlan(Architecture.of(pipe.unet), steps).with_cast(_NAME)
    students = {_NAME: student}
    how: dict[str, Any] = {
        "seed": seed, "steps": steps, "guidance": guidance, "size": size, "output_type": "latent",
    }  # fmt: skip
    with torch.no_grad():
        beside = _Beside(pipe, plan, students, guidance, progress)
        with beside:
            own = run(pipe, prompts, **how).float()
        with inherit(pipe, plan, students=students):
            alone = run(pipe, prompts, **how).float()
    progress(len(beside.errors))
    share = float(np.median(beside.seconds[_NAME]) / np.median(beside.seconds[TEACHER]))
    return NetworkErrors(np.array(beside.errors), float(((alone - own) ** 2).mean()), share)


class _Beside(Probe):
    """Runs the pipeline's own UNet, and the student on the same samples."""

    def __init__(
        self,
        pipe: Any,
        plan: InheritancePlan,
        students: dict[str, Student],
        guidance: float,
        done: Callable[[int], None],
    ) -> None:
        # Before the probe is on the UNet: a student that is refused must leave nothing behind.
        networks = networks_of(pipe.unet, plan, students)
        super().__init__(pipe, lambda evaluation, sample, at: sample)
        self.guidance, self.done = guidance, done
        self.errors: list[float] = []
        self.seconds: dict[str, list[float]] = {TEACHER: [], _NAME: []}
        self.student = networks[_NAME]
        self.variants = {name: Variant(networks[name].program, networks[name].masks[0]) for name in self.seconds}

    def _step(self, run: Running, arguments: dict[str, Any]) -> Tensor:
        self.student.follow(arguments["sample"])
        made: dict[str, Tensor] = {}
        for name, variant in self.variants.items():
            program = variant.program
            sample, at = read_conditions(program.unet, program.architecture, **arguments)

            def call(variant: Variant = variant, name: str = name, sample: Tensor = sample, at: Any = at) -> None:
                made[name] = variant(sample, at, {})[0]

            self.seconds[name].append(clock_for(sample.device).time(call))
        noise, other = made.values()
        self.errors.append(float(((self._guided(other) - self._guided(noise)) ** 2).mean()))
        run.evaluation += 1
        self.done(1)
        return noise

    def _guided(self, noise: Tensor) -> Tensor:
        if not is_guided(self.guidance) or noise.shape[0] % 2:
            return noise.float()
        without, with_text = noise.float().chunk(2)
        return without + self.guidance * (with_text - without)
