"""What a certificate claims of a plan, and whether its intervals show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.wording import figures, interval, percent, pictures, speed_words

HOLDS, OPEN, FAILS = "holds", "not shown", "fails"
PICTURES, PAIRS, PROMPTS = "pictures", "pairs", "prompts"
"""What an undecided claim lacks: pictures, timed pairs, or different prompts."""
LEAST_PROMPTS = 8
"""Fewer prompts give no interval that can be relied on."""


@dataclass(frozen=True)
class QualityLimits:
    """What a plan may cost in quality. clip_loss: the fraction of the un-accelerated CLIP score that may be lost
    (0.01: 1%). drift: 1 - SSIM to the un-accelerated pictures, None for any."""

    clip_loss: float = 0.01
    drift: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.clip_loss < 1:
            raise StudyError(f"a CLIP loss is a share from 0% to under 100%, got {percent(self.clip_loss)}.")
        check_drift(self.drift)

    def words(self, clip: float) -> str:
        """The limits in words, for an un-accelerated CLIP score of `clip`."""
        drift = "" if self.drift is None else f" and a drift (1 - SSIM) of {figures(self.drift)}"
        return f"a CLIP loss of {percent(self.clip_loss)} of {clip:.1f} ({figures(self.clip_loss * clip)}){drift}"

    def to_json(self) -> dict[str, float | None]:
        return {"clip_loss": self.clip_loss, "drift": self.drift}


def check_drift(drift: float | None) -> None:
    """Raises StudyError for a number that is no drift; None is any drift."""
    if drift is not None and not 0 < drift <= 1:
        raise StudyError(f"a drift (1 - SSIM) is more than 0 and at most 1, got {figures(drift)}.")


@dataclass(frozen=True)
class PlainRival:
    """Plain steps of about the plan's cost: their name, and the plan's CLIP score and PSNR less theirs, paired."""

    name: str
    clip: Estimate
    psnr: Estimate
    loss: Estimate

    @property
    def beaten(self) -> bool:
        """Whether the plan is better in one, beyond doubt, and worse in none."""
        better = self.clip.low > 0 or self.psnr.low > 0
        return better and not (self.clip.high < 0 or self.psnr.high < 0)

    @property
    def wins(self) -> bool:
        """Whether the plain steps are better in one, beyond doubt, and worse in none."""
        better = self.clip.high < 0 or self.psnr.high < 0
        return better and not (self.clip.low > 0 or self.psnr.low > 0)


@dataclass(frozen=True)
class Verdict:
    """What a certificate says. verdict: `holds`, `not shown` (the intervals reach to both sides) or `fails`. undecided:
    what would be needed more of, where it is not shown."""

    verdict: str
    sentence: str
    limits: QualityLimits
    beats_fewer_steps: bool
    undecided: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "holds": self.verdict == HOLDS,
            "sentence": self.sentence,
            "limits": self.limits.to_json(),
            "beats_fewer_steps": self.beats_fewer_steps,
            "undecided": list(self.undecided),
        }


def judge(
    steps: int,
    clip: float,
    speedup: Estimate | None,
    change: Estimate,
    drift: Estimate,
    rivals: list[PlainRival],
    limits: QualityLimits,
    prompts: int,
) -> Verdict:
    """Whether a plan keeps what is claimed, in one sentence.

    The claim holds where the interval's worse end keeps the limits, and the whole speed-up lies above 1; it fails
    where the better end breaks one; between the two these pictures, or these timings, cannot tell. clip: the
    un-accelerated score. speedup: None where its timings are unsteady, which shows nothing. change: the plan's CLIP
    score less the un-accelerated one, paired. drift: 1 - SSIM, paired. prompts: how many different ones the pictures
    are of.
    """
    allowed = limits.clip_loss * clip
    most = limits.drift if limits.drift is not None else float("inf")
    few = prompts < LEAST_PROMPTS
    broken = not few and (-change.high > allowed or drift.low > most)
    kept = not few and -change.low <= allowed and drift.high <= most
    undecided: list[str] = []
    fast = speedup is not None and speedup.low > 1
    if broken or (speedup is not None and speedup.high <= 1):
        verdict = FAILS
    elif fast and kept:
        verdict = HOLDS
    else:
        verdict = OPEN
        undecided += [] if kept else [PROMPTS if few else PICTURES]
        undecided += [] if fast else [PAIRS]
    likely = -change.value <= allowed and drift.value <= most
    parts = [f"{_opening(verdict, undecided, likely, change.n, prompts, None if speedup is None else speedup.n)}: "]
    than = f"{steps} plain steps"
    speed = f"of unknown speed beside {than}" if speedup is None else speed_words(speedup, than)
    parts.append(f"{speed}, at {_loss(change)}")
    if limits.drift is not None:
        parts.append(f" and a drift of {interval(drift)}")
    parts.append(f", where {limits.words(clip)} {'is' if limits.drift is None else 'are'} allowed")
    if rivals:
        best = rivals[0]
        parts.append(f"; {best.name} of about the same cost {_rival_loss(best.loss)}")
        parts.append("" if best.beaten else f", so fewer steps {'do better' if best.wins else 'do as well'}")
    return Verdict(verdict, "".join(parts) + ".", limits, bool(rivals) and rivals[0].beaten, tuple(undecided))


def _opening(verdict: str, undecided: list[str], likely: bool, count: int, prompts: int, pairs: int | None) -> str:
    """The verdict, and where the claim is open why, and what would settle it. pairs: None: they are unsteady."""
    if verdict != OPEN:
        return "The claim holds" if verdict == HOLDS else "The claim does not hold"
    why, remedies = [], []
    if PROMPTS in undecided:
        why.append(pictures(count, prompts))
        remedies.append(f"give at least {LEAST_PROMPTS} --prompts")
    if PICTURES in undecided:
        why.append(pictures(count, prompts))
        more = "certify more pictures" if count <= prompts else "certify more pictures, of more --prompts"
        remedies.append(more if likely else "more pictures are likelier to refute it")
    if PAIRS in undecided and pairs is None:
        why.append("timings that other work on the machine disturbed")
        remedies.append("run the same command again when the machine is quiet")
    elif PAIRS in undecided:
        why.append(f"{pairs} timed pairs")
        remedies.append("the speed is undecided: give more --pairs, with --again")
    return f"The claim is not shown by {' and '.join(why)} ({'; '.join(remedies)})"


def _loss(change: Estimate) -> str:
    if change.low <= 0 <= change.high:
        return f"no measurable CLIP loss ({interval(change, sign=True)})"
    return f"a CLIP {'loss' if change.value < 0 else 'gain'} of {interval(turned(change, change.value < 0))}"


def _rival_loss(loss: Estimate) -> str:
    if loss.low <= 0 <= loss.high:
        return f"lose nothing measurable ({interval(turned(loss), sign=True)})"
    return f"{'lose' if loss.value > 0 else 'gain'} {interval(turned(loss, loss.value < 0))}"


def turned(estimate: Estimate, turn: bool = True) -> Estimate:
    """A loss as a gain, and the other way round."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n) if turn else estimate
