"""A plan's steps without CUDA graphs: each variant called with the features that its run holds."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from explorer.compile_modes import uses_compiler
from explorer.plans.plan import InheritancePlan, features_read
from explorer.runtime.combining import Combining
from explorer.runtime.compiling import Compiled
from explorer.runtime.runs import Running
from explorer.unet.conditions import read_conditions
from explorer.unet.mask import Feature, Mask, liveness
from explorer.unet.program import Program
from explorer.unet.variant import Variant


class EagerSteps:
    """Runs the steps of a plan, compiled or not, and keeps the variants. What a step leaves behind is in the run."""

    def __init__(self, program: Program, plan: InheritancePlan) -> None:
        self._program, self._plan = program, plan
        self._variants: dict[tuple[Mask, frozenset[Feature], bool], Any] = {}

    def step(self, run: Running, arguments: dict[str, Any]) -> Tensor:
        """The noise (B, C, H, W) of the run's next evaluation; `arguments` as of `read_conditions`."""
        i = run.evaluation
        known = None if run.replay is None else run.replay.output(i)
        if known is not None:
            run.evaluation += 1
            return known.to(arguments["sample"].device, copy=True)
        compiled = uses_compiler(run.mode)
        sample, at = read_conditions(self._program.unet, self._program.architecture, **arguments)
        # Of an inference tensor no gradient can be taken.
        shape = (sample.shape, sample.dtype, sample.device, sample.is_inference(), _shape(arguments["context"]))
        choice, stores = run.resolved.choices[i], run.resolved.stores[i]
        if run.shape is not None and shape != run.shape:
            # Batch, size, dtype, device or guidance changed inside the run: nothing that is kept fits.
            run.cache.clear()
            run.replay = None
            run.extracted = False
        run.shape = shape
        if not run.extracted and self._inherits(choice):
            choice, stores = 0, frozenset().union(*run.resolved.stores)
        run.extracted = run.extracted or not choice
        if not choice and compiled:
            stores = features_read(self._plan)  # one extract variant, not one for each set that is read later
        mask = self._plan.mask(choice)
        variant = self._variant(mask, frozenset() if choice else stores, compiled)
        inherited = Combining(self._plan.rule, run.cache, mask, i, run.start)
        # A compiled variant is given all at once, as its arguments.
        noise, stored = variant(sample, at, dict(inherited) if compiled else inherited)
        for feature, value in stored.items():
            # A later step's gradient takes it as a constant: the graph of this step may be freed by then.
            run.cache.setdefault(feature, {})[i] = value.detach() if value.requires_grad else value
        if stored or inherited.peak:
            run.peak = max(run.peak, run.bytes + inherited.peak)
        run.drop_unread()
        if run.replay is not None:
            run.replay.keep(i, noise)
        run.evaluation += 1
        result: Tensor = noise
        return result

    def _inherits(self, choice: int) -> bool:
        """Whether a step reads a feature. One that computes everything or only removes nodes reads none."""
        return bool(choice and liveness(self._program.architecture, self._plan.mask(choice)).reads)

    def _variant(self, mask: Mask, stores: frozenset[Feature], compiled: bool) -> Any:
        key = (mask, stores, compiled)
        variant = self._variants.get(key)
        if variant is None:
            made = Variant(self._program, mask, stores)
            variant = self._variants.setdefault(key, Compiled(made, len(self._variants)) if compiled else made)
        return variant


def _shape(context: Any) -> Any:
    return None if context is None else context.shape
