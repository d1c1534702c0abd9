"""A short name for a plan that has none, made of what it is: the named masks that come nearest, schedule, rule, steps.

`~DC0/P3+f2@20`: nearly what DC0 leaves out (without the tilde: exactly that), extracting at every third evaluation, a
forecast of order 2, 20 steps. `S5`: a schedule that is written out, with 5 extract steps; `N10`: DeepCache's curve with
10. Several masks stand in the order in which a run takes them, joined by dots; a mask like none of the registry is told
by the number of units that it leaves out (`7u`). A mask that removes nodes ends in `-` (their branches) or `--`, as in
`LI1--/every@25`; a cast comes first: `m2+DC0/P3@25`. Equal plans have equal nicknames; different ones may share one,
so that a trial's number belongs beside it. A scheduler that is not the pipeline's own ends it, as it ends the names of
plain controls: `DC0/P3+f2@20/DPMSolverMultistep`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import rule_type
from explorer.plans.schedule import Curve, Every, Schedule, Segments
from explorer.plans.strategies import STRATEGIES
from explorer.unet.architecture import Architecture
from explorer.unet.mask import REMOVALS, Form, Mask, liveness
from search_spaces.axes import choices, suffix

LIKE = 0.3
"""Share of the nodes left out by either that a mask must have in common with a named one to go by its name."""
NAMED = 2  # masks of a plan that are identified by name


def nickname(plan: InheritancePlan) -> str:
    """The plan's own name where it has one."""
    if plan.name or not plan.masked:
        return plan.describe()
    further = {axis.name: axis.of(plan) for axis in choices()}
    made = nickname_of(plan.architecture, plan.masks, plan.schedule, plan.rule.name, plan.steps, further)
    return made if plan.cast is None else plan.cast.prefix + made


def nickname_of(
    architecture: Architecture, masks: Sequence[Mask], schedule: Schedule, rule: str, steps: int,
    further: Mapping[str, Any],
) -> str:  # fmt: skip
    """As `nickname`, of a plan's parts: rows of a study are read without building their plans. further: the values
    of the axes that a study may lack; None for the pipeline's own."""
    used = [masks[choice - 1] for choice in _choices(schedule) if choice <= len(masks)] or list(masks[:1])
    names = list(dict.fromkeys(mask_nickname(architecture, mask) for mask in used))
    shown = "·".join(names[:NAMED]) + ("·…" if len(names) > NAMED else "")
    return f"{shown}/{_schedule(schedule)}{rule_type(rule).suffix}@{steps}{suffix(further)}"


def mask_nickname(architecture: Architecture, mask: Mask) -> str:
    """`DC0` for what that strategy leaves out, `~DC0` for what comes nearest to it, `7u` for a mask like none."""
    return _mask_nickname(architecture, mask)


@lru_cache(maxsize=1 << 16)
def _mask_nickname(architecture: Architecture, mask: Mask) -> str:
    known, bits = _registry(architecture)
    effective = mask.effective(architecture)
    if effective.removes:
        return _of_removal(architecture, effective)
    if effective in known:
        return known[effective]
    mine = _left_out(architecture, effective)
    near, likeness = "", 0.0
    for name, theirs in bits.items():
        shared = (mine & theirs).bit_count() / max(1, (mine | theirs).bit_count())
        if shared > likeness:
            near, likeness = name, shared
    if likeness >= LIKE:
        return f"~{near}"
    computed = set(liveness(architecture, effective).run)
    return f"{sum(unit not in computed for unit in architecture.units)}u"


def _of_removal(architecture: Architecture, mask: Mask) -> str:
    """The nickname of the mask that inherits, by their residual, the units that this one removes."""
    forms = mask.forms
    ending = "--" if "bypass" in forms.values() else "-"
    inherited = {
        name: "residual" if form in REMOVALS else form
        for name, form in forms.items()
        if form not in REMOVALS or name in architecture.units
    }
    return _mask_nickname(architecture, Mask.of(cast(dict[str, Form], inherited))) + ending


@lru_cache(maxsize=16)
def _registry(architecture: Architecture) -> tuple[dict[Mask, str], dict[str, int]]:
    """The named masks, and what each leaves out; of two that are the same, the first."""
    known: dict[Mask, str] = {}
    for name, strategy in STRATEGIES.items():
        known.setdefault(strategy.mask(architecture).effective(architecture), name)
    return known, {name: _left_out(architecture, mask) for mask, name in known.items()}


def _left_out(architecture: Architecture, mask: Mask) -> int:
    """The nodes that a step under the mask does not compute, as bits."""
    run = set(liveness(architecture, mask).run)
    return sum(1 << i for i, node in enumerate(architecture.nodes) if node.name not in run)


def _choices(schedule: Schedule) -> list[int]:
    """The masks that a schedule takes, in order."""
    if isinstance(schedule, Segments):
        return list(dict.fromkeys(choice for choice, _ in schedule.runs if choice))
    return list(range(1, 2 + len(schedule.switches)))


def _schedule(schedule: Schedule) -> str:
    if isinstance(schedule, Segments):
        return f"S{sum(length for choice, length in schedule.runs if choice == 0)}"
    if isinstance(schedule, Curve):
        return f"N{schedule.extracts}"
    if isinstance(schedule, Every):
        return schedule.name
    return f"P{schedule.period}" + ("†" if schedule.tail else "")
