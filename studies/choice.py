"""Choosing a plan by a sentence: "at most 1% CLIP loss", "as fast as possible at psnr >= 30", "at least 2x".

What keeps a limit is decided here alone, for sentences and for `explorer tune`. Drift is 1 - SSIM to the un-accelerated
pictures; LPIPS is meant where it is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.rows import TrialRow
from studies.settings import Objective
from studies.summary import LATENCIES
from studies.wording import times

Paired = Callable[[TrialRow, str], Estimate | None]
"""A plan's value of a metric less the un-accelerated one, paired; None where the pictures' values were not kept."""

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
    fraction of its value; otherwise the metric's own value, which must be no worse than `amount`. as_drift: whether
    people know this limit of SSIM as a drift."""

    metric: str
    amount: float
    relative: bool = False
    as_drift: bool = field(default=False, compare=False)

    @classmethod
    def of_drift(cls, most: float) -> Limit:
        """A drift, 1 - SSIM, of at most `most`."""
        return cls("ssim", round(1 - most, 12), as_drift=True)

    def bound(self, control: TrialRow | None, direction: str) -> Bound:
        """What a plan may just have. Raises StudyError when there is nothing to hold a loss against."""
        if not self.relative:
            return Bound(self, self.amount, direction)
        if control is None or self.metric not in control.scores:
            raise StudyError(
                f"a loss of {self.metric} is held against the un-accelerated pipeline, which is not scored yet; run "
                "the search on, or give the metric's own value."
            )
        value = control.scores[self.metric].value
        allowed = abs(value) * self.amount * (1 if direction == "minimize" else -1)
        return Bound(self, value + allowed, direction, control)


@dataclass(frozen=True)
class Bound:
    """A limit of one study. value: of the metric, which a plan may just have. control: what a relative limit is held
    against."""

    limit: Limit
    value: float
    direction: str
    control: TrialRow | None = None

    def behind(self, row: TrialRow, certain: bool = False, paired: Paired | None = None) -> float:
        """By how much the plan misses the limit, in units of its bound; 0 or less where it keeps it. certain: at the
        worse end of the interval: of the difference to the un-accelerated pipeline, where that can be had."""
        score = row.scores[self.limit.metric]
        worst = score.value
        if certain:
            difference = paired(row, self.limit.metric) if paired and self.control else None
            if difference is not None and self.control is not None:
                base = self.control.scores[self.limit.metric].value
                score = Estimate(base + difference.value, base + difference.low, base + difference.high, difference.n)
            worst = score.high if self.direction == "minimize" else score.low
        missed = worst - self.value if self.direction == "minimize" else self.value - worst
        return missed / (abs(self.value) or 1.0)

    @property
    def words(self) -> str:
        if self.limit.as_drift:
            return f"drift (1 - SSIM) ≤ {1 - self.value:.4g}"
        return f"{self.limit.metric} {'≤' if self.direction == 'minimize' else '≥'} {self.value:.4g}"


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
    `fd at most 20`, `drift <= x` (1 - SSIM), `at least 2x`, `best clip`,
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
        metric = _metric(found[1], metrics)
        if found[1] == "drift" and not least:
            return Limit.of_drift(float(found[3]))
        if found[1] == "drift" or least != (direction_of(metric) == "maximize"):
            better = "less" if found[1] == "drift" or direction_of(metric) == "minimize" else "more"
            raise StudyError(f"of {found[1]} {better} is better, so {part!r} asks for a bad picture; turn it round.")
        return Limit(metric, float(found[3]))
    raise _unread(part, metrics)


def _metric(word: str, metrics: Sequence[str]) -> str:
    """The study's metric that `word` means: by its name, its beginning, or as `drift` and `speed`."""
    word = word.replace("-", "").strip()
    names = {"speed": "speedup", "drift": "ssim"}
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


def bounds_of(wish: Wish, control: TrialRow | None) -> list[Bound]:
    """The wish's limits in a study. Raises StudyError when a relative limit has nothing to be held against."""
    return [limit.bound(control, direction_of(limit.metric)) for limit in wish.limits]


def keeps(row: TrialRow, bounds: Sequence[Bound], certain: bool = False, paired: Paired | None = None) -> bool:
    """Whether the plan keeps every limit; one that lacks a score does not."""
    return _excess(row, bounds, certain, paired) <= 0


def _excess(row: TrialRow, bounds: Sequence[Bound], certain: bool, paired: Paired | None) -> float:
    """By how much the worst limit is missed."""
    if any(bound.limit.metric not in row.scores for bound in bounds):
        return float("inf")
    return max((bound.behind(row, certain, paired) for bound in bounds), default=0.0)


def choose(
    rows: Sequence[TrialRow],
    wish: Wish,
    control: TrialRow | None,
    *,
    sure: bool = False,
    paired: Paired | None = None,
) -> Choice:
    """The plan of `rows` that serves the wish best.

    control: the un-accelerated pipeline, which relative limits are held against. sure: a limit must also hold at the
    worse end of the 95% interval: of the paired difference to the control where `paired` gives it
    (`studies.paired.against`), otherwise of the plan's own score. A plan that lacks a score is left out.

    Raises:
        StudyError: when a relative limit has nothing to be held against.
    """
    wanted = {limit.metric for limit in wish.limits} | {wish.goal, "speedup"}
    known = [row for row in rows if wanted <= row.scores.keys()]
    bounds = bounds_of(wish, control)
    sign = 1 if direction_of(wish.goal) == "minimize" else -1

    def merit(row: TrialRow) -> tuple[float, float]:
        return sign * row.scores[wish.goal].value, -(row.speedup or 0.0)

    kept = [row for row in known if keeps(row, bounds)]
    if sure:
        kept = [row for row in kept if keeps(row, bounds, True, paired)]
    if kept:
        best = min(kept, key=merit)
        made = Choice(best, len(kept), None, sure or keeps(best, bounds, True, paired), "")
    else:
        nearest = min(known, key=lambda row: (_excess(row, bounds, sure, paired), merit(row)), default=None)
        made = Choice(None, 0, nearest, False, "")
    return replace(made, words=_words(made, wish, bounds, len(known)))


def _words(choice: Choice, wish: Wish, bounds: Sequence[Bound], of: int) -> str:
    limits = " and ".join(bound.words for bound in bounds)
    metrics = list(dict.fromkeys(bound.limit.metric for bound in bounds))
    goal = "fastest" if wish.goal in LATENCIES else f"best in {wish.goal}"
    if choice.plan is None:
        if choice.nearest is None:
            return f"No plan has the scores that this needs ({', '.join(sorted({wish.goal, *metrics}))})."
        scores = ", ".join(f"{metric} {choice.nearest.scores[metric].value:.4g}" for metric in metrics)
        return f"None of {of:,} plans keeps {limits}. The nearest is trial {choice.nearest.number} with {scores}."
    row = choice.plan
    scores = ", ".join(
        f"{metric} {row.scores[metric].value:.4g} ({row.scores[metric].low:.4g} to {row.scores[metric].high:.4g})"
        for metric in dict.fromkeys([*metrics, wish.goal])
        if metric != "speedup"
    )
    among = f"{choice.kept:,} of {of:,} plans keep {limits}; the {goal}" if limits else f"The {goal} of {of:,} plans"
    doubt = (
        ""
        if choice.sure or not bounds
        else " Its 95% interval reaches beyond the limit: certify it before you rely on it."
    )
    speed = times(row.speedup or 0.0)
    return f"{among} is trial {row.number}: {speed}{f', {scores}' if scores else ''}.{doubt}"
