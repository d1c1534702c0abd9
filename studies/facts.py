"""What a filter asks of a plan, read from its JSON without building it: mode, form, rule and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "other"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """mode: `P5`, `P5†` (any full tail), `N` (DeepCache's curve), `free` (written out), `none` (extracts always).
    form: `residual`, `output`, `both` or `none`. rule: `copy`, `forecast1` ... steps: None where the JSON has none.
    `other` where the JSON tells something that this version does not know."""

    mode: str = UNKNOWN
    form: str = UNKNOWN
    rule: str = UNKNOWN
    steps: int | None = None

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
        )


UNKNOWN_FACTS = PlanFacts()


def _mode(schedule: Any) -> str:
    if not isinstance(schedule, Mapping):
        return UNKNOWN
    kind = schedule.get("kind")
    if kind == "periodic" and isinstance(schedule.get("period"), int):
        period = schedule["period"]
        return "none" if period == 1 else f"P{period}{'†' if schedule.get('tail') else ''}"
    return {"curve": "N", "segments": "free"}.get(str(kind), UNKNOWN)


def _form(masks: Any) -> str:
    if not isinstance(masks, list) or not all(isinstance(mask, Mapping) for mask in masks):
        return UNKNOWN
    forms = {form for mask in masks for form in mask.values()}
    if forms == {"residual", "output"}:
        return "both"
    return str(next(iter(forms))) if len(forms) == 1 else UNKNOWN if forms else "none"


def _rule(rule: Any) -> str:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("kind"), str):
        return UNKNOWN
    order = rule.get("order")
    return rule["kind"] + (str(order) if rule["kind"] == "forecast" and isinstance(order, int) else "")
