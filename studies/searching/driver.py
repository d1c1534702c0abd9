"""The driver: one worker that scores the plans of a study until its total is reached.

Ask, plan, key, duplicate?, score, tell. Any number of workers may run on one study; what one leaves behind when it is
killed, the others (or the next run) find and do again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from search_spaces.space import Space
from studies.interrupts import held, released
from studies.metrics import SPEEDS
from studies.proposing.proposers.base import Predictor, Tools
from studies.proposing.proposers.record import Record
from studies.proposing.source import Exhausted, Proposer
from studies.queue import finishing, heartbeats, queue, samplers
from studies.queue.heartbeats import Worker
from studies.queue.optuna_mirror import Mirror
from studies.queue.queue import Claim, Counts
from studies.scored import LATENCY, QUALITY, Evaluator, Part, Scored
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import FAILED, SCREENED, UNSTEADY, UNTIMED

RECOVER_SECONDS = 5.0
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.2, 2.0
UNTIMED_MOST = 16
"""Plans that may wait for their latency before workers of other devices propose no more: the sampler learns of a plan
only once both parts stand, and more would not make the study's device any faster."""

TOTAL, TIMEOUT, EXHAUSTED = "total", "timeout", "exhausted"


@dataclass(frozen=True)
class Progress:
    """The progress of a study, over all workers.

    Attributes:
        done: Plans scored.
        failed: Plans that could not be scored.
        running: Plans being scored.
        waiting: Plans in the queue.
        total: Plans that the study is to have; None without a limit.
        seconds: Seconds of this run so far.
        seconds_left: Predicted seconds to the total; None before this run has finished a plan.
        words: Nickname of the plan that this worker has just finished; None at the beginning and while it waits.
        state: State of that plan.
        reason: Why it failed, was screened or is unsteady.
        screened: Plans dropped by a race.
        unsteady: Plans whose timings were disturbed.
    """

    done: int
    failed: int
    running: int
    waiting: int
    total: int | None
    seconds: float
    seconds_left: float | None
    words: str | None = None
    state: str | None = None
    reason: str | None = None
    screened: int = 0
    unsteady: int = 0

    @property
    def finished(self) -> int:
        """Plans that are done, failed or screened."""
        return self.done + self.failed + self.screened


@dataclass(frozen=True)
class Outcome:
    """What one worker did.

    Attributes:
        scored: Plans that it scored.
        failed: Plans that it could not score.
        duplicates: Proposals that the study had already.
        stopped: Why it ended: `total`, `timeout` or `exhausted`.
        words: The same as a sentence.
        screened: Plans that a race dropped.
    """

    scored: int
    failed: int
    duplicates: int
    stopped: str
    words: str
    screened: int = 0


def unsteady_words(count: int) -> str:
    """The message about plans whose timings were disturbed."""
    return (
        f"{count} {'is' if count == 1 else 'are'} unsteady (other work on the machine disturbed the timings); run the "
        "same command again when the machine is quiet"
    )


def progress(counts: Counts, total: int | None, at_start: int, seconds: float, **event: Any) -> Progress:
    """Counts with the time that is left at the rate of this run (`at_start`: what was finished when it began)."""
    gained = counts.finished - at_start
    settled = counts.finished + counts.unsteady
    left = None if total is None or gained <= 0 else max(0, total - settled) * seconds / gained
    return Progress(
        counts.done, counts.failed, counts.running, counts.waiting, total, seconds, left, screened=counts.screened,
        unsteady=counts.unsteady, **event,
    )  # fmt: skip


