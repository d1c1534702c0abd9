"""Choosing a plan by a sentence: "at most 1% CLIP loss", "as fast as possible at psnr >= 30", "at least 2x"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.rows import TrialRow
from studies.settings import Objective
from studies.summary import LATENCIES

HIGHER = ("speedup", "clip", "psnr", "ssim", "is")
"""Metrics of which more is better, by the beginning of their names; of all others less is."""

EXAMPLES = ("at most 1% CLIP loss", "as fast as possible at psnr >= 30", "at least 2x, best fd")


def direction_of(metric: str, objectives: Sequence[Objective] = ()) -> str:
    """`minimize` or `maximize`: the study's own word for its objectives, otherwise what the metric means."""
    known = {objective.name: objective.direction for objective in objectives}
    return known.get(metric) or ("maximize" if metric.split("_")[0] in HIGHER else "minimize")


@dataclass(frozen=True)
class Limit:
    """A bound that a plan must keep. relative: `amount` is the loss allowed against the un-accelerated pipeline, as a
    fraction of its value; otherwise the metric's own value, which must be no worse than `amount`."""

    metric: str
    amount: float
    relative: bool = False

    def bound(self, control: TrialRow | None, direction: str) -> float:
        """The value that a plan may just have. Raises StudyError when there is nothing to hold a loss against."""
        if not self.relative:
            return self.amount
        if control is None or self.metric not in control.scores:
            raise StudyError(
                f"a loss of {self.metric} is held against the un-accelerated pipeline, which is not scored yet; run "
                "the search on, or give the metric's own value."
            )
        value = control.scores[self.metric].value
        return value + abs(value) * self.amount * (1 if direction == "minimize" else -1)


@dataclass(frozen=True)
class Wish:
    """Keep every limit, and be best in `goal`."""

    limits: tuple[Limit, ...]
    goal: str = "speedup"


@dataclass(frozen=True)
class Choice:
    """plan: the one that serves the wish best; None when none does. kept: how many do. nearest: when none does, the one
    that misses by least. sure: whether `plan` keeps every limit with the worse end of its 95% interval too. words: all
    of it in sentences."""

    plan: TrialRow | None
    kept: int
    nearest: TrialRow | None
    sure: bool
    words: str


def parse_wish(sentence: str, metrics: Sequence[str]) -> Wish:
    """A wish in words over the study's metrics, which may be called by their beginnings (`clip`, `fd`).

    Read are, in any order: `at most 1% CLIP loss`, `clip loss <= 0.01`, `psnr >= 30`, `psnr at least 30`,
    `fd at most 20`, `drift <= x` (LPIPS where it was measured, otherwise 1 - SSIM), `at least 2x`, `best clip`,
    `as fast as possible` (which is meant when no goal is said).

    Raises:
        StudyError: for words that are none of these, with those that are.
    """
    limits: list[Limit] = []
    goal: str | None = None
    for part in re.split(r"\s*(?:,|;|\band\b|\bwith\b)\s*|\s+at\s+(?=[a-z_]+\s*[<>=≤≥])", sentence.strip().lower()):
        if not part:
            continue
        if re.fullmatch(r"(?:as )?fast(?:est)?(?: as possible)?", part):
            goal = "speedup"
        elif found := re.fullmatch(r"(?:the )?best (\S+)", part):
            goal = _metric(found[1], metrics)
        else:
            limits.append(_limit(part, metrics))
    if not limits and goal is None:
        raise _unread(sentence, metrics)
    return Wish(tuple(limits), goal or "speedup")


_NUMBER = r"(-?\d+(?:\.\d+)?)"
_MOST, _LEAST = r"(?:at most|<=|≤|<|under|below|up to)", r"(?:at least|>=|≥|>|over|above)"
_LOSS = re.compile(rf"{_MOST} {_NUMBER}\s*(%)? (\S+) loss|(?:a )?(\S+) loss (?:of )?{_MOST} {_NUMBER}\s*(%)?")
_SPEED = re.compile(rf"{_LEAST} {_NUMBER}\s*(?:x|times)(?: as fast| faster| speed-?up)?")
_BOUND = re.compile(rf"(\S+?) ?({_MOST}|{_LEAST}) ?{_NUMBER}(?: ?db|x)?")


def _limit(part: str, metrics: Sequence[str]) -> Limit:
    part = " ".join(part.split())
    if found := _LOSS.fullmatch(part):
        number, percent, metric = (found[1], found[2], found[3]) if found[3] else (found[5], found[6], found[4])
        return Limit(_metric(metric, metrics), float(number) / (100 if percent else 1), relative=True)
    if found := _SPEED.fullmatch(part):
        return Limit("speedup", float(found[1]))
    if found := _BOUND.fullmatch(part):
        least = re.fullmatch(_LEAST, found[2]) is not None
        if found[1] == "drift" and not least and "ssim" in metrics and "lpips" not in {m[:5] for m in metrics}:
            return Limit("ssim", round(1 - float(found[3]), 12))
        metric = _metric(found[1], metrics)
        if least != (direction_of(metric) == "maximize"):
            better = "more" if direction_of(metric) == "maximize" else "less"
            raise StudyError(f"of {metric} {better} is better, so {part!r} asks for a bad picture; turn it round.")
        return Limit(metric, float(found[3]))
    raise _unread(part, metrics)


