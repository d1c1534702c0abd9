"""What `explorer tune` says of its result: what was chosen and why, and what it would take to do better."""

from __future__ import annotations

import math
from typing import Any

from studies.certificate import HOLDS, OPEN, PLAN, Limits
from studies.pick import Candidate, fastest_plain, just_beyond
from studies.tune import GOOD_PLANS, Result


def outcome_words(result: Result, limits: Limits, steps: int) -> list[str]:
    """Sentences, the most important first."""
    said = [_chosen(result, limits, steps)]
    if result.certificate is not None and result.chosen is not None:
        said.append(result.certificate["claim"]["sentence"])
    said += _plain(result, limits)
    said += better(result, limits)
    return said


def _chosen(result: Result, limits: Limits, steps: int) -> str:
    allowed = limits.words(result.clip)
    if result.chosen is None:
        tried = f", and what the search thought so did not hold when certified ({_names(result)})"
        return (
            f"Nothing was chosen: none of {result.plans} plans is faster than {steps} plain steps within {allowed}"
            f"{tried if result.given_up else ''}."
        )
    why = f"the fastest of {result.plans} plans that keeps {allowed}"
    if result.given_up and result.chosen not in result.given_up:
        why += f", after {len(result.given_up)} faster did not hold in their certificates"
    certificate = result.certificate or {"claim": {"verdict": OPEN}}
    if certificate["claim"]["verdict"] != HOLDS:
        why += " by the search's scores; its certificate has too few pictures to show it"
    return f"Chosen: {result.chosen.row.words} ({_speed(result)}), {why}."


def _names(result: Result) -> str:
    return ", ".join(each.row.words for each in result.given_up)


def _speed(result: Result) -> str:
    assert result.chosen is not None
    if result.certificate is None:
        return f"{result.chosen.speedup:.2f}x"
    return f"{result.certificate['runs'][PLAN]['speedup']['value']:.2f}x"


def _plain(result: Result, limits: Limits) -> list[str]:
    """The control that inheritance must beat."""
    rival = fastest_plain(result.found, limits, result.clip)
    if result.chosen is not None and result.chosen.plain:
        return ["Nothing beats fewer steps here: the choice only takes fewer plain steps and inherits nothing."]
    if result.chosen is None:
        return []
    if result.certificate is not None and not result.certificate["claim"]["beats_fewer_steps"]:
        return ["Nothing beats fewer steps beyond doubt here: plain steps of the same cost do as well or better."]
    if rival is None:
        return ["No smaller number of plain steps that was tried keeps the limit."]
    if rival.speedup >= result.chosen.speedup:
        return [
            f"Fewer steps are as fast or faster within the limit by the search's scores: {rival.row.words}, "
            f"{rival.speedup:.2f}x."
        ]
    return [f"The fastest plain steps within the limit are {rival.row.words}, {rival.speedup:.2f}x."]


def better(result: Result, limits: Limits) -> list[str]:
    """What would give more."""
    said = []
    beyond = just_beyond(result.found, result.chosen, limits, result.clip)
    if beyond is not None:
        said.append(f"A larger limit would give more: {_described(beyond, result.clip)}.")
    certificate = result.certificate
    if certificate is not None and certificate["claim"]["verdict"] == OPEN:
        needed = pictures_needed(certificate, limits)
        said.append(
            f"To settle the claim, certify about {needed} pictures (a larger --budget goes on from here)."
            if needed
            else "To settle the claim, certify more pictures (a larger --budget goes on from here)."
        )
    if result.untried:
        said.append(
            f"No time was left to certify {result.untried[0].row.words} ({result.untried[0].speedup:.2f}x): a "
            "larger --budget goes on from here."
        )
    if result.plans < GOOD_PLANS:
        said.append(f"Only {result.plans} plans were tried: a larger --budget goes on from here.")
    return said


def _described(candidate: Candidate, clip: float) -> str:
    share = candidate.loss.value / clip if clip else 0.0
    return (
        f"{candidate.row.words} was {candidate.speedup:.2f}x at a CLIP loss of {share:.1%} and a drift of "
        f"{candidate.drift:.2f} in the search"
    )


def pictures_needed(certificate: dict[str, Any], limits: Limits) -> int | None:
    """About how many pictures would bring the interval's worse end within the limit, were the loss what it is now;
    None when no number would. An interval shrinks with the root of the count."""
    change = certificate["differences"][PLAN][certificate["clip"]]
    clip = certificate["runs"]["full"]["scores"][certificate["clip"]]["value"]
    room = limits.clip_loss * clip + change["value"]
    reach = change["value"] - change["low"]
    if room <= 0 or reach <= 0:
        return None
    return math.ceil(certificate["count"] * max(1.0, reach / room) ** 2 - 1e-6)
