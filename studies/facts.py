"""What a filter asks of a plan, read from its JSON without building it: mode, form, rule, steps and scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.errors import PlanError
from explorer.schedulers import check_name, short

UNKNOWN = "other"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """mode: `P5`, `P5†` (any full tail), `N` (DeepCache's curve), `free` (written out), `none` (extracts always).
    form: `residual`, `output`, `both` or `none`. rule: `copy`, `forecast1` ... steps: None where the JSON has none.
    scheduler: `DPMSolverMultistep`, None for the pipeline's own. `other` where the JSON tells something that this
    version does not know."""

    mode: str = UNKNOWN
    form: str = UNKNOWN
    rule: str = UNKNOWN
    steps: int | None = None
    scheduler: str | None = None

    @classmethod
    def of(cls, plan: Any) -> PlanFacts:
        """Never raises: a plan of another kind or version has facts of its own."""
        if not isinstance(plan, Mapping):
            return cls()
        mode = _mode(plan.get("schedule"))
        form = "none" if mode == "none" else _form(plan.get("masks"))
        steps = plan.get("steps")
        return cls(
            mode if form != "none" else "none",
            form,
            "none" if form == "none" else _rule(plan.get("rule")),
            steps if isinstance(steps, int) else None,
            _scheduler(plan.get("scheduler")),
        )


UNKNOWN_FACTS = PlanFacts()


def _mode(schedule: Any) -> str:
    """Of a schedule as an object, or as a short text (`P5@2 tail=0.2`, `N10 centre=...`, `0 1*4 0`)."""
    if isinstance(schedule, str):
        if found := re.match(r"P(\d+)", schedule):
            return _periodic(int(found[1]), "tail=" in schedule)
        return "N" if schedule.startswith("N") else "free" if schedule[:1].isdigit() else UNKNOWN
    if not isinstance(schedule, Mapping):
        return UNKNOWN
    kind = schedule.get("kind")
    if kind == "periodic" and isinstance(schedule.get("period"), int):
        return _periodic(schedule["period"], bool(schedule.get("tail")))
    return {"curve": "N", "segments": "free"}.get(str(kind), UNKNOWN)


def _periodic(period: int, tail: bool) -> str:
    return "none" if period == 1 else f"P{period}{'†' if tail else ''}"


def _form(masks: Any) -> str:
    """Of masks as objects of unit and form, or as short texts, in which `=` marks an output."""
    if not isinstance(masks, list) or not all(isinstance(mask, Mapping | str) for mask in masks):
        return UNKNOWN
    forms = {form for mask in masks for form in (_forms(mask) if isinstance(mask, str) else mask.values())}
    if forms == {"residual", "output"}:
        return "both"
    return str(next(iter(forms))) if len(forms) == 1 else UNKNOWN if forms else "none"


def _forms(mask: str) -> set[str]:
    return {"output" if word.endswith("=") else "residual" for word in mask.split()}


def _rule(rule: Any) -> str:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("kind"), str):
        return UNKNOWN
    order = rule.get("order")
    if rule["kind"] == "fitted":
        return "fitted3" if order == 2 else "fitted"
    return rule["kind"] + (str(order) if rule["kind"] == "forecast" and isinstance(order, int) else "")


def _scheduler(name: Any) -> str | None:
    try:
        return None if name is None else short(check_name(name))
    except PlanError:
        return UNKNOWN
