"""The pipelines that a study measures, and the denoising loop that it times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from explorer.compile_modes import CompileMode
from explorer.models.workload import twin
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import evaluations_of_plan
from explorer.runtime.inherit import Inheritance, inherit
from explorer.runtime.networks import Students


@dataclass(frozen=True, eq=False)
class Pipelines:
    """One model, un-accelerated and with plans applied. All pipelines share its weights.

    Attributes:
        pipe: The pipeline as it was given. It stays as it is.
        candidate: Its twin, to which plans are applied.
        stock: The un-accelerated pipeline that latencies are held against, in the mode of `compile`.
        compile: The mode in which both sides of a measurement run.
        students: The networks that a plan's cast may name.
    """

    pipe: Any
    candidate: Any
    stock: Any
    compile: CompileMode = "off"
    students: Students = field(default_factory=dict)
    _evaluations: dict[tuple[int, str | None, str | None], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, pipe: Any, plain: InheritancePlan, compile: CompileMode = "off", students: Students | None = None
    ) -> Pipelines:
        """The pipelines of `pipe`.

        Args:
            pipe: The model.
            plain: The plan of the un-accelerated run.
            compile: The mode in which both sides of a measurement run.
            students: The networks that a plan's cast may name.
        """
        stock = pipe
        if compile != "off":
            # Compiled against eager would mix the compiler's gain with the plan's: both sides run in one mode.
            stock = twin(pipe)
            inherit(stock, plain, compile=compile)
        return cls(pipe, twin(pipe), stock, compile, students or {})

    def applied(self, plan: InheritancePlan) -> AbstractContextManager[Inheritance]:
        """Within it the plan is applied to `candidate`."""
        return inherit(self.candidate, plan, compile=self.compile, students=self.students)

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan under its scheduler, by default the pipeline's (PNDM: one more than its
        steps)."""
        run = plan.steps, plan.scheduler, plan.spacing
        if run not in self._evaluations:
            self._evaluations[run] = evaluations_of_plan(self.pipe.scheduler, plan)
        return self._evaluations[run]


@dataclass(frozen=True, eq=False)
class DenoisingLoop:
    """The loop that is timed: embeddings are made beforehand and latents are not decoded.

    Attributes:
        embeds: Gives the prompt embeddings of one call; they are made once.
        guidance: The guidance scale.
        size: Height and width of a picture in pixels; None for the pipeline's own.
        seed: Of the first latents.
    """

    embeds: Callable[[], dict[str, Any]]
    guidance: float
    size: tuple[int, int] | None = None
    seed: int = 0

    def run(self, pipe: Any, steps: int) -> None:
        """Run the loop of `pipe` once."""
        shape = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        pipe(
            num_inference_steps=steps,
            guidance_scale=self.guidance,
            output_type="latent",
            generator=torch.Generator("cpu").manual_seed(self.seed),
            **self.embeds(),
            **shape,
        )
