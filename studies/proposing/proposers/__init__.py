"""Kinds of proposers, one file each: where plans to be scored come from."""

from __future__ import annotations

from collections.abc import Callable

from explorer.errors import StudyError
from studies.proposing.proposers.base import Kind, Proposal, Tools
from studies.proposing.proposers.from_sampler import FromSampler
from studies.proposing.proposers.planned import Planned
from studies.proposing.proposers.seeds import Seeds
from studies.storage.command_lines import command_line

_KINDS: dict[str, Callable[[Tools], Kind]] = {kind.name: kind for kind in (Planned, Seeds, FromSampler)}
KINDS = tuple(_KINDS)
CALIBRATED = (Planned.name,)
"""The kinds that need a calibration."""
OF_PLANS = (Planned.name, Seeds.name)
"""The kinds that know what a plan is; the sampler asks the space alone."""

__all__ = ["CALIBRATED", "KINDS", "Kind", "Proposal", "Tools", "make_kinds"]


def make_kinds(proposals: str, tools: Tools) -> list[Kind]:
    """The kind of `--proposals`, and the sampler for the turns at which it has nothing to give.

    Raises:
        StudyError: for an unknown kind, or one that needs what the study does not have.
    """
    if proposals not in _KINDS:
        raise StudyError(f"there are no proposals {proposals!r}; use one of {', '.join(KINDS)}.")
    if lack := _lacks(proposals, tools):
        raise StudyError(f"--proposals {proposals} {lack}")
    return [_KINDS[name](tools) for name in dict.fromkeys((proposals, FromSampler.name))]


def _lacks(name: str, tools: Tools) -> str:
    """Why the study cannot have this kind; empty when it can."""
    if name in CALIBRATED and tools.predictor is None:
        command = command_line("calibrate", "--study", tools.study.name)
        return f"needs a calibration; run `{command}` first, or give --calibrate to a new study."
    if name in OF_PLANS and tools.setting is None:
        return f"needs one of the explorer's spaces, and {tools.space.name!r} is not."
    return ""
