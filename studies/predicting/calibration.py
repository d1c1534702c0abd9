"""A study's calibration: what its un-accelerated runs tell of any plan. Read here, made by
`studies.searching.calibrate`.

It is stored in parts, so that every worker of the study has it and a killed calibration resumes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from explorer.errors import StudyError
from explorer.unet.mask import Feature, Mask
from studies.predicting.further import PREFIX, Further, further_of
from studies.predicting.parts import Arrays, Part, moments_of
from studies.queue import queue
from studies.settings import StudySettings
from studies.storage import tables
from studies.storage.command_lines import command_line
from studies.storage.store import Store, StudyRecord

if TYPE_CHECKING:
    from explorer.calibration.moments import Moments
    from explorer.calibration.step_errors import Design, StepErrors

SAME = ("model", "architecture", "scheduler", "steps", "guidance", "resolution", "dtype")
SAME_EXTRA = ("weights", "scheduler settings")


@dataclass(frozen=True)
class Calibration:
    """What exists of a study.

    errors: by mask, step, age and rule, by node, and the effect of each step (`explorer.calibration.step_errors`), in
    the order of `design`. moments: of the features, by step count (`explorer.calibration.moments`). plain: mean square
    distance of the final latents of fewer plain steps from those of the study's, by step count. seconds: what all of it
    cost. further: of other schedulers, spacings and networks, as far as they were measured.
    """

    design: Design
    errors: StepErrors
    moments: Mapping[int, Moments]
    plain: Mapping[int, float]
    seconds: float
    further: Further = field(default_factory=Further)

    def error_map(self, mask: str, rule: str = "copy") -> NDArray[np.float64]:
        """(steps, ages) of the guided prediction's relative error where one step inherits `mask`: a heat map, with NaN
        where the run has too few steps behind it. Its axes are `design.steps` and `design.ages`."""
        place = list(self.design.masks).index(mask), self.design.rules.index(rule)
        return np.sqrt(self.errors.masks[place[0], :, :, place[1]] / self.errors.noise[:, None])

    def node_map(self) -> NDArray[np.float64]:
        """(nodes, steps) of the relative error where one node alone is copied at age 2 (`design.nodes`)."""
        return np.sqrt(self.errors.nodes / self.errors.noise[None, :])

    def removal_map(self) -> NDArray[np.float64]:
        """(removals, steps) of the relative error where one unit is removed. Its axes are `design.removals` and
        `design.removal_steps`; empty in a calibration of an older version."""
        places = [self.design.steps.index(step) for step in self.design.removal_steps]
        return np.sqrt(self.errors.removals / self.errors.noise[None, places])

    def effects(self) -> NDArray[np.float64]:
        """(steps,): how far the final latents move for a unit of error in the guided prediction of a step."""
        return np.sqrt(self.errors.moved / self.errors.wrong)

    def relative_effects(self) -> NDArray[np.float64]:
        """(steps,): per cent of their size that the final latents move when a step's guided prediction is wrong by one
        per cent of its own."""
        return self.effects() * np.sqrt(self.errors.noise / self.errors.latents)


def identity(settings: StudySettings) -> dict[str, Any]:
    """What must be equal for a calibration to hold for a study."""
    data = settings.to_json()
    return {name: data[name] for name in SAME} | {name: settings.extra.get(name) for name in SAME_EXTRA}


@dataclass(frozen=True)
class CalibrationState:
    """How far a calibration is: parts stored, of how many, what they cost in seconds, and when the last one was stored
    (seconds since the epoch)."""

    done: int
    total: int
    seconds: float
    last: float

    @property
    def whole(self) -> bool:
        return 0 < self.total <= self.done


def standing(store: Store, study: StudyRecord) -> CalibrationState:
    """Read without the pieces themselves, which take megabytes. Raises StudyError for those of another model."""
    table = tables.calibrations
    mine = table.c.study_id == study.id
    every = store.read(sa.select(table.c.part, table.c.seconds, table.c.created).where(mine))
    facts = next((row.facts for row in store.read(sa.select(table.c.facts).where(mine).limit(1))), None)
    rows = [row for row in every if not row.part.startswith(PREFIX)]  # which a calibration is whole without
    if facts is not None:
        _check(store, study, facts)
    total = len(facts["parts"]) if facts else 0
    return CalibrationState(
        len(rows), total, sum(row.seconds for row in every), max((row.created for row in every), default=0.0)
    )


def parts(store: Store, study: StudyRecord, *, moments: bool = True) -> dict[str, Part]:
    """The stored pieces by name; moments: whether those of the features are read as well, which are the large ones.

    Raises:
        StudyError: for one that is damaged, or was made for another model, scheduler or step count.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_arrays

    table = tables.calibrations
    query = sa.select(table).where(table.c.study_id == study.id).order_by(table.c.id)
    if not moments:
        query = query.where(table.c.part.not_like("moments/%"), table.c.part.not_like(f"{PREFIX}%"))
    rows = store.read(query)
    made = {}
    for row in rows:
        try:
            if hashlib.sha256(row.data).hexdigest() != row.sha256:
                raise ValueError("its hash differs")
            arrays = load_arrays(row.data)
        except (SafetensorError, ValueError) as error:
            raise StudyError(
                f"the calibration of {study.name!r} is damaged ({row.part}: {error}); make a new one with "
                f"`{_again(store, study)}`."
            ) from error
        _check(store, study, row.facts)
        made[row.part] = Part(row.part, row.facts, arrays, row.seconds)
    return made


