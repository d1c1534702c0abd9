"""The facts of a plan that rows, filters and labels show. They are found once, when the plan is enqueued, and kept as
columns of `explorer_plans`; whoever shows a row reads the columns and never the plan's JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from explorer.errors import ExplorerError, PlanError
from explorer.plans.cast import TEACHER, Cast
from explorer.plans.plan import plain_name
from explorer.plans.plan_text import mask_from_text, schedule_from_text, split_word
from explorer.plans.schedule import Curve, Every, Schedule, Segments, schedule_from_json
from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, REMOVALS, Mask
from search_spaces.axes import choices, suffix
from search_spaces.axes.base import UNKNOWN
from search_spaces.axes.rule import Rules
from search_spaces.axes.steps import Steps
from search_spaces.nickname import nickname_of

NONE, MIXED, REMOVAL = "none", "mixed", "removal"
LONG = 48
"""Characters of a plan's description that serve as its nickname where none can be made."""
_UNREADABLE = (ExplorerError, TypeError, ValueError, KeyError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The facts of one plan. Each field is a column of the same name.

    mode: `P5`, `P5†` (any full tail), `N` (DeepCache's curve), `every` (a mask at every evaluation), `free` (written
    out), `none` (extracts always). form: `residual`, `output`, `both`, `removal` (nodes are removed and nothing is
    inherited), `mixed` (some are removed and others inherit) or `none`. rule: `copy`, `forecast1` ..., or `none`.
    steps: None where the plan has no valid number. scheduler: `DPMSolverMultistep`; None is the pipeline's own.
    networks: those that the plan runs. spacing: of the timesteps; None is the scheduler's own. nickname: a short name
    for people.
    `other` marks what this version does not know.
    """

    mode: str = UNKNOWN
    form: str = UNKNOWN
    rule: str = UNKNOWN
    steps: int | None = None
    scheduler: str | None = None
    networks: tuple[str, ...] = (TEACHER,)
    spacing: str | None = None
    nickname: str = ""

    @classmethod
    def of(cls, plan: Any, name: str | None = None, description: str = "") -> PlanFacts:
        """The facts of a plan's JSON. A plan of another kind or version has facts too; this never raises.

        Args:
            plan: What `InheritancePlan.to_json` returns, of any schema, or any other JSON value.
            name: The plan's name, which is then its nickname.
            description: `InheritancePlan.describe`, shortened for the nickname where the plan cannot be read.
        """
        document: Mapping[str, Any] = plan if isinstance(plan, Mapping) else {}
        schedule = _schedule(document.get("schedule"))
        mode, form = _mode(schedule), _form(document.get("masks"))
        if NONE in (mode, form):
            mode = form = NONE
        rule, steps = NONE if form in (NONE, REMOVAL) else Rules.fact(document), Steps.fact(document)
        further = {axis.name: axis.fact(document) for axis in choices()}
        made = _nickname(document, schedule, mode, rule, steps, further)
        nickname = name or (made and _prefix(document.get("cast")) + made) or shortened(description)
        columns: dict[str, Any] = {axis.column: further[axis.name] for axis in choices() if axis.column is not None}
        return cls(mode, form, rule, steps, nickname=nickname, **columns)

    @classmethod
    def of_row(cls, row: Any) -> PlanFacts:
        """The facts in the columns of a row of `explorer_plans`. A row from a worker of an earlier version has no
        nickname; its description serves."""
        values = {field.name: getattr(row, field.name) for field in fields(cls)}
        return cls(
            **values | {"networks": tuple(row.networks), "nickname": row.nickname or row.name or shortened(row.words)}
        )

    def columns(self) -> dict[str, Any]:
        """The values of the columns."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"networks": list(self.networks)}

    @property
    def plain(self) -> bool:
        """Whether the plan inherits and removes nothing and runs the model's own UNet alone: the un-accelerated
        pipeline, or only fewer steps or another scheduler."""
        return self.mode == NONE and self.networks == (TEACHER,)


UNKNOWN_FACTS = PlanFacts()


def shortened(description: str) -> str:
    """A plan's description as a nickname."""
    return description if len(description) <= LONG else description[: LONG - 4] + " ..."


def _nickname(
    plan: Mapping[str, Any],
    schedule: Schedule | None,
    mode: str,
    rule: str,
    steps: int | None,
    further: Mapping[str, Any],
) -> str | None:
    """None for a plan that cannot be read."""
    if steps is not None and mode == NONE:
        return plain_name(steps) + suffix(further)
    if steps is None or schedule is None:
        return None
    try:
        architecture = _architecture(json.dumps(plan["architecture"]))
        masks = [
            mask_from_text(architecture, mask) if isinstance(mask, str) else Mask.of(mask) for mask in plan["masks"]
        ]
        return nickname_of(architecture, masks, schedule, rule, steps, further)
    except _UNREADABLE:
        return None


@lru_cache(maxsize=64)
def _architecture(text: str) -> Architecture:
    return Architecture.from_json(json.loads(text))


def _schedule(schedule: Any) -> Schedule | None:
    """A schedule as a text or as an object; None for what is none."""
    try:
        return schedule_from_text(schedule) if isinstance(schedule, str) else schedule_from_json(schedule)
    except _UNREADABLE:
        return None


def _mode(schedule: Schedule | None) -> str:
    if schedule is None:
        return UNKNOWN
    if isinstance(schedule, Segments):
        return "free" if any(choice for choice, _ in schedule.runs) else NONE
    if isinstance(schedule, Every):
        return "every"
    if isinstance(schedule, Curve):
        return "N"
    return NONE if schedule.period == 1 else f"P{schedule.period}{'†' if schedule.tail else ''}"


def _form(masks: Any) -> str:
    """Of masks as objects of unit and form, or as texts."""
    if not isinstance(masks, list) or not all(isinstance(mask, Mapping | str) for mask in masks):
        return UNKNOWN
    found = [form for mask in masks for form in (_forms(mask) if isinstance(mask, str) else mask.values())]
    if not all(form in (*FORMS, *REMOVALS) for form in found):
        return UNKNOWN
    inherited = set(found) & set(FORMS)
    if inherited != set(found):
        return MIXED if inherited else REMOVAL
    return "both" if len(inherited) > 1 else inherited.pop() if inherited else NONE


def _forms(mask: str) -> list[str]:
    return [split_word(word)[1] for word in mask.split()]


def _prefix(cast: Any) -> str:
    try:
        return "" if cast is None else Cast.parse(cast).prefix
    except PlanError:
        return ""
