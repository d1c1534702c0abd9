"""Local moves of masks and schedules: a plan to one that differs in one thing. `search_spaces.neighbour` chooses.

Every move gives a valid plan or None where it does not apply. Masks move by what users think in: a unit, a layer or a
block joins or leaves, or the cut of an output inheritance goes one node up or down the UNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Periodic, Schedule, Segments
from explorer.unet.mask import Form, Mask
from search_spaces.mask_genome import repair
from search_spaces.schedule_genome import PERIODS, TAILS, written_out
from search_spaces.space import Setting


def stretched(schedule: Schedule, before: int, after: int) -> Schedule:
    """The schedule of a run of `before` evaluations for one of `after`."""
    if not isinstance(schedule, Segments) or before == after:
        return schedule
    choices = schedule.resolve(before)
    return Segments.of([0, *(choices[i * before // after] for i in range(1, after))])


def move_period(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """A period by one, an offset by one, or another full tail."""
    schedule = plan.schedule
    if not isinstance(schedule, Periodic) or plan.extracts_always:
        return None
    change = random.choice(("period", "offset", "tail"))
    if change == "tail":
        return replace(plan, schedule=replace(schedule, tail=random.choice(TAILS) / 100))
    if change == "offset":
        return replace(plan, schedule=replace(schedule, offset=(schedule.offset + 1) % schedule.period))
    period = schedule.period + random.choice((-1, 1))
    if period not in PERIODS:
        return None
    return replace(plan, schedule=replace(schedule, period=period, offset=min(schedule.offset, period - 1)))


def move_step(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """One evaluation of the written-out schedule: an extract step moves by one, comes or goes."""
    choices, masks = written_out(plan, setting.evaluations_of(plan))
    if not masks or len(choices) < 3:
        return None
    at = random.randrange(1, len(choices))
    to = at + random.choice((-1, 1))
    if choices[at] == 0 and 1 <= to < len(choices) and choices[to] and random.random() < 0.5:
        choices[at], choices[to] = choices[to], 0
    elif choices[at] == 0:
        choices[at] = choices[at - 1] or next((c for c in choices[at:] if c), 1)
    else:
        choices[at] = 0
    return replace(plan, masks=masks, schedule=Segments.of(choices), rule=plan.rule)


def move_group(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """A unit, a layer or a block joins a mask, or leaves it."""
    if not plan.masks:
        return None
    number, architecture = random.randrange(len(plan.masks)), plan.architecture
    forms = plan.masks[number].forms
    kind = random.choice(("unit", "layer", "block"))
    groups: Mapping[str, tuple[str, ...]] = {name: (name,) for name in architecture.units}
    groups = groups if kind == "unit" else architecture.layers if kind == "layer" else architecture.blocks
    units = groups[random.choice(sorted(groups))]
    if all(unit in forms for unit in units):
        forms = {name: form for name, form in forms.items() if name not in units}
    else:
        form: Form = random.choice([*set(forms.values())] or list(setting.forms))
        forms = {**forms, **dict.fromkeys(units, form)}
    return _with_mask(plan, number, Mask.of(forms))


def move_cut(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """An output entry goes to the next node up or down the UNet: a cut deeper or shallower than DeepCache's branch."""
    entries = [(k, name) for k, mask in enumerate(plan.masks) for name, form in mask.entries if form == "output"]
    if not entries:
        return None
    number, name = random.choice(entries)
    nodes = [node.name for node in plan.architecture.nodes if node.kind not in ("conv_in", "cat", "out")]
    if name not in nodes:
        return None
    to = nodes.index(name) + random.choice((-3, -2, -1, 1, 2, 3))
    if not 0 <= to < len(nodes):
        return None
    forms = {each: form for each, form in plan.masks[number].forms.items() if each != name}
    return _with_mask(plan, number, Mask.of({**forms, nodes[to]: "output"}))


def move_form(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """One unit, or all of a mask's units, by another form of the space."""
    if not plan.masks:
        return None
    number = random.randrange(len(plan.masks))
    units = [name for name in plan.masks[number].forms if name in plan.architecture.units]
    if not units:
        return None
    chosen = units if random.random() < 0.5 else [random.choice(units)]
    forms: dict[str, Form] = {}
    for name, form in plan.masks[number].entries:
        others = [each for each in setting.forms if each != form] if name in chosen else []
        forms[name] = others[0] if len(others) == 1 else random.choice(others) if others else form
    return _with_mask(plan, number, Mask.of(forms))


def _with_mask(plan: InheritancePlan, number: int, mask: Mask) -> InheritancePlan | None:
    mask = repair(plan.architecture, mask).effective(plan.architecture)
    if not len(mask):
        return None
    masks = (*plan.masks[:number], mask, *plan.masks[number + 1 :])
    return replace(plan, masks=masks)
