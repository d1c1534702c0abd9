"""Un-accelerated runs with the UNet's insides open to a caller: what calibration reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from explorer.plans.plan import InheritancePlan
from explorer.runtime.inherit import Inheritance
from explorer.runtime.runs import Running
from explorer.unet.architecture import Architecture
from explorer.unet.conditions import read_conditions
from explorer.unet.mask import FORMS, Feature, Mask
from explorer.unet.program import Conditions, Program
from explorer.unet.variant import Variant

Watch = Callable[[int, Tensor, Conditions], Tensor]


class Probe(Inheritance):
    """`watch(evaluation, sample, conditions)` gives the noise of each evaluation of the runs of `target`, a pipeline.

    A context manager like `inherit`; patching, and what begins a run, are the same.
    """

    def __init__(self, target: Any, watch: Watch) -> None:
        unet = getattr(target, "unet", target)
        super().__init__(
            target, InheritancePlan(Architecture.of(unet), 1), scheduler=None, compile="off", fallback=False
        )
        self.watch = watch

    def _step(self, run: Running, arguments: dict[str, Any]) -> Tensor:
        sample, at = read_conditions(self.unet, self.program.architecture, **arguments)
        noise = self.watch(run.evaluation, sample, at)
        run.evaluation += 1
        return noise


def all_features(architecture: Architecture) -> tuple[Feature, ...]:
    """Everything that a mask may inherit: the output of each node but the last, and the residual of each unit."""
    return tuple(
        (node.name, form) for node in architecture.nodes[:-1] for form in FORMS if form == "output" or node.is_unit
    )


def storing(program: Program, features: tuple[Feature, ...]) -> Variant:
    """A full step that stores `features`."""
    return Variant(program, Mask(), frozenset(features))
