"""Schedules as a trial's suggestions, of one of three families.

    periodic   period, offset, full tail: Pn and its relatives
    curve      DeepCache's: extract steps that crowd around a centre, with a power and a full tail
    segments   the run written out: two to six pieces, each with a period and a mask of its own, or (`steps`) a choice
               for every step among extracting and the masks
    every      a mask at every evaluation and no extract step, for masks that only remove nodes; in a space that has
               their forms

Periodic, curve and every pass from one mask to the next at switches. Fractions are whole percents and powers whole
tenths, so that values survive a storage exactly and a sampler knows their order.

Repair. An offset is taken modulo the period; switches are put in order, and of two equal ones the second moves up by
one place (at the end: the first moves down); a piece's end is scaled to the run, ends are put in order and empty
pieces dropped; a choice among masks is taken modulo their number; the first step extracts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Curve, Every, Periodic, Schedule, Segments
from explorer.unet.mask import REMOVALS, Mask
from search_spaces.pieces import NEVER, PIECE_PERIODS, parse_pieces, piece
from search_spaces.space import Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

FAMILIES = ("periodic", "curve", "segments")
EVERY = "every"
MOST_MASKS = 3
PERIODS = range(2, 21)
TAILS = range(0, 41, 10)
SWITCHES = range(5, 96, 5)
CENTRES = range(0, 101, 10)
POWERS = (10, 12, 14, 16, 20)
PIECES = range(2, 7)
CHOICES = tuple(range(MOST_MASKS + 1))

Guess = tuple[tuple[Mask, ...], dict[str, Any]]


def schedules_of(setting: Setting) -> ScheduleGenome:
    """The schedules of a study's plans: with those without an extract step where its masks may remove nodes."""
    removes = any(form in REMOVALS for form in setting.forms)
    return ScheduleGenome(setting.evaluations, (*FAMILIES, EVERY) if removes else FAMILIES)


