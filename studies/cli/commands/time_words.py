"""What `explorer search` says of its time limit: what will fit, as soon as something tells, and what did not."""

from __future__ import annotations

import sqlalchemy as sa

from explorer.plans.plan import InheritancePlan
from studies.cli.commands.output import duration
from studies.clock import Clock, fitting, tells
from studies.config import SearchConfig
from studies.predicting import calibration
from studies.queue.queue import counts
from studies.searching.driver import Progress
from studies.searching.pace import timing
from studies.searching.session import Session
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import WAITING, plans

REMEDY = "take fewer of them with --baselines short in a study of another name."


def predicted_time(session: Session, store: Store, study: StudyRecord, clock: Clock) -> str | None:
    """By the profile, how many of the baselines that wait will fit; None where there is no limit, no profile, or room
    for all. A plan is timed beside the un-accelerated loop, and makes a picture for each prompt."""
    evaluator, left = session.evaluator, clock.left
    profile, standing = evaluator.profile, counts(store, study)
    wanted = min(standing.waiting, session.config.trials - standing.finished)
    if left is None or profile is None or wanted <= 0:
        return None
    images, pairs = evaluator.latency_batch, evaluator.pairs
    prompts = 0 if evaluator.scorer is None else len(evaluator.prompts)

    def loop(plan: InheritancePlan) -> float:
        return profile.predicted_latency(plan, evaluator.evaluations(plan)).value

    plain = loop(InheritancePlan(session.architecture, evaluator.steps))
    mine = sa.select(plans.c.plan).where(plans.c.study_id == study.id, plans.c.state == WAITING)
    rows = store.read(mine.order_by(plans.c.id).limit(wanted))
    loops = [loop(InheritancePlan.from_json(row.plan)) for row in rows]
    fit = fitting([images * timing(one, plain, pairs) + prompts * one for one in loops], left)
    if fit >= wanted:
        return None
    to_calibrate = session.config.calibrate and not calibration.standing(store, study).whole
    first = " (fewer, as the calibration comes first)" if to_calibrate else ""
    return (
        f"note: by the profile about {fit} of {wanted} baselines fit in the {duration(left)} left{first}; give a "
        f"longer --timeout, or {REMEDY}"
    )


class BaselinePace:
    """Says once, after the first plans of a run, how many of the baselines that wait will fit at their pace."""

    def __init__(self, config: SearchConfig, clock: Clock, at_start: int) -> None:
        self.trials, self.clock, self.at_start = config.trials, clock, at_start
        self.told = False

    def words(self, standing: Progress) -> str | None:
        """The message, once, when the pace is known and not all baselines fit."""
        left, gained = self.clock.left, standing.finished - self.at_start
        if self.told or left is None or not tells(gained, standing.seconds, standing.seconds + left):
            return None
        self.told = True
        waiting = min(standing.waiting, self.trials - standing.finished)
        fit = int(left * gained / standing.seconds)
        if fit >= waiting:
            return None
        return (
            f"note: at the current pace about {fit} of the {waiting} waiting baselines fit in the {duration(left)} "
            f"left; the others wait for the next run."
        )


def unscored(config: SearchConfig, store: Store, study: StudyRecord, at_start: int, seconds: float) -> str | None:
    """Where the time was too short for the baselines: what fitted in the `seconds` that plans were scored, and what the
    others want."""
    standing = counts(store, study)
    gained = standing.finished - at_start
    left = min(standing.waiting, config.trials - standing.finished)
    if config.timeout is None or left <= 0:
        return None
    pace = f"; {gained} were, and the others need about {duration(left * seconds / gained)} more" if gained else ""
    return f"note: {left} baselines are not scored{pace}. Run the same command to continue, or {REMEDY}"
