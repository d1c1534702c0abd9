"""What `explorer autotune` says of its result: what was chosen and why, and what it would take to do better."""

from __future__ import annotations

import math
from typing import Any

from search_spaces.axes import alone
from studies.autotune.autotune import AutotuneResult
from studies.autotune.sharing import GOOD_PLANS
from studies.certificates.document import PLAN
from studies.choosing.judgement import HOLDS, LEAST_PROMPTS, OPEN, PAIRS, PICTURES, PROMPTS, QualityLimits
from studies.choosing.pick import ScoredPlan, fastest_plain, just_beyond
from studies.wording import figures, others_words, percent, times


def outcome_words(result: AutotuneResult, limits: QualityLimits, steps: int) -> list[str]:
    """Sentences, the most important first."""
    said = [_chosen(result, limits, steps)]
    if result.aside is not None:
        said.append(f"The export of an earlier run, which this run does not choose, was moved to {result.aside}.")
    if result.certificate is not None and result.chosen is not None:
        said.append(result.certificate["claim"]["sentence"])
        said += [words for words in [others_words(result.certificate["also_certified"])] if words]
    said += _plain(result)
    said += better(result, limits)
    return said


def _chosen(result: AutotuneResult, limits: QualityLimits, steps: int) -> str:
    allowed = limits.words(result.clip)
    if result.chosen is None:
        tried = f", and the claims of those that the search scored so did not hold ({_names(result)})"
        return (
            f"Nothing was chosen: none of {result.plans} plans is faster than {steps} plain steps within {allowed}"
            f"{tried if result.given_up else ''}."
        )
    why = f"the fastest of {result.plans} plans that keeps {allowed}"
    if result.given_up and result.chosen not in result.given_up:
        why += f", after the certificates of {len(result.given_up)} faster plans did not hold"
    certificate = result.certificate or {"claim": {"verdict": OPEN}}
    if certificate["claim"]["verdict"] != HOLDS:
        why += " by the search's scores; its certificate does not show it yet"
    return f"Chosen: {result.chosen.row.nickname} ({_speed(result)}), {why}."


def _names(result: AutotuneResult) -> str:
    return ", ".join(each.row.nickname for each in result.given_up)


def _speed(result: AutotuneResult) -> str:
    assert result.chosen is not None
    if result.certificate is None or result.certificate["runs"][PLAN].get("unsteady"):
        return times(result.chosen.speedup)
    return times(result.certificate["runs"][PLAN]["speedup"]["value"])


def _plain(result: AutotuneResult) -> list[str]:
    """The control that inheritance must beat."""
    rival = fastest_plain(result.found, result.bounds)
    if result.chosen is not None and result.chosen.plain:
        for other in alone([result.chosen.row.facts]):
            return [f"Nothing beats {other} here: the chosen plan is plain steps of it."]
        return ["Nothing beats fewer steps here: the chosen plan only takes fewer plain steps and inherits nothing."]
    if result.chosen is None:
        return []
    if result.certificate is not None and not result.certificate["claim"]["beats_fewer_steps"]:
        return ["Nothing certainly beats fewer steps here: plain steps of the same cost are as good or better."]
    if rival is None:
        return ["No smaller number of plain steps that was measured keeps the limit."]
    if rival.surely >= result.chosen.surely:
        return [
            f"Fewer steps are as fast or faster within the limit by the search's scores: {rival.row.nickname}, "
            f"{times(rival.speedup)}."
        ]
    return [f"The fastest plain steps within the limit are {rival.row.nickname}, {times(rival.speedup)}."]


def better(result: AutotuneResult, limits: QualityLimits) -> list[str]:
    """What would give more."""
    said = []
    beyond = just_beyond(result.found, result.chosen, result.bounds)
    if beyond is not None:
        said.append(f"A larger limit would give more: {_described(beyond, result.clip)}.")
    certificate = result.certificate
    if certificate is not None and certificate["claim"]["verdict"] == OPEN:
        said += _settle(certificate, limits)
    if result.untried:
        said.append(
            f"No time was left to certify {result.untried[0].row.nickname} ({times(result.untried[0].speedup)}): a "
            "larger --budget continues from here."
        )
    if result.plans < GOOD_PLANS:
        said.append(f"Only {result.plans} plans were scored: a larger --budget continues from here.")
    return said


def _settle(certificate: dict[str, Any], limits: QualityLimits) -> list[str]:
    """What would settle an open claim: pictures, prompts or timings, by what is undecided."""
    said, undecided = [], certificate["claim"]["undecided"]
    needed = pictures_needed(certificate, limits)
    if needed is not None:
        more = ", of more --certificate-prompts" if needed > certificate["prompts"] else ""
        said.append(
            f"To decide the claim, certify about {needed:,} pictures{more} (a larger --budget continues from here)."
        )
    elif PICTURES in undecided:
        said.append("More pictures would more likely refute the claim than show it: allow a larger limit.")
    if PROMPTS in undecided:
        said.append(f"To decide the claim, give at least {LEAST_PROMPTS} --certificate-prompts.")
    if PAIRS in undecided and certificate["runs"][PLAN].get("unsteady"):
        said.append("The timings were disturbed: `explorer certify` the folder again when the machine is quiet.")
    elif PAIRS in undecided:
        pairs = certificate["runs"][PLAN]["speedup"]["n"]
        said.append(
            f"The speed is undecided by {pairs} timed pairs: `explorer certify` the folder with --pairs {5 * pairs} "
            "and --again, while nothing else runs."
        )
    return said


def _described(candidate: ScoredPlan, clip: float) -> str:
    share = candidate.loss.value / clip if clip else 0.0
    return (
        f"{candidate.row.nickname} was {times(candidate.speedup)} at a CLIP {'loss' if share >= 0 else 'gain'} of "
        f"{percent(abs(share))} and a drift of {figures(candidate.drift)} in the search"
    )


def pictures_needed(certificate: dict[str, Any], limits: QualityLimits) -> int | None:
    """About how many pictures would bring the intervals' worse ends within the limits, were the loss what it is now;
    None when no number would, or pictures are not what is undecided. An interval shrinks with the root of the count."""
    if PICTURES not in certificate["claim"]["undecided"]:
        return None
    change = certificate["differences"][PLAN][certificate["clip"]]
    drift = certificate["differences"][PLAN]["drift"]
    clip = certificate["runs"]["full"]["scores"][certificate["clip"]]["value"]
    tests = [(limits.clip_loss * clip + change["value"], change["value"] - change["low"])]
    if limits.drift is not None:
        tests.append((limits.drift - drift["value"], drift["high"] - drift["value"]))
    if any(room <= 0 for room, _ in tests):
        return None
    factor = max(1.0, *(reach / room for room, reach in tests))
    return math.ceil(certificate["count"] * factor**2 - 1e-6)