def _metric(word: str, metrics: Sequence[str]) -> str:
    """The study's metric that `word` means: by its name, its beginning, or as `drift` and `speed`."""
    word = word.replace("-", "").strip()
    names = {"speed": "speedup", "drift": "lpips"}
    wanted = names.get(word, word)
    for test in (lambda name: name == wanted, lambda name: name.split("_")[0] == wanted):
        found = [name for name in metrics if test(name.lower())]
        if found:
            return found[0]
    instead = "; for the drift from the un-accelerated pictures say psnr >= 30" if word == "drift" else ""
    raise StudyError(f"this study measures no {word}; it has {', '.join(metrics)}{instead}.")


def _unread(text: str, metrics: Sequence[str]) -> StudyError:
    return StudyError(
        f"{text!r} cannot be read; say it like “{EXAMPLES[0]}” or “{EXAMPLES[1]}”. "
        f"The metrics are {', '.join(metrics)}."
    )


def choose(rows: Sequence[TrialRow], wish: Wish, control: TrialRow | None, *, sure: bool = False) -> Choice:
    """The plan of `rows` that serves the wish best.

    control: the un-accelerated pipeline, which relative limits are held against. sure: a limit must also hold at the
    worse end of the plan's 95% interval. A plan that lacks a score is left out.

    Raises:
        StudyError: when a relative limit has nothing to be held against.
    """
    wanted = {limit.metric for limit in wish.limits} | {wish.goal, "speedup"}
    known = [row for row in rows if wanted <= row.scores.keys()]
    bounds = {limit: limit.bound(control, direction_of(limit.metric)) for limit in wish.limits}
    tests = [(limit.metric, bound, direction_of(limit.metric)) for limit, bound in bounds.items()]
    sign = 1 if direction_of(wish.goal) == "minimize" else -1

    def excess(row: TrialRow, certain: bool) -> float:
        """By how much the worst limit is missed, in units of its bound; 0 when all are kept."""
        worst = 0.0
        for metric, bound, direction in tests:
            worst = max(worst, _behind(row.scores[metric], bound, direction, certain) / (abs(bound) or 1.0))
        return worst

    def merit(row: TrialRow) -> tuple[float, float]:
        return sign * row.scores[wish.goal].value, -(row.speedup or 0.0)

    kept = [row for row in known if excess(row, sure) == 0.0]
    if kept:
        best = min(kept, key=merit)
        made = Choice(best, len(kept), None, excess(best, True) == 0.0, "")
    else:
        made = Choice(None, 0, min(known, key=lambda row: (excess(row, sure), merit(row)), default=None), False, "")
    return replace(made, words=_words(made, wish, bounds, len(known)))


def _behind(score: Estimate, bound: float, direction: str, certain: bool) -> float:
    if direction == "minimize":
        return (score.high if certain else score.value) - bound
    return bound - (score.low if certain else score.value)


def _words(choice: Choice, wish: Wish, bounds: dict[Limit, float], of: int) -> str:
    limits = " and ".join(
        f"{limit.metric} {'≤' if direction_of(limit.metric) == 'minimize' else '≥'} {bound:.4g}"
        for limit, bound in bounds.items()
    )
    goal = "fastest" if wish.goal in LATENCIES else f"best in {wish.goal}"
    if choice.plan is None:
        if choice.nearest is None:
            needed = sorted({wish.goal, *(limit.metric for limit in bounds)})
            return f"No plan has the scores that this needs ({', '.join(needed)})."
        scores = ", ".join(f"{limit.metric} {choice.nearest.scores[limit.metric].value:.4g}" for limit in bounds)
        return f"None of {of:,} plans keeps {limits}. The nearest is trial {choice.nearest.number} with {scores}."
    row = choice.plan
    scores = ", ".join(
        f"{metric} {row.scores[metric].value:.4g} ({row.scores[metric].low:.4g} to {row.scores[metric].high:.4g})"
        for metric in dict.fromkeys([*(limit.metric for limit in bounds), wish.goal])
        if metric != "speedup"
    )
    among = f"{choice.kept:,} of {of:,} plans keep {limits}; the {goal}" if limits else f"The {goal} of {of:,} plans"
    doubt = (
        ""
        if choice.sure or not bounds
        else " Its 95% interval reaches beyond the limit: certify it before you rely on it."
    )
    return f"{among} is trial {row.number}: {row.speedup:.2f}x{f', {scores}' if scores else ''}.{doubt}"
