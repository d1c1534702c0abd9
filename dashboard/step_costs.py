"""What each evaluation of a plan's run costs: in measured time where there is a profile, otherwise counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.timing.anatomy import Anatomy
from explorer.timing.cost_model import CostModel
from explorer.unet.mask import Mask, without


@dataclass(frozen=True)
class Timing:
    """Measured times of a study's UNet: the cost model of a profile, and where it was measured."""

    model: CostModel
    where: str


@dataclass(frozen=True)
class StepCosts:
    """values: one an evaluation, in `unit`. full: of one that computes everything. words: what they are, for a caption;
    ratio_name, ratio_words: the same of the ratio."""

    values: tuple[float, ...]
    unit: str
    full: float
    words: str
    ratio_name: str
    ratio_words: str

    @property
    def ratio(self) -> float:
        """What as many evaluations that compute everything would cost over what these do."""
        return len(self.values) * self.full / sum(self.values)


Lacks = Mapping[str, Mask]
"""What each student lacks, by its name; one that is not among them counts as a whole UNet."""


def counted(plan: InheritancePlan, evaluations: int, anatomy: Anatomy, lacks: Lacks | None = None) -> StepCosts:
    """Multiply-accumulates a sample of each evaluation: a count, not a time, which hardware turns into less gain.

    Raises PlanError when the plan's schedule does not fit so many evaluations.
    """
    run = resolve_run(plan, evaluations)
    kinds = list(zip(run.choices, run.networks, strict=True))
    each = {kind: anatomy.step_macs(_mask(plan, *kind, lacks)) / 1e9 for kind in set(kinds)}
    return StepCosts(
        tuple(each[kind] for kind in kinds), "GMACs", anatomy.macs / 1e9,
        "Bars: multiply-accumulates of each evaluation, because no profile of this device is stored "
        "(explorer profile makes one).",
        "UNet's speed-up by MACs", "over the same number of full evaluations, by MACs",
    )  # fmt: skip


def timed(plan: InheritancePlan, evaluations: int, timing: Timing, lacks: Lacks | None = None) -> StepCosts:
    """Milliseconds of each evaluation by a profile's cost model, the rule's combination of features included.

    Raises PlanError when the plan's schedule does not fit so many evaluations.
    """
    run = resolve_run(plan, evaluations)
    values, extracts, before = [], 0, None
    for choice, network in zip(run.choices, run.networks, strict=True):
        extracts = (extracts if network == before else 0) + (choice == 0)
        terms, before = min(plan.rule.history, extracts), network
        values.append(timing.model.step_seconds(_mask(plan, choice, network, lacks), terms) * 1e3)
    return StepCosts(
        tuple(values), "ms", timing.model.step_seconds(Mask()) * 1e3,
        f"Bars: milliseconds of each evaluation, from the node times of a profile measured on {timing.where}.",
        "UNet's speed-up by its profile", "over the same number of full evaluations, by measured node times",
    )  # fmt: skip


def _mask(plan: InheritancePlan, choice: int, network: str, lacks: Lacks | None) -> Mask:
    """A plan's mask as the network of an evaluation runs it."""
    return without(plan.mask(choice), (lacks or {}).get(network, Mask()))
