"""Which network runs when: a student of the study alone, or networks that follow each other at switches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError
from explorer.plans.cast import TEACHER, Cast
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import BASE, CASTS, strategy
from explorer.unet.mask import Mask, without
from search_spaces.axes.base import UNKNOWN, Choice, Draft, PlanRun, Study
from search_spaces.schedule_genome import SWITCHES, in_order, on_grid
from search_spaces.space import Parameters, Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

PIECES = 3
"""Most networks that follow each other in a run. One may come twice."""
Students = Mapping[str, Any]
"""Of a study by name; each has `removed`, the mask of what it lacks."""


def cast_of(names: Sequence[str], switches: Sequence[float]) -> Cast | None:
    """The cast of networks that follow each other at `switches`; None for the teacher alone."""
    entries: list[tuple[str, float | None]] = []
    for name, until in zip(names, (*switches, None), strict=True):
        if entries and entries[-1][0] == name:
            entries.pop()
        entries.append((name, until))
    return None if entries == [(TEACHER, None)] else Cast(tuple(entries))


def pieces_of(cast: Cast | None) -> tuple[list[str], list[float]]:
    """The inverse of `cast_of`."""
    entries: Sequence[tuple[str, float | None]] = [(TEACHER, None)] if cast is None else cast.entries
    return [name for name, _ in entries], [until for _, until in entries if until is not None]


def fitting(cast: Cast | None, masks: Sequence[Mask], students: Students, architecture: Any) -> Cast | None:
    """The cast with the teacher in place of each student that cannot run `masks`."""
    names, switches = pieces_of(cast)
    unfit = {name for name in {*names} - {TEACHER} if not _fits(students[name].removed, masks, architecture)}
    return cast_of([TEACHER if name in unfit else name for name in names], switches) if unfit else cast


def _fits(removed: Mask, masks: Sequence[Mask], architecture: Any) -> bool:
    try:
        for mask in masks:
            without(mask, removed).check(architecture)
    except PlanError:  # such as an output that ignores the sample
        return False
    return True


def move_cast(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """Another network in one piece of the run, a switch one place on, a piece more or a piece less."""
    names, switches = pieces_of(plan.cast)
    percents = [round(switch * 100) for switch in switches]
    place = random.randrange(len(names))
    others = [each for each in (TEACHER, *setting.values["cast"]) if each != names[place]]
    change = random.choice(("network", "switch", "more", "less"))
    if change == "network":
        names[place] = random.choice(others)
    elif change == "switch" and percents:
        percents[random.randrange(len(percents))] += random.choice((-1, 1)) * SWITCHES.step
    elif change == "more" and len(names) < PIECES:
        names.insert(place + random.randrange(2), random.choice(others))
        percents.append(random.choice([each for each in SWITCHES if each not in percents]))
    elif change == "less" and percents:
        del names[place]
        del percents[min(place, len(percents) - 1)]
    else:
        return None
    if len(names) > PIECES or not {*percents} <= {*SWITCHES} or len({*percents}) < len(percents):
        return None
    return replace(plan, cast=cast_of(names, in_order(percents)))


class Networks(Choice):
    """A smaller network is a rival of inheritance, and combines with it: early steps need less of one.

    What a space must know of a student is what it lacks: where a mask leaves it no path from its input to its output,
    the teacher runs.
    """

    name, part, column = "cast", "networks", "networks"
    after = ("masks",)
    option = "students"
    own = TEACHER
    moves = (move_cast,)
    lengths = (0.3,)
    title = "Network"
    help = "Which networks the plan runs: the model's own UNet (teacher), or students."
    alone = "a smaller network alone"
    in_names = "A cast comes first: base@0.4+ runs the student base until 40% of the run."

    @property
    def students(self) -> Students:
        return self.setting.values.get(self.name, {})

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        names = (TEACHER, *self.students)
        count = trial.suggest_int("cast.pieces", 1, PIECES)
        drawn = [trial.suggest_categorical(f"cast.network{k}", names) for k in range(1, count + 1)]
        percents = [
            trial.suggest_int(f"cast.switch{k}", SWITCHES[0], SWITCHES[-1], step=SWITCHES.step) for k in range(1, count)
        ]
        cast = cast_of(drawn, in_order(percents))
        draft.fields[self.name] = fitting(cast, draft.fields["masks"], self.students, self.setting.architecture)

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        """As the cast is written, where it is on the grid; otherwise by what it does."""
        runs = [(name, len(list(same))) for name, same in groupby(plan.networks(evaluations))]
        names = [name for name, _ in runs]
        if len(names) > PIECES or not {*names} <= {TEACHER, *self.students}:
            return
        written, switches = pieces_of(plan.cast)
        own = [on_grid(switch, 100, SWITCHES) for switch in switches]
        if written == names and None not in own:
            yield _parameters(names, own)
        found: list[int | None] = []
        at = 0
        for _, length in runs[:-1]:
            at += length
            fits = (s for s in SWITCHES if at - 1 < s / 100 * evaluations - 1e-9 <= at and s not in found)
            found.append(next(fits, None))
        if None not in found:
            yield _parameters(names, found)

    def repaired(self, plan: InheritancePlan) -> InheritancePlan:
        cast = fitting(plan.cast, plan.masks, self.students, self.setting.architecture)
        return plan if cast == plan.cast else replace(plan, cast=cast)

    def baselines(self) -> Iterator[InheritancePlan]:
        """Each student alone; with the student `base` the switching of A-SDM's Table III."""
        architecture, steps = self.setting.architecture, self.setting.steps
        for name in self.students:
            yield self.control(strategy(f"plain@{steps}", unet=architecture), name)
        if BASE in self.students:
            for each in CASTS:
                yield strategy(each, steps=steps, unet=architecture)

    @property
    def holds(self) -> str:
        return f" by up to {PIECES} of the networks {', '.join((TEACHER, *self.students))} in turn"

    @classmethod
    def of(cls, plan: InheritancePlan) -> Any:
        return plan.cast

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        """The share of the run that students compute."""
        networks = run.plan.networks(len(run.choices))
        return [sum(name != TEACHER for name in networks) / len(networks)]

    @classmethod
    def known(cls, names: Sequence[str], pipe: Any, steps: int) -> dict[str, Any]:
        """Each student, read from its folder (`explorer.networks.found.FoundStudent`)."""
        given = {cls.named(each): each.partition("=")[2] or None for each in names if cls.named(each) != cls.own}
        if not given:
            return {}
        from explorer.networks.found import find_student  # late, as it imports torch

        return {name: find_student(name, folder, pipe) for name, folder in given.items()}

    @classmethod
    def kept(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            cls.option: [cls.own, *(f"{name}={found.folder}" for name, found in values.items())],
            "student weights": {name: found.fingerprint for name, found in values.items()},
        }

    @classmethod
    def named(cls, text: str) -> str:
        """The student alone: its weights tell it apart, wherever its folder is."""
        return text.partition("=")[0]

    @classmethod
    def control(cls, plan: InheritancePlan, value: str) -> InheritancePlan:
        return plan.with_cast(value)

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> tuple[str, ...]:
        cast = document.get("cast")
        try:
            return (TEACHER,) if cast is None else Cast.parse(cast).names
        except PlanError:
            return (UNKNOWN,)

    @classmethod
    def differs(cls, facts: Any) -> bool:
        return tuple(facts.networks) != (TEACHER,)

    @classmethod
    def label(cls, facts: Any, study: Study) -> str:
        return ", ".join(facts.networks)

    @classmethod
    def shown(cls, value: Any) -> str:
        return str(value)

    @classmethod
    def own_shown(cls, study: Study) -> str:
        return TEACHER

    @classmethod
    def applied(cls, value: Any) -> str:
        return f"It runs `{value}`; the folder holds its students."

    @classmethod
    def suffix(cls, value: Any) -> str:
        """Nothing: the cast comes first in a name."""
        return ""


def _parameters(names: Sequence[str], switches: Sequence[int | None]) -> Parameters:
    return {
        "cast.pieces": len(names),
        **{f"cast.network{k}": name for k, name in enumerate(names, 1)},
        **{f"cast.switch{k}": switch for k, switch in enumerate(switches, 1)},
    }
