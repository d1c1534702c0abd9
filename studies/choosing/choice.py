"""Choosing a plan by limits on its metrics.

What keeps a limit is decided here alone, for `explorer show`, the dashboard and `explorer autotune`. Drift is 1 - SSIM
to the un-accelerated pictures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.metrics import SPEEDS, direction_of
from studies.results.rows import TrialRow
from studies.storage.judged import judged
from studies.wording import ratio

Paired = Callable[[TrialRow, str], Estimate | None]
"""A plan's value of a metric less the un-accelerated one, paired; None where the pictures' values were not kept."""


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
        worst = judged(self.limit.metric, score)
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


@dataclass(frozen=True)
class AskedLimits:
    """Limits as options give them, in which a metric may be named by its beginning (`clip`, `fd`).

    Attributes:
        clip_loss: Fraction of the un-accelerated CLIP score that may be lost.
        drift: The most 1 - SSIM to the un-accelerated pictures.
        least: Metric and the least it may be, for metrics of which more is better.
        most: Metric and the most it may be, for metrics of which less is better.
    """

    clip_loss: float | None = None
    drift: float | None = None
    least: tuple[tuple[str, float], ...] = ()
    most: tuple[tuple[str, float], ...] = ()

    def __bool__(self) -> bool:
        return self != AskedLimits()

    def wish(self, metrics: Sequence[str]) -> Wish:
        """As fast as possible within the limits. Raises StudyError for a metric that the study lacks, or the wrong
        side of one."""
        limits = [] if self.clip_loss is None else [Limit(known_metric("clip", metrics), self.clip_loss, relative=True)]
        if self.drift is not None:
            known_metric("ssim", metrics)
            limits.append(Limit.of_drift(self.drift))
        for option, better, bounds in (("--min", "maximize", self.least), ("--max", "minimize", self.most)):
            for word, amount in bounds:
                metric = known_metric(word, metrics)
                if direction_of(metric) != better:
                    side, other = ("less", "--max") if option == "--min" else ("more", "--min")
                    raise StudyError(
                        f"of {word} {side} is better, so {option} {word}={amount:g} bounds the wrong side; use "
                        f"{other} {word}={amount:g}."
                    )
                limits.append(Limit(metric, amount))
        return Wish(tuple(limits))


def parse_bound(option: str, text: str) -> tuple[str, float]:
    """METRIC=X as an option gives it. Raises StudyError for other texts."""
    found = re.fullmatch(r"\s*([\w.-]+)\s*=(.*)", text)
    try:
        amount = math.nan if found is None else float(found[2])
    except ValueError:
        amount = math.nan
    if found is None or not math.isfinite(amount):
        raise StudyError(f"{option} must be METRIC=X, such as psnr=30 or fd=20, got {text!r}.")
    return found[1].lower(), amount


def known_metric(word: str, metrics: Sequence[str]) -> str:
    """The study's metric of that name or beginning. Raises StudyError with those that it has."""
    for test in (lambda name: name == word, lambda name: name.split("_")[0] == word):
        found = [name for name in metrics if test(name.lower())]
        if found:
            return found[0]
    instead = "; for 1 - SSIM use --max-drift" if word == "drift" else ""
    raise StudyError(f"this study measures no {word}; it has {', '.join(metrics)}{instead}.")


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

    A speed-up counts with the worse end of its interval, as a goal and in a limit (`studies.storage.judged`). control:
    the un-accelerated pipeline, which relative limits are held against. sure: a limit must also hold at the
    worse end of the 95% interval: of the paired difference to the control where `paired` gives it
    (`studies.choosing.paired.against`), otherwise of the plan's own score. A plan that lacks a score is left out.

    Raises:
        StudyError: when a relative limit has nothing to be held against.
    """
    wanted = {limit.metric for limit in wish.limits} | {wish.goal, "speedup"}
    known = [row for row in rows if wanted <= row.scores.keys()]
    bounds = bounds_of(wish, control)
    sign = 1 if direction_of(wish.goal) == "minimize" else -1

    def merit(row: TrialRow) -> tuple[float, float]:
        return sign * judged(wish.goal, row.scores[wish.goal]), -row.sure_speedup

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
    goal = "fastest" if wish.goal in SPEEDS else f"best in {wish.goal}"
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
    speed = ratio(row.scores["speedup"])
    return f"{among} is trial {row.number}: {speed}{f', {scores}' if scores else ''}.{doubt}"