def run_worker(
    store: Store,
    study_name: str,
    space: Space,
    evaluator: Evaluator,
    read_plan: Callable[[dict[str, Any]], InheritancePlan],
    total_trials: int | None = None,
    timeout: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    device: Mapping[str, Any] | None = None,
    quality_only: bool = False,
    proposals: str = "sampler",
    predictor: Predictor | None = None,
) -> Outcome:
    """Score plans of a study in this process: those in the queue first, then proposed ones.

    A plan whose scoring raises ExplorerError, RuntimeError or MemoryError is recorded as failed. On any other exception
    (StudyError and KeyboardInterrupt too) the plan returns to the queue and the exception is raised again. The latency
    of an unsteady plan is measured again once another plan's was steady, and at the end of the run.

    Args:
        store: The open database.
        study_name: A study that exists.
        space: The study's search space.
        evaluator: Scores plans on this device.
        read_plan: Reads a plan from its JSON, such as `InheritancePlan.from_json`.
        total_trials: Distinct plans that the study is to have, with those in the queue and of earlier runs.
        timeout: Seconds after which no plan is started.
        on_progress: Called when a plan is finished, and while the worker waits.
        device: Facts of the device, as `explorer.devices.DeviceInfo.to_json` gives them.
        quality_only: Leave latencies to workers on the study's device.
        proposals: A kind of `studies.proposing.proposers`.
        predictor: Predicts drift and cost of a plan, in a calibrated study.

    Raises:
        StudyError: When there is no such study, it has another space or nothing for this worker to measure, or the
            storage cannot be written.
    """
    for name, value in (("number of trials", total_trials), ("timeout", timeout)):
        if value is not None and not 0 < value < math.inf:
            raise StudyError(f"the {name} must be more than zero, and a number, got {value}.")
    study = store.study(study_name)
    if study.settings.space != space.name:
        raise StudyError(f"the study {study.name!r} searches the space {study.settings.space!r}, not {space.name!r}.")
    if quality_only and all(objective.name in SPEEDS for objective in study.settings.objectives):
        raise StudyError(
            f"the study {study.name!r} measures latency alone, on {study.settings.device}; a worker of another device "
            "has nothing to do for it."
        )
    samplers.make(study.settings.sampler)
    with held():  # an interrupt comes while a plan is scored or waited for, not in the middle of a record
        worker = Worker.start(store, study, device)
        run = None
        try:
            part = QUALITY if quality_only else None
            run = _Run(store, study, space, evaluator, read_plan, worker, part, proposals, predictor)
            return run.work(total_trials, timeout, on_progress)
        finally:
            with suppress(StudyError):  # if the storage fails, the next process that opens it finds this worker dead
                worker.stop()
                heartbeats.recover(store, study)
                if run is not None:
                    run.mirror.reconcile()  # an error may have come between a plan's record and its trial's


