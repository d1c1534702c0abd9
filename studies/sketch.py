"""What a plan's nickname is made of, kept with a row that is read without its plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from explorer.architecture import Architecture
from explorer.errors import ExplorerError
from explorer.mask import Mask
from explorer.plan_text import mask_from_text, schedule_from_text
from explorer.schedule import Schedule, schedule_from_json
from search_spaces.nickname import nickname_of
from studies.facts import PlanFacts

LONG = 48  # characters of a plan's words that stand for a nickname where none can be made


@dataclass(frozen=True, slots=True)
class Sketch:
    """The plan's masks and schedule as its JSON has them. architecture: as JSON; rows of equal ones share it."""

    architecture: Mapping[str, Any]
    masks: list[Any]
    schedule: Any

    @classmethod
    def of(cls, plan: Any) -> Sketch | None:
        """None for what is no plan."""
        if not isinstance(plan, Mapping):
            return None
        architecture, masks = plan.get("architecture"), plan.get("masks")
        if not isinstance(architecture, Mapping) or not isinstance(masks, list):
            return None
        return cls(_shared(architecture), masks, plan.get("schedule"))


_known: list[Mapping[str, Any]] = []


def _shared(architecture: Mapping[str, Any]) -> Mapping[str, Any]:
    """An equal one that is kept already: a study has tens of thousands of plans and one architecture."""
    for known in _known:
        if known == architecture:
            return known
    if len(_known) < 64:
        _known.append(architecture)
    return architecture


def nickname_of_row(sketch: Sketch | None, facts: PlanFacts, name: str | None, words: str) -> str:
    """The plan's name, `plain@20`, or what `search_spaces.nickname` makes of it; never raises."""
    if name or words.startswith("plain@"):
        return name or words
    if sketch is not None and facts.steps is not None:
        try:
            architecture = _architecture(json.dumps(sketch.architecture))
            masks = [_mask(architecture, mask) for mask in sketch.masks]
            schedule = _schedule(sketch.schedule)
            return nickname_of(architecture, masks, schedule, facts.rule, facts.steps, facts.scheduler)
        except (ExplorerError, TypeError, ValueError, KeyError):  # of another version: its words have to do
            pass
    return words if len(words) <= LONG else words[: LONG - 4] + " ..."


def nickname_of_json(plan: Any, name: str | None, words: str) -> str:
    """As `nickname_of_row`, of a plan's JSON."""
    return nickname_of_row(None if name else Sketch.of(plan), PlanFacts.of(plan), name, words)


@lru_cache(maxsize=64)
def _architecture(text: str) -> Architecture:
    return Architecture.from_json(json.loads(text))


def _mask(architecture: Architecture, mask: Any) -> Mask:
    return mask_from_text(architecture, mask) if isinstance(mask, str) else Mask.of(mask)


def _schedule(schedule: Any) -> Schedule:
    return schedule_from_text(schedule) if isinstance(schedule, str) else schedule_from_json(schedule)
