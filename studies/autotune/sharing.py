"""How a budget of time is split among calibration, search and certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from explorer.errors import StudyError
from explorer.quality.registry import LEAST
from studies.searching.pace import Speed
from studies.searching.preparation import WORTH

GOOD_PLANS, LEAST_PLANS = 40, 6
CERTIFICATE_SHARE, BASELINE_SHARE = 0.35, 0.5
PROMPT_COUNTS = (64, 48, 32, 24, 16, 12, LEAST)


SPARE = 0.03


MOST_PICTURES = 2000


@dataclass(frozen=True)
class Split:
    """How a budget is used: prompts and timed pairs of the search, about how many plans it scores and what one takes;
    the seconds kept for certificates, the pictures of one, and what the least one takes; the seconds that the study's
    calibration is predicted to take, 0 where it is not calibrated."""

    prompts: int
    pairs: int
    plans: int
    plan_seconds: float
    certificate_seconds: float
    pictures: int
    least_certificate: float
    calibration: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, document: Any) -> Split:
        """Raises TypeError or ValueError for what is none."""
        found = cls(**document)
        whole = (found.prompts, found.pairs, found.plans, found.pictures)
        seconds = (found.plan_seconds, found.certificate_seconds, found.least_certificate)
        sound = all(0 < float(value) < 1e9 for value in (*whole, *seconds)) and 0 <= float(found.calibration) < 1e9
        if not sound or not all(type(value) is int for value in whole):
            raise ValueError("its parts must be numbers above zero")
        return found

    def grown(self, factor: float) -> Split:
        """For a budget that was made `factor` times as large: what the study measures stays."""
        return replace(
            self,
            plans=round(self.plans * factor),
            certificate_seconds=self.certificate_seconds * factor,
            pictures=min(MOST_PICTURES, round(self.pictures * factor)),
        )


def split_budget(budget: float, spent: float, speed: Speed, prompts: int) -> Split:
    """Split the rest of `budget` between the search and the certificate, so that both say as much as possible. There is
    a calibration if the search's share leaves enough beside it.

    Args:
        budget: Seconds in all.
        spent: Seconds that are spent already.
        speed: Of the model on this device.
        prompts: Number of held-out prompts.

    Raises:
        StudyError: when it is too small for the baselines and a certificate; it says how much fits.
    """
    left = budget * (1 - SPARE) - spent
    least = speed.first(LEAST, 3) + LEAST_PLANS * speed.trial(LEAST, 3) + speed.certificate(LEAST, 3)
    if left < least:
        need = (spent + least) / (1 - SPARE)
        raise StudyError(
            f"a budget of {budget:.0f} s is too small here: getting ready took {spent:.0f} s, the un-accelerated run "
            f"and {LEAST_PLANS} plans take about {least - speed.certificate(LEAST, 3):.0f} s and the least certificate "
            f"{speed.certificate(LEAST, 3):.0f} s; give --budget {need * 1.1:.0f}s or more, or fewer --steps."
        )
    for_certificate = max(CERTIFICATE_SHARE * left, speed.certificate(LEAST, 3))
    search, calibration = left - for_certificate, speed.calibration
    chosen, pairs, plans = _scope(search - calibration, speed, prompts)
    if plans - baseline_count(plans) < WORTH:  # it would leave too little of what it is for
        calibration = 0.0
        chosen, pairs, plans = _scope(search, speed, prompts)
    pictures = LEAST
    while pictures < MOST_PICTURES and speed.certificate(pictures + LEAST, pairs) <= for_certificate:
        pictures += LEAST
    trial, least_certificate = speed.trial(chosen, pairs), speed.certificate(LEAST, pairs)
    return Split(chosen, pairs, plans, trial, for_certificate, pictures, least_certificate, calibration)


def _scope(seconds: float, speed: Speed, prompts: int) -> tuple[int, int, int]:
    """Prompts and timed pairs of the search, the most that leave GOOD_PLANS, and about how many plans it scores."""
    chosen, pairs = LEAST, 3
    for pairs_tried in (7, 3):
        for count in PROMPT_COUNTS:
            if count <= prompts and speed.plans(seconds, count, pairs_tried) >= GOOD_PLANS:
                chosen, pairs = max((count, pairs_tried), (chosen, pairs))
    return chosen, pairs, max(speed.plans(seconds, chosen, pairs), LEAST_PLANS)


def baseline_count(plans: int) -> int:
    """How many of the search's plans are controls and named strategies, at most."""
    return max(LEAST_PLANS, round(BASELINE_SHARE * plans))
