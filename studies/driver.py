"""The driver: one worker that scores the plans of a study until its total stands.

Ask, plan, key, duplicate?, score, tell. Any number of workers may run on one study; what one leaves behind when it is
killed, the others (or the next run) find and do again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic

from explorer.errors import ExplorerError, StudyError
from studies import claims, queue, samplers
from studies.claims import Worker
from studies.mirror import Mirror
from studies.proposals import Exhausted, Proposer
from studies.queue import Claim, Counts
from studies.scored import Evaluator, P, Scored, Space
from studies.store import Store, StudyRecord
from studies.tables import DONE, FAILED

RECOVER_SECONDS = 5.0
POLL_SECONDS = 0.2

TOTAL, TIMEOUT, EXHAUSTED = "total", "timeout", "exhausted"


@dataclass(frozen=True)
class Progress:
    """Where the study stands, over all workers. seconds_left: None while nothing has been finished in this run.

    words, state, reason: the plan that this worker has just finished; None at the beginning and while it waits.
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

    @property
    def finished(self) -> int:
        return self.done + self.failed


@dataclass(frozen=True)
class Outcome:
    """What one worker did. stopped: `total`, `timeout` or `exhausted`; words: the same for people."""

    scored: int
    failed: int
    duplicates: int
    stopped: str
    words: str


def progress(counts: Counts, total: int | None, at_start: int, seconds: float, **event: Any) -> Progress:
    """Counts with the time that is left at the rate of this run (`at_start`: what was finished when it began)."""
    gained = counts.finished - at_start
    left = None if total is None or gained <= 0 else max(0, total - counts.finished) * seconds / gained
    return Progress(counts.done, counts.failed, counts.running, counts.waiting, total, seconds, left, **event)


def run_worker(
    store: Store,
    study_name: str,
    space: Space[P],
    evaluator: Evaluator[P],
    read_plan: Callable[[dict[str, Any]], P],
    total_trials: int | None = None,
    timeout: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    device: Mapping[str, Any] | None = None,
) -> Outcome:
    """Score plans of the study in this process: those that are enqueued first, then the sampler's.

    read_plan: a plan out of its JSON, `InheritancePlan.from_json`. total_trials: distinct plans, scored or failed,
    that the study is to have in the end, the enqueued ones and those of earlier runs included. timeout: seconds, after
    which no further plan is begun. device: facts of the device that is measured on.

    A plan whose scoring raises ExplorerError, RuntimeError or MemoryError is recorded as failed, with the reason. On
    any other exception, KeyboardInterrupt for one, the plan goes back to the queue, the study is left whole, and the
    exception goes on.

    Raises:
        StudyError: when there is no such study, when it has another space, or when it cannot be written.
    """
    for name, value in (("number of trials", total_trials), ("timeout", timeout)):
        if value is not None and value <= 0:
            raise StudyError(f"the {name} must be more than zero, got {value}.")
    study = store.study(study_name)
    if study.settings.space != space.name:
        raise StudyError(f"the study {study.name!r} searches the space {study.settings.space!r}, not {space.name!r}.")
    samplers.make(study.settings.sampler)
    worker = Worker.start(store, study, device)
    run = None
    try:
        run = _Run(store, study, space, evaluator, read_plan, worker)
        return run.work(total_trials, timeout, on_progress)
    finally:
        with suppress(StudyError):  # in trouble with the database, whoever opens it next finds that this worker is gone
            worker.stop()
            claims.recover(store, study)
            if run is not None:
                run.mirror.reconcile()  # an interrupt may have come between a plan's record and its trial's