class ScheduleGenome:
    """Schedules for a study of `evaluations` UNet evaluations at its full number of steps."""

    def __init__(self, evaluations: int, families: Sequence[str] = FAMILIES) -> None:
        self.evaluations = evaluations
        self.families = tuple(families)
        self.extracts = range(2, max(3, evaluations // 2 + 1))

    # A trial's values -> a schedule ----------------------------------------------------------------------------------

    def suggest(self, trial: BaseTrial, masks: int, evaluations: int) -> Schedule:
        """A schedule over `masks` masks for a run of `evaluations`."""
        family = self.families[0]
        if len(self.families) > 1:
            family = trial.suggest_categorical("schedule.family", self.families)
        if family == "segments":
            return Segments.of(self._choices(trial, masks, evaluations))
        if family == EVERY:
            return Every(_switches(trial, masks))
        if family == "periodic":
            period = trial.suggest_int("schedule.period", PERIODS[0], PERIODS[-1], log=True)
            offset = trial.suggest_int("schedule.offset", 0, PERIODS[-1] - 1) % period
            return Periodic(period, offset, _percent(trial, "tail", TAILS) / 100, _switches(trial, masks))
        extracts = trial.suggest_int("schedule.extracts", self.extracts[0], self.extracts[-1], log=True)
        centre = _percent(trial, "centre", CENTRES) / 100
        power = trial.suggest_categorical("schedule.power", POWERS) / 10
        return Curve(extracts, centre, power, _percent(trial, "tail", TAILS) / 100, _switches(trial, masks))

    def _choices(self, trial: BaseTrial, masks: int, evaluations: int) -> list[int]:
        count = trial.suggest_categorical("schedule.pieces", (*PIECES, "steps"))
        if not isinstance(count, int):
            drawn = [trial.suggest_categorical(f"schedule.step{i}", CHOICES) for i in range(1, evaluations)]
            return [0, *(_modulo(choice, masks) for choice in drawn)]
        last = max(1, self.evaluations - 1)
        ends = [trial.suggest_int(f"schedule.piece{k}.end", 1, last) for k in range(1, count)]
        bounds = [0, *sorted(end * evaluations // self.evaluations for end in ends), evaluations]
        choices: list[int] = []
        for k in range(1, count + 1):
            least = NEVER if k > 1 else 1
            period = trial.suggest_int(f"schedule.piece{k}.period", least, PIECE_PERIODS[-1])
            mask = trial.suggest_categorical(f"schedule.piece{k}.mask", CHOICES[1:]) if masks > 1 else 1
            choices += piece(bounds[k] - bounds[k - 1], period, _modulo(mask, masks))
        return [0, *choices[1:]]

    # A plan -> the values that give its schedule ---------------------------------------------------------------------

    def guesses(self, plan: InheritancePlan, evaluations: int, most_masks: int = MOST_MASKS) -> Iterator[Guess]:
        """Masks and values that may give the plan's schedule over them, what tells most first; the caller proves them.

        A schedule off the grid is tried by what it does: as a period, as pieces, and step by step.
        """
        for masks, guess in self._by_form(plan, evaluations):
            if len(masks) <= most_masks and guess.get("schedule.family", "periodic") in self.families:
                if len(self.families) == 1:
                    guess.pop("schedule.family", None)
                yield masks, guess

    def _by_form(self, plan: InheritancePlan, evaluations: int) -> Iterator[Guess]:
        schedule = plan.schedule
        choices, masks = written_out(plan, evaluations)
        if not masks:
            yield (Mask(),), _periodic(2, 0, 0)
            always = [(1, 1, 1), (evaluations - 1, 1, 1)]
            yield (Mask(),), self._pieces(always, 1, evaluations)  # for a space whose masks are never empty
            return
        if not isinstance(schedule, Segments):
            own = self._own_values(schedule)
            if own is not None:
                yield plan.masks[: len(schedule.switches) + 1], own
        switches = _switches_between(choices, evaluations)
        pattern = _patterns(evaluations).get(tuple(choice == 0 for choice in choices))
        if pattern is not None and switches is not None:
            yield masks, _periodic(*pattern) | switches
        if "segments" not in self.families:
            return
        pieces = parse_pieces(choices)
        if pieces is not None and len(pieces) in PIECES:
            yield masks, self._pieces(pieces, len(masks), evaluations)
        steps = {f"schedule.step{i}": choice for i, choice in enumerate(choices) if i}
        yield masks, {"schedule.family": "segments", "schedule.pieces": "steps", **steps}

    def _own_values(self, schedule: Periodic | Curve | Every) -> dict[str, Any] | None:
        switches = [on_grid(switch, 100, SWITCHES) for switch in schedule.switches]
        named = {f"schedule.switch{k}": value for k, value in enumerate(switches, 1)}
        if isinstance(schedule, Every):
            return None if None in switches else {"schedule.family": EVERY, **named}
        tail = on_grid(schedule.tail, 100, TAILS)
        if tail is None or None in switches:
            return None
        if isinstance(schedule, Periodic):
            return _periodic(schedule.period, schedule.offset, tail) | named if schedule.period in PERIODS else None
        centre, power = on_grid(schedule.centre, 100, CENTRES), on_grid(schedule.power, 10, POWERS)
        if schedule.extracts not in self.extracts or centre is None or power is None:
            return None
        return {
            "schedule.family": "curve", "schedule.extracts": schedule.extracts, "schedule.centre": centre,
            "schedule.power": power, "schedule.tail": tail, **named,
        }  # fmt: skip

    def _pieces(self, pieces: list[tuple[int, int, int]], masks: int, evaluations: int) -> dict[str, Any]:
        guess: dict[str, Any] = {"schedule.family": "segments", "schedule.pieces": len(pieces)}
        at = 0
        for k, (length, period, mask) in enumerate(pieces, 1):
            at += length
            if k < len(pieces):
                # a run of more evaluations than the study's, by another scheduler, rounds up to beyond the last
                guess[f"schedule.piece{k}.end"] = min(
                    max(1, self.evaluations - 1), -(-at * self.evaluations // evaluations)
                )
            guess[f"schedule.piece{k}.period"] = period
            if masks > 1:
                guess[f"schedule.piece{k}.mask"] = mask
        return guess


def written_out(plan: InheritancePlan, evaluations: int) -> tuple[list[int], tuple[Mask, ...]]:
    """What the plan does at each evaluation, and its masks without unread entries, numbered by first use."""
    order: dict[Mask, int] = {Mask(): 0}
    masks = [plan.mask(choice).effective(plan.architecture) for choice in plan.resolve(evaluations)]
    choices = [order.setdefault(mask, len(order)) for mask in masks]
    return choices, tuple(order)[1:]


def _modulo(choice: int, masks: int) -> int:
    return (choice - 1) % masks + 1 if choice else 0


def _percent(trial: BaseTrial, name: str, grid: range) -> int:
    return trial.suggest_int(f"schedule.{name}", grid[0], grid[-1], step=grid.step)


def _switches(trial: BaseTrial, masks: int) -> tuple[float, ...]:
    return in_order(_percent(trial, f"switch{k}", SWITCHES) for k in range(1, masks))


def in_order(percents: Iterable[int]) -> tuple[float, ...]:
    """At most two of `SWITCHES` as fractions that ascend."""
    drawn = sorted(percents)
    if len(set(drawn)) < len(drawn):
        drawn = [drawn[0], drawn[0] + SWITCHES.step] if drawn[0] < SWITCHES[-1] else [SWITCHES[-2], SWITCHES[-1]]
    return tuple(percent / 100 for percent in drawn)


def _periodic(period: int, offset: int, tail: int) -> dict[str, Any]:
    return {
        "schedule.family": "periodic", "schedule.period": period, "schedule.offset": offset, "schedule.tail": tail,
    }  # fmt: skip


def on_grid(value: float, scale: int, grid: Sequence[int]) -> int | None:
    """The number of the grid that gives `value` over `scale` exactly; None where there is none."""
    number = round(value * scale)
    return number if number in grid and number / scale == value else None


def _switches_between(choices: list[int], evaluations: int) -> dict[str, int] | None:
    """Switches that part the masks of `choices`, when each has one stretch of the run and a switch fits between."""
    inherited = [(i, choice) for i, choice in enumerate(choices) if choice]
    guess: dict[str, int] = {}
    for (before, mask), (after, following) in pairwise(inherited):
        if following == mask:
            continue
        fits = [s for s in SWITCHES if before < s / 100 * evaluations <= after and s not in guess.values()]
        if following != mask + 1 or not fits:
            return None
        guess[f"schedule.switch{mask}"] = fits[0]
    return guess


@lru_cache(maxsize=32)
def _patterns(evaluations: int) -> dict[tuple[bool, ...], tuple[int, int, int]]:
    """Which evaluations extract -> the plainest period, offset and tail (percent) that give it."""
    patterns: dict[tuple[bool, ...], tuple[int, int, int]] = {}
    for tail in TAILS:
        for period in PERIODS:
            for offset in range(period):
                choices = Periodic(period, offset, tail / 100).resolve(evaluations)
                patterns.setdefault(tuple(choice == 0 for choice in choices), (period, offset, tail))
    return patterns
