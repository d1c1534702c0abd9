"""A plan as a JSON document, and back from an untrusted one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError
from explorer.plans.cast import Cast
from explorer.plans.plan_text import mask_from_text, mask_to_text, schedule_from_text, schedule_to_text
from explorer.plans.provenance import MadeFor
from explorer.plans.rules import Rule
from explorer.plans.schedule import Every, schedule_from_json
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan

SCHEMA = 4
"""1 wrote masks and the schedule as objects, which are still read. 3 names a scheduler. 4 has a cast, a spacing of
timesteps, a speed-up adapter, removed nodes or the schedule `every`. A plan is written under the lowest schema that
holds it, so that a version that does not know a part refuses the plan instead of running it without."""
MAX_MASKS = 64
MAX_NAME = 200
KIND = "inheritance-plan"
_NEEDED = ("steps", "architecture", "masks", "schedule", "rule")
_NOTES = ("evaluations",)
"""What a study keeps beside a plan that changes nothing of it: the UNet evaluations of the run that its key is of."""
_FIELDS = {"schema", "kind", "name", "made_for", "scheduler", "spacing", "cast", "speedup", *_NEEDED, *_NOTES}


def schema_of(plan: InheritancePlan) -> int:
    """The lowest schema that holds the plan."""
    newest = (plan.cast, plan.spacing, plan.speedup)
    if any(newest) or any(mask.removes for mask in plan.masks) or isinstance(plan.schedule, Every):
        return SCHEMA
    return 2 if plan.scheduler is None else 3


def to_document(plan: InheritancePlan) -> dict[str, Any]:
    """The plan as a JSON object; `fields_of` gives its fields back."""
    chosen = {
        "scheduler": plan.scheduler,
        "spacing": plan.spacing,
        "cast": None if plan.cast is None else str(plan.cast),
        "speedup": plan.speedup,
    }
    return {
        "schema": schema_of(plan),
        "kind": KIND,
        "name": plan.name,
        **({} if plan.made_for is None else {"made_for": plan.made_for.to_json()}),
        "steps": plan.steps,
        **{name: value for name, value in chosen.items() if value is not None},
        "architecture": plan.architecture.to_json(),
        "masks": [mask_to_text(plan.architecture, mask) for mask in plan.masks],
        "schedule": schedule_to_text(plan.schedule),
        "rule": plan.rule.to_json(),
    }


def fields_of(data: Any) -> dict[str, Any]:
    """The fields of a plan in an untrusted document, for the plan's own checks.

    Raises:
        ExplorerError, TypeError, ValueError, OverflowError: when it is no plan.
    """
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise PlanError(f"this is not a plan; expected a JSON object of kind '{KIND}'.")
    schema = data.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise PlanError(f"the plan's schema {schema!r} cannot be read; expected a number up to {SCHEMA}.")
    if schema > SCHEMA:
        raise PlanError(f"the plan has schema {schema}, this version reads up to {SCHEMA}; upgrade the explorer.")
    missing = [field for field in _NEEDED if field not in data]
    if missing:
        raise PlanError(f"the plan lacks {', '.join(missing)}; export it again.")
    unknown = sorted(set(data) - _FIELDS) if schema >= 4 else []
    if unknown:
        raise PlanError(
            f"the plan has the field {unknown[0]!r:.80}, which this version does not know; export it again."
        )
    name = data.get("name")
    if name is not None and (not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable()):
        raise PlanError(f"the plan's name must be a text of at most {MAX_NAME} printable characters; rename it.")
    masks, schedule = data["masks"], data["schedule"]
    if not isinstance(masks, list) or not all(isinstance(mask, dict | str) for mask in masks):
        raise PlanError("the plan's masks cannot be read; expected a list of texts such as 'mid up3.l2.attn='.")
    if len(masks) > MAX_MASKS:
        raise PlanError(f"a plan has at most {MAX_MASKS} masks, got {len(masks)}.")
    architecture = Architecture.from_json(data["architecture"])
    return {
        "architecture": architecture,
        "steps": data["steps"],
        "masks": tuple(
            mask_from_text(architecture, mask) if isinstance(mask, str) else Mask.of(mask) for mask in masks
        ),
        "schedule": schedule_from_text(schedule) if isinstance(schedule, str) else schedule_from_json(schedule),
        "rule": Rule.from_json(data["rule"]),
        "name": name,
        "made_for": MadeFor.from_json(data["made_for"]) if data.get("made_for") is not None else None,
        "scheduler": data.get("scheduler"),
        "spacing": data.get("spacing"),
        "cast": Cast.parse(data["cast"]) if data.get("cast") is not None else None,
        "speedup": data.get("speedup"),
    }
