"""A certificate as a document: what it claims, where it lies, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.errors import PlanError, StudyError
from explorer.estimate import Estimate
from explorer.plan import InheritancePlan
from studies.store import Store, StudyRecord

CERTIFICATE = "certificate.json"
PAGE = "certificate.html"
FOLDER = "explorer-certificates"
KEPT = ".certificate"
"""The folder beside a certificate with what it is computed from."""
KIND = "inheritance-certificate"
SCHEMA = 1

HOLDS, OPEN, FAILS = "holds", "not shown", "fails"
FULL, PLAN, SAME_COST, ABOVE = "full", "plan", "same cost", "one above"
"""The runs of a certificate: the un-accelerated pipeline, the plan, and plain steps of its cost and of one more."""


def certificate_folder(store: Store, study: StudyRecord, key: str) -> Path:
    """Where the certificate of a study's plan lies: beside the storage, as its pictures do."""
    return store.folder / FOLDER / study.name / key


def read_certificate(folder: Path) -> dict[str, Any] | None:
    """The certificate in `folder`; None when there is none. Raises StudyError for a file that is none or newer."""
    path = folder / CERTIFICATE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} cannot be read ({error}); delete it, or certify again.") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise StudyError(f"{path} is not a certificate; delete it, or certify again.")
    if document.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has schema {document.get('schema')!r} and this version reads {SCHEMA}; upgrade the explorer, or "
            "certify again."
        )
    return document


def certificate_of(folder: Path, plan: InheritancePlan, weights: str | None) -> dict[str, Any] | None:
    """The certificate in `folder` where it is of this plan, whatever its name, on weights of that fingerprint; None
    otherwise. Raises StudyError as `read_certificate` does."""
    document = read_certificate(folder)
    if document is None:
        return None
    try:
        certified = InheritancePlan.from_json(document["plan"]["document"])
        found_weights, document["count"] = document["settings"]["extra"].get("weights"), int(document["count"])
    except (PlanError, KeyError, TypeError, ValueError, AttributeError):
        return None
    same = replace(certified, name=plan.name, made_for=plan.made_for) == plan
    return document if same and found_weights == weights else None


@dataclass(frozen=True)
class Limits:
    """What a plan may cost in quality. clip_loss: the fraction of the un-accelerated CLIP score that may be lost
    (0.01: 1%). drift: 1 - SSIM to the un-accelerated pictures, None for any."""

    clip_loss: float = 0.01
    drift: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.clip_loss < 1:
            raise StudyError(f"a CLIP loss is a share from 0% to under 100%, got {self.clip_loss:.0%}.")
        if self.drift is not None and not 0 < self.drift <= 1:
            raise StudyError(f"a drift (1 - SSIM) is more than 0 and at most 1, got {self.drift:g}.")

    def words(self, clip: float) -> str:
        """The limits in words, for an un-accelerated CLIP score of `clip`."""
        drift = "" if self.drift is None else f", and a drift (1 - SSIM) of {self.drift:g}"
        return f"a CLIP loss of {self.clip_loss:.1%} of {clip:.1f} ({self.clip_loss * clip:.2f}){drift}"

    def to_json(self) -> dict[str, float | None]:
        return {"clip_loss": self.clip_loss, "drift": self.drift}


@dataclass(frozen=True)
class Rival:
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
class Claim:
    """What a certificate says. verdict: `holds`, `not shown` (too few pictures to tell) or `fails`."""

    verdict: str
    sentence: str
    limits: Limits
    beats_fewer_steps: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "holds": self.verdict == HOLDS,
            "sentence": self.sentence,
            "limits": self.limits.to_json(),
            "beats_fewer_steps": self.beats_fewer_steps,
        }


def judge(
    steps: int, clip: float, speedup: Estimate, change: Estimate, drift: Estimate, rivals: list[Rival], limits: Limits
) -> Claim:
    """Whether a plan keeps what is claimed, in one sentence.

    The claim holds where the interval's worse end keeps the limits, and the whole speed-up lies above 1; it fails
    where the better end breaks one; between the two these pictures cannot tell. clip: the un-accelerated score.
    change: the plan's CLIP score less the un-accelerated one, paired. drift: 1 - SSIM, paired.
    """
    allowed = limits.clip_loss * clip
    most = limits.drift if limits.drift is not None else float("inf")
    fails = speedup.high <= 1 or -change.high > allowed or drift.low > most
    holds = speedup.low > 1 and -change.low <= allowed and drift.high <= most
    verdict = FAILS if fails else HOLDS if holds else OPEN
    opening = {
        HOLDS: "The claim holds",
        OPEN: f"The claim is not shown by {change.n} pictures (certify more)",
        FAILS: "The claim does not hold",
    }[verdict]
    parts = [f"{opening}: {_speed(speedup)} than {steps} plain steps at {_loss(change)}"]
    if limits.drift is not None:
        parts.append(f" and a drift of {_words(drift)}")
    parts.append(f", where {limits.words(clip)} is allowed")
    if rivals:
        best = rivals[0]
        parts.append(f"; {best.name} of about the same cost {_rival_loss(best.loss)}")
        parts.append("" if best.beaten else f", so fewer steps {'do better' if best.wins else 'do as well'}")
    return Claim(verdict, "".join(parts) + ".", limits, bool(rivals) and rivals[0].beaten)


def _speed(speedup: Estimate) -> str:
    if speedup.high <= 1:
        return f"slower ({_words(speedup)}x)"
    return f"{_words(speedup)}x faster"


def _loss(change: Estimate) -> str:
    if change.low <= 0 <= change.high:
        return f"no measurable CLIP loss ({_words(change, sign=True)})"
    return f"a CLIP {'loss' if change.value < 0 else 'gain'} of {_words(_turned(change, change.value < 0))}"


def _rival_loss(loss: Estimate) -> str:
    if loss.low <= 0 <= loss.high:
        return f"lose nothing measurable ({_words(_turned(loss), sign=True)})"
    return f"{'lose' if loss.value > 0 else 'gain'} {_words(_turned(loss, loss.value < 0))}"


def _turned(estimate: Estimate, turn: bool = True) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n) if turn else estimate


def _words(estimate: Estimate, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{estimate.value:{plus}.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def plain_document(run: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in run.items()}