class _Run:
    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        space: Space,
        evaluator: Evaluator,
        read_plan: Callable[[dict[str, Any]], InheritancePlan],
        worker: Worker,
        part: Part | None,
        proposals: str,
        predictor: Predictor | None,
    ) -> None:
        self.store, self.study, self.evaluator, self.read_plan = store, study, evaluator, read_plan
        self.worker, self.part = worker, part
        chosen, standing = study.settings.sampler, queue.counts(store, study).finished
        sampler = samplers.make(chosen, worker.number, standing)
        self.mirror = Mirror(store, study, space, evaluator.evaluations, worker.id, sampler)
        record = Record(store, study)
        tools = Tools(
            store, study, space, evaluator.evaluations, read_plan, self.mirror, record, evaluator.rejection,
            predictor, worker.number, standing,
        )  # fmt: skip
        self.proposer = Proposer(tools, proposals, part)
        self.scored = self.failed = self.screened = 0
        self.exhausted = False
        self.quiet_since: float | None = None
        """When this worker's timings became steady again, in seconds since the epoch."""
        self.ended: float | None = None
        """When this worker found nothing left to begin."""
        self.recovered = float("-inf")

    def work(self, total: int | None, timeout: float | None, on_progress: Callable[[Progress], None] | None) -> Outcome:
        started, at_start = time.monotonic(), queue.counts(self.store, self.study).finished

        def report(**event: Any) -> None:
            if on_progress is not None:
                seconds = time.monotonic() - started
                on_progress(progress(queue.counts(self.store, self.study), total, at_start, seconds, **event))

        report()
        pause = POLL_SECONDS
        while timeout is None or time.monotonic() - started < timeout:
            self._recover()
            work = self._next(total)
            if work is not None:
                claim, plan, number = work
                pause = POLL_SECONDS
                report(words=claim.nickname, **self._score(claim, plan, number))
                continue
            counts = queue.counts(self.store, self.study)
            untimed = counts.untimed if self.part == QUALITY else 0
            left = untimed + counts.unsteady
            if total is not None and counts.finished + left >= total:
                waits = f", {untimed} wait for their latency on the study's device" if untimed else ""
                waits += f", {unsteady_words(counts.unsteady)}" if counts.unsteady else ""
                return self._outcome(TOTAL, f"{counts.finished} of {total} trials are finished{waits}")
            if not self._may_propose(counts, total):
                if self.exhausted and counts.waiting == 0 and counts.begun == counts.finished + left:
                    words = f"the space seems exhausted: no new plan was found after {counts.finished + left} trials"
                    return self._outcome(EXHAUSTED, words)
                with released():
                    time.sleep(pause)  # others are scoring what is left; one that dies leaves its plan to us
                pause = min(1.5 * pause, LONGEST_POLL_SECONDS)
                report()
        return self._outcome(TIMEOUT, f"the time of {timeout:g} s is over")

    def _outcome(self, stopped: str, words: str) -> Outcome:
        return Outcome(self.scored, self.failed, self.proposer.duplicates, stopped, words, self.screened)

    def _recover(self) -> None:
        now = time.monotonic()
        if now - self.recovered >= RECOVER_SECONDS:
            self.recovered = now
            heartbeats.recover(self.store, self.study)
            self.mirror.reconcile()

    def _may_propose(self, counts: Counts, total: int | None) -> bool:
        if self.exhausted or (self.part == QUALITY and counts.untimed >= UNTIMED_MOST):
            return False
        return total is None or counts.begun < total

    def _next(self, total: int | None) -> tuple[Claim, InheritancePlan | None, int | None] | None:
        """A claimed plan, from the queue (read when scored) or proposed, with its trial's number if it has one."""
        claim = self._unsteady(self.quiet_since)
        claim = claim or queue.claim_waiting(self.store, self.study, self.worker.id, total, self.part)
        if claim is not None:
            return claim, None, None
        if self._may_propose(queue.counts(self.store, self.study), total):
            try:
                proposed = self.proposer.next(self.worker.id, total)
            except Exhausted:
                self.exhausted, proposed = True, None
            if proposed is not None:
                return proposed
            if not self.exhausted:
                return None
        self.ended = self.ended or time.time()
        claim = self._unsteady(self.ended)
        return None if claim is None else (claim, None, None)

    def _unsteady(self, since: float | None) -> Claim | None:
        """The latency of a plan to measure again, that was last measured before `since`: in the time since then it is
        done once. None where there is none, or this worker leaves latencies to others."""
        if since is None or self.part == QUALITY:
            return None
        return queue.claim_unsteady(self.store, self.study, self.worker.id, since)

    def _score(self, claim: Claim, plan: InheritancePlan | None, number: int | None) -> dict[str, Any]:
        """Score and record a claimed plan; returns its state and the reason when it failed."""
        try:
            if number is None:
                number = self.mirror.begin(claim)
            scored = self._try(claim, plan)
            if isinstance(scored, str):
                held = finishing.fail(self.store, claim, scored)
            else:
                held = finishing.finish(self.store, self.study, claim, scored, self.worker.device_id)
        except (KeyboardInterrupt, StudyError):
            with suppress(StudyError):  # if the storage fails, the next process that opens it does this
                finishing.release(self.store, claim)
                self._end_trial(claim, number, "interrupted")
            raise
        except BaseException as error:
            with suppress(StudyError):
                finishing.give_up(self.store, claim)
                self._end_trial(claim, number, f"{type(error).__name__}: {error}")
            raise
        if not held:  # this worker was taken for dead, and the plan is another one's
            self._end_trial(claim, number, "the plan was given to another worker")
            return {"state": None, "reason": None}
        if isinstance(scored, str):
            self.failed += 1
            self.mirror.fail(number, scored)
            return {"state": FAILED, "reason": scored}
        if scored.screened is not None:
            self.screened += 1
            self.mirror.prune(number, scored.screened)
            return {"state": SCREENED, "reason": scored.screened}
        state = finishing.state_of(claim, scored)
        if state == UNSTEADY:
            self.quiet_since = None
            return {"state": UNSTEADY, "reason": scored.unsteady}
        self.scored += 1
        if state == UNTIMED:
            return {"state": UNTIMED, "reason": None}
        self.quiet_since = self.quiet_since or time.time()
        self.mirror.tell(number, finishing.values_of(self.store, self.study, claim.id))
        return {"state": state, "reason": None}

    def _end_trial(self, claim: Claim, number: int | None, reason: str) -> None:
        """End the trial of a plan that goes back into the queue; one whose quality was measured waits with its plan."""
        if number is not None and claim.part != LATENCY:
            self.mirror.fail(number, reason)

    def _try(self, claim: Claim, plan: InheritancePlan | None) -> Scored | str:
        """What was measured, or why nothing could be."""
        try:
            candidate = self.read_plan(claim.plan) if plan is None else plan
            with released():
                # An evaluator without parts is enough for a study of one device.
                part = () if claim.part is None else (claim.part,)
                return self.evaluator.score(candidate, *part)
        except StudyError:
            raise  # no plan's own trouble: a full disk, no baseline, no device lock would fail every other plan too
        except (ExplorerError, RuntimeError, MemoryError) as error:
            return str(error).strip() or type(error).__name__