def _check(store: Store, study: StudyRecord, facts: Mapping[str, Any]) -> None:
    wanted = identity(study.settings)
    if facts.get("weights") is not None and facts.get("weights") == wanted["weights"]:
        wanted.pop("model")  # its folder may have been moved since
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise StudyError(
                f"the calibration of {study.name!r} was made for another {name} ({facts.get(name)!r}, and the study "
                f"has {value!r}); make a new one with `{_again(store, study)}`."
            )


def _again(store: Store, study: StudyRecord) -> str:
    return command_line("calibrate", "--study", study.name, "--again", storage=store.url)


def save_part(store: Store, study: StudyRecord, name: str, facts: dict[str, Any], arrays: Arrays, took: float) -> None:
    """Keep a piece; one that another process has stored meanwhile stays."""
    from safetensors.numpy import save as to_bytes

    data = to_bytes({key: np.ascontiguousarray(value) for key, value in arrays.items()})
    table = tables.calibrations
    row = {
        "study_id": study.id, "part": name, "facts": identity(study.settings) | facts, "data": data,
        "sha256": hashlib.sha256(data).hexdigest(), "seconds": took, "created": time.time(),
    }  # fmt: skip
    known = sa.select(table.c.id).where(table.c.study_id == study.id, table.c.part == name)

    def add(connection: Connection, _again: bool) -> None:
        queue.lock(connection, study)
        if connection.execute(known).first() is None:
            with suppress(sa.exc.IntegrityError), connection.begin_nested():  # another process was quicker
                connection.execute(sa.insert(table).values(row))

    store.transact(add)


def drop(store: Store, study: StudyRecord) -> None:
    """Forget the study's calibration."""
    mine = sa.delete(tables.calibrations).where(tables.calibrations.c.study_id == study.id)
    store.transact(lambda connection, _: connection.execute(mine))


def load(store: Store, study: StudyRecord, *, with_moments: bool = True) -> Calibration | None:
    """The study's calibration; None where there is none, or not all of it. with_moments: False leaves them out, for who
    only looks at the errors.

    Raises:
        StudyError: as `parts`.
    """
    so_far = standing(store, study)
    if not so_far.whole:
        return None
    found = parts(store, study, moments=with_moments)
    first = next((part for name, part in found.items() if name.startswith("errors/")), None)
    if first is None:
        return None
    names = [name for name in first.facts["parts"] if with_moments or not name.startswith("moments/")]
    if not found.keys() >= set(names):
        return None
    whole = _joined(first, {name: found[name] for name in names}, so_far.seconds)
    return replace(whole, further=further_of(found))


def removals_of_weights(store: Store, weights: str) -> dict[Feature, float]:
    """`removal_squares` from the newest calibration of a UNet with these weights; empty where there is none that is
    complete, readable and has removals."""
    from explorer.calibration.removal_errors import removal_squares

    for study in reversed(store.studies()):
        if study.settings.extra.get("weights") == weights:
            with suppress(StudyError):
                made = load(store, study, with_moments=False)
                if made is not None and (squares := removal_squares(made.design, made.errors)):
                    return squares
    return {}


def _joined(first: Part, wanted: Mapping[str, Part], seconds: float) -> Calibration:
    from explorer.calibration.step_errors import StepErrors

    moments: dict[int, list[Moments]] = {}
    errors: list[StepErrors] = []
    plain: dict[int, float] = {}
    for name, part in wanted.items():
        if name.startswith("moments/"):
            moments.setdefault(part.facts["moments"]["steps"], []).append(moments_of(part))
        elif name.startswith("errors/"):
            arrays = {key: value for key, value in part.arrays.items() if key != "pictures"}
            errors.append(StepErrors(**arrays, pictures=int(part.arrays["pictures"][0])))
        else:
            plain[part.facts["plain"]] = float(part.arrays["distance"][0])
    return Calibration(
        design=design_of(first.facts["design"]),
        errors=reduce(StepErrors.joined, errors),
        moments={steps: reduce(lambda one, other: one.joined(other), found) for steps, found in moments.items()},
        plain=plain,
        seconds=seconds,
    )


# Pieces as arrays and facts ------------------------------------------------------------------------------------------


def design_json(design: Design) -> dict[str, Any]:
    return {
        "evaluations": design.evaluations,
        "steps": list(design.steps),
        "masks": {name: dict(mask.entries) for name, mask in design.masks.items()},
        "nodes": [list(feature) for feature in design.nodes],
        "ages": list(design.ages),
        "rules": list(design.rules),
        "removals": [list(removal) for removal in design.removals],
    }


def design_of(data: Mapping[str, Any]) -> Design:
    from explorer.calibration.step_errors import Design

    return Design(
        evaluations=data["evaluations"],
        steps=tuple(data["steps"]),
        masks={name: Mask.of(entries) for name, entries in data["masks"].items()},
        nodes=tuple((name, form) for name, form in data["nodes"]),
        ages=tuple(data["ages"]),
        rules=tuple(data["rules"]),
        removals=tuple((unit, form) for unit, form in data.get("removals", ())),
    )
