"""Kinds of proposers that take turns: each has a share of the plans by what its plans have added to the front.

A plan's reward is the square root of the hypervolume it added when it was finished (0 where it added none, or failed):
early plans add most, and the root keeps one of them from deciding for long. A kind's credit is the mean reward of its
plans, older plans counting less; new kinds begin with the mean of all. Every kind has a LEAST share, the rest goes in
proportion to credit, and the kind that is furthest behind its share has the next turn. All of it follows from the plans
that stand, so that a resumed search goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence

from studies.proposers.record import Standing
from studies.tables import FINISHED

MEMORY = 30
"""After so many further plans, one counts about a third (1/e)."""
LEAST = 0.3
"""The part of all turns that is shared out evenly."""
PRIOR = 2.0
"""Plans of mean reward that a kind is taken to have had."""


def turns(kinds: Sequence[str], proposed: Sequence[Standing]) -> list[str]:
    """The kinds, the one whose turn it is first. proposed: the plans that proposers gave, in the order of the queue."""
    counts, rewards, given = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    weight = 1.0
    for plan in reversed(proposed[-20 * MEMORY :]):  # what is older counts for nothing any more
        if plan.proposed_by in counts:
            given[plan.proposed_by] += weight
            if plan.state in FINISHED:
                counts[plan.proposed_by] += weight
                rewards[plan.proposed_by] += weight * plan.gain**0.5
            weight *= 1 - 1 / MEMORY
    shares = shares_of(counts, rewards)
    total = sum(given.values()) + 1.0
    return sorted(kinds, key=lambda kind: given[kind] - total * shares[kind])


def shares_of(counts: dict[str, float], rewards: dict[str, float]) -> dict[str, float]:
    """Each kind's share of the turns, from its discounted plans and rewards; they add up to 1."""
    scored = sum(counts.values())
    mean = sum(rewards.values()) / scored if scored else 0.0
    credit = {kind: (rewards[kind] + PRIOR * mean) / (counts[kind] + PRIOR) for kind in counts}
    whole = sum(credit.values())
    even = 1 / len(counts)
    return {kind: LEAST * even + (1 - LEAST) * (credit[kind] / whole if whole > 0 else even) for kind in counts}
