"""Search spaces: from a trial's suggestions to a plan, and back. Each space has a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explorer.errors import StudyError
from explorer.plans.strategies import Fit
from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, REMOVALS, Form
from search_spaces.block import BlockSpace
from search_spaces.joint import JointSpace
from search_spaces.layer import LayerSpace
from search_spaces.named import NamedSpace
from search_spaces.schedule import ScheduleSpace
from search_spaces.space import BaseSpace, Setting, Space
from search_spaces.unit import UnitSpace

_SPACES: dict[str, type[BaseSpace]] = {
    space.name: space for space in (JointSpace, BlockSpace, LayerSpace, UnitSpace, ScheduleSpace, NamedSpace)
}
SPACES = tuple(_SPACES)
"""Names of the search spaces."""
DEFAULT_SPACE = JointSpace.name
"""The space of a search that names none."""

__all__ = ["DEFAULT_SPACE", "SPACES", "Space", "check_space", "make_space"]


def check_space(name: str) -> str:
    """Check the name of a space and return it.

    Raises:
        StudyError: For an unknown name.
    """
    if name not in _SPACES:
        raise StudyError(f"there is no space {name!r:.80}; choose one of {', '.join(SPACES)}.")
    return name


def make_space(
    name: str,
    architecture: Architecture,
    steps: int,
    evaluations: int,
    fit: Fit | None = None,
    values: Mapping[str, Mapping[str, Any]] | None = None,
    forms: Sequence[Form] = FORMS,
) -> Space:
    """Make a search space.

    Args:
        name: One of `SPACES`.
        architecture: Of the UNet.
        steps: The study's `num_inference_steps`.
        evaluations: UNet evaluations of these steps under the study's scheduler.
        fit: Gives plans the weights of the rule `fitted`, which the space has only with it. Give it in every run of a
            study or in none.
        values: Further values of an axis of the space `joint`, by the name of the axis (see `Setting.values`).
        forms: The forms that a unit may have in a mask, in the same order in every run of a study. `zero` and `bypass`
            remove parts.

    Raises:
        StudyError: For an unknown name, steps or evaluations below 1, values for a space without that axis, and forms
            that are unknown or repeated.
    """
    check_space(name)
    if steps < 1 or evaluations < 1:
        raise StudyError(
            f"a space needs at least 1 step and 1 evaluation, got {steps} and {evaluations}; give the study's --steps."
        )
    given = {axis: dict(several) for axis, several in (values or {}).items() if several}
    if given and name != JointSpace.name:
        raise StudyError(
            f"the space {name} has one {', one '.join(given)}, the pipeline's own; search others with the space "
            f"{JointSpace.name}."
        )
    if not forms or len(set(forms)) < len(forms) or not set(forms) <= {*FORMS, *REMOVALS}:
        raise StudyError(
            f"a space has one or more of the forms {', '.join((*FORMS, *REMOVALS))}, each once; got {', '.join(forms)}."
        )
    return _SPACES[name](Setting(architecture, steps, evaluations, fit, given, tuple(forms)))