class _Run(Generic[P]):
    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        space: Space[P],
        evaluator: Evaluator[P],
        read_plan: Callable[[dict[str, Any]], P],
        worker: Worker,
    ) -> None:
        self.store, self.study, self.evaluator, self.read_plan = store, study, evaluator, read_plan
        self.worker = worker
        chosen, standing = study.settings.sampler, queue.counts(store, study).finished
        sampler = samplers.make(chosen, worker.number, standing)
        self.mirror = Mirror(store, study, space, evaluator.evaluations, worker.id, sampler)
        random_seed = samplers.stream(chosen, worker.number, standing, purpose=1)
        self.proposer = Proposer(store, study, space, evaluator.evaluations, self.mirror, random_seed, evaluator.screen)
        self.scored = self.failed = 0
        self.exhausted = False
        self.recovered = float("-inf")

    def work(self, total: int | None, timeout: float | None, on_progress: Callable[[Progress], None] | None) -> Outcome:
        started, at_start = time.monotonic(), queue.counts(self.store, self.study).finished

        def report(**event: Any) -> None:
            if on_progress is not None:
                seconds = time.monotonic() - started
                on_progress(progress(queue.counts(self.store, self.study), total, at_start, seconds, **event))

        report()
        while timeout is None or time.monotonic() - started < timeout:
            self._recover()
            work = self._next(total)
            if work is not None:
                claim, plan, number = work
                report(words=claim.words, **self._score(claim, plan, number))
                continue
            counts = queue.counts(self.store, self.study)
            if total is not None and counts.finished >= total:
                return self._outcome(TOTAL, f"{counts.finished} of {total} trials are finished")
            if not self._may_propose(counts, total):
                if counts.running == 0 and counts.waiting == 0:
                    words = f"the space seems exhausted: no new plan was found after {counts.finished} trials"
                    return self._outcome(EXHAUSTED, words)
                time.sleep(POLL_SECONDS)  # others are scoring what is left; one that dies leaves its plan to us
                report()
        return self._outcome(TIMEOUT, f"the time of {timeout:g} s is over")

    def _outcome(self, stopped: str, words: str) -> Outcome:
        return Outcome(self.scored, self.failed, self.proposer.duplicates, stopped, words)

    def _recover(self) -> None:
        now = time.monotonic()
        if now - self.recovered >= RECOVER_SECONDS:
            self.recovered = now
            claims.recover(self.store, self.study)
            self.mirror.reconcile()

    def _may_propose(self, counts: Counts, total: int | None) -> bool:
        return not self.exhausted and (total is None or counts.finished + counts.running < total)

    def _next(self, total: int | None) -> tuple[Claim, P | None, int | None] | None:
        """A claimed plan, from the queue (read when scored) or proposed, with its trial's number if it has one."""
        claim = queue.claim_waiting(self.store, self.study, self.worker.id, total)
        if claim is not None:
            return claim, None, None
        if not self._may_propose(queue.counts(self.store, self.study), total):
            return None
        try:
            return self.proposer.next(self.worker.id, total)
        except Exhausted:
            self.exhausted = True
            return None

    def _score(self, claim: Claim, plan: P | None, number: int | None) -> dict[str, Any]:
        """Score and record a claimed plan; returns its state and the reason when it failed."""
        try:
            if number is None:
                number = self.mirror.begin(claim)
            scored = self._try(claim, plan)
            if isinstance(scored, str):
                held = queue.fail(self.store, claim, scored)
            else:
                held = queue.finish(self.store, self.study, claim, scored, self.worker.device_id)
        except (KeyboardInterrupt, StudyError):
            queue.release(self.store, claim)
            if number is not None:
                self.mirror.fail(number, "interrupted")
            raise
        except BaseException as error:
            queue.give_up(self.store, claim)
            if number is not None:
                self.mirror.fail(number, f"{type(error).__name__}: {error}")
            raise
        if not held:  # this worker was taken for dead, and the plan is another one's
            self.mirror.fail(number, "the plan was given to another worker")
            return {"state": None, "reason": None}
        if isinstance(scored, str):
            self.failed += 1
            self.mirror.fail(number, scored)
            return {"state": FAILED, "reason": scored}
        self.scored += 1
        self.mirror.tell(number, [scored.estimates[o.name].value for o in self.study.settings.objectives])
        return {"state": DONE, "reason": None}

    def _try(self, claim: Claim, plan: P | None) -> Scored | str:
        """What was measured, or why nothing could be."""
        try:
            return self.evaluator.score(self.read_plan(claim.plan) if plan is None else plan)
        except (ExplorerError, RuntimeError, MemoryError) as error:
            return str(error).strip() or type(error).__name__
