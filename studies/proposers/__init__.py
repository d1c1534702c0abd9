"""Kinds of proposers, one file each, that compete in one study: where plans to be scored come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.errors import StudyError
from studies.proposers.base import Kind, Proposal, Tools
from studies.proposers.from_moves import Moves, ScreenedMoves
from studies.proposers.from_sampler import FromSampler, Screened
from studies.proposers.masks import Masks
from studies.proposers.planned import Planned
from studies.proposers.seeds import Seeds

MIXTURE = "mixture"
_KINDS: dict[str, Callable[[Tools[Any]], Kind[Any]]] = {
    kind.name: kind for kind in (Planned, Seeds, Masks, ScreenedMoves, Screened, Moves, FromSampler)
}
"""In the order in which a mixture gives them their first turns."""
KINDS = tuple(_KINDS)
CALIBRATED = (Planned.name, Screened.name, ScreenedMoves.name, Masks.name)
"""The kinds that need a calibration."""
OF_PLANS = (Planned.name, Seeds.name, Masks.name, Moves.name, ScreenedMoves.name)
"""The kinds that know what a plan is; the others ask the space alone."""

__all__ = ["CALIBRATED", "KINDS", "MIXTURE", "Kind", "Proposal", "Tools", "make_kinds"]


def make_kinds(proposals: str, tools: Tools[Any]) -> list[Kind[Any]]:
    """The kinds that take turns under `--proposals`: for `mixture` all that this study can have, otherwise the one, and
    the sampler for the turns at which it has nothing to give.

    Raises:
        StudyError: for an unknown kind, or one that needs what the study does not have.
    """
    if proposals == MIXTURE:
        names = [name for name in KINDS if not _lacks(name, tools)]
    elif proposals not in _KINDS:
        raise StudyError(f"there are no proposals {proposals!r}; use one of {', '.join(KINDS)} or {MIXTURE}.")
    elif lack := _lacks(proposals, tools):
        raise StudyError(f"--proposals {proposals} {lack}")
    else:
        names = list(dict.fromkeys((proposals, FromSampler.name)))
    return [_KINDS[name](tools) for name in names]


def _lacks(name: str, tools: Tools[Any]) -> str:
    """Why the study cannot have this kind; empty when it can."""
    if name in CALIBRATED and tools.predictor is None:
        return (
            f"needs a calibration; run `explorer calibrate --study {tools.study.name}` first, or give --calibrate to a "
            "new study."
        )
    if name in OF_PLANS and tools.setting is None:
        return f"needs a space of the explorer's own, and {tools.space.name!r} is none."
    if name == Screened.name and tools.study.settings.sampler.name == "nsga2":
        return "does not go with --sampler nsga2, whose generations need every proposal scored; use tpe or random."
    return ""
