"""Limits on what a search proposes: memory of features, distinct variants, age of features. Baselines have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from explorer.compile_modes import CompileMode
from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.runtime.cache_size import peak_cache_bytes
from explorer.unet.mask import liveness


@dataclass(frozen=True)
class PlanLimits:
    """cache_mib: of the features held at once, predicted for the batch that is timed. variants: distinct masks of a
    run, the extract step's empty one among them; each is compiled once. age: evaluations since the features that a step
    inherits were extracted. None: no limit. feature_bytes: of each node's feature, for the batch. compile: the mode of
    the loop that is timed, as each holds features in its own way. student_bytes: of the weights that each student has
    beside the teacher's; they count as held."""

    cache_mib: float | None = None
    variants: int | None = None
    age: int | None = None
    feature_bytes: Mapping[str, int] = field(default_factory=dict)
    compile: CompileMode = "off"
    student_bytes: Mapping[str, int] = field(default_factory=dict)

    def reason(self, plan: InheritancePlan, evaluations: int) -> str | None:
        """Which limit the plan is beyond, in words; None when it is within all. Raises PlanError when its schedule does
        not fit the run."""
        ways: list[tuple[float | None, Callable[[InheritancePlan, int], float], str]] = [
            (self.cache_mib, self._cache_mib, "MiB of features" + (" and students" if plan.cast else "")),
            (self.variants, variants, "variants"),
            (self.age, age, "steps of age"),
        ]
        for most, measure, words in ways:
            if most is not None and (found := measure(plan, evaluations)) > most:
                return f"beyond the limit of {most:g} {words}: {found:.4g}"
        return None

    def _cache_mib(self, plan: InheritancePlan, evaluations: int) -> float:
        held = peak_cache_bytes(plan, evaluations, self.feature_bytes, compile=self.compile)
        return (held + sum(self.student_bytes.get(name, 0) for name in cast_students(plan.cast))) / 2**20


def variants(plan: InheritancePlan, evaluations: int) -> int:
    """How many different steps a run of the plan has: each network's effective masks, the empty one among them."""
    run = resolve_run(plan, evaluations)
    steps = {*zip(run.choices, run.networks, strict=True)}
    return len({(plan.mask(choice).effective(plan.architecture), network) for choice, network in steps})


def age(plan: InheritancePlan, evaluations: int) -> int:
    """The most evaluations between an inherit step and the extract step before it; 0 where nothing is inherited."""
    oldest = since = 0
    for choice in resolve_run(plan, evaluations).choices:
        since = since + 1 if choice else 0
        if liveness(plan.architecture, plan.mask(choice)).reads:
            oldest = max(oldest, since)
    return oldest
