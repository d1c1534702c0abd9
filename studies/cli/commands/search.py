"""`explorer search` and `explorer worker`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from explorer.errors import StudyError
from explorer.models.prompts import texts
from studies import removed
from studies.cli.commands.browse import print_front, study_document
from studies.cli.commands.calibrate import with_progress
from studies.cli.commands.output import duration, print_command, print_json, words
from studies.cli.commands.time_words import BaselinePace, predicted_time, unscored
from studies.clock import Clock, OutOfTime
from studies.config import STORAGE_VARIABLE, WORKER, SearchConfig, check_place
from studies.interrupts import interruptible
from studies.option import arguments
from studies.queue.queue import counts, enqueue
from studies.queue.quiet_machine import Busy, StudyLedger
from studies.results.reading import Reading
from studies.results.summary import without_loss
from studies.scoring.racing import no_look
from studies.searching import findings
from studies.searching.asking import config_of
from studies.searching.driver import TIMEOUT, Outcome, progress, run_worker, unsteady_words
from studies.searching.driver import Progress as SearchProgress
from studies.searching.preparation import decided, prepared, proposals_of, with_stored
from studies.searching.processes import run_workers
from studies.searching.profiles import with_profile
from studies.searching.session import Session, open_session
from studies.storage.command_lines import command_line
from studies.storage.pictures import FOLDER
from studies.storage.saved import Saved
from studies.storage.store import Store, StudyRecord, pictures_folder
from studies.wording import cut_words, ratio

CALIBRATES = (
    "this study is calibrated first: a calibration measures the effect of inheriting at single steps, to predict plans "
    "before they are scored. To search without it: --no-calibrate"
)


def run_search(config: SearchConfig, *, as_json: bool, started: float | None = None) -> None:
    """Open or resume the study, enqueue the baselines, search until the total is reached, print the front.

    Args:
        config: As `studies.searching.asking.config_asked` gives it.
        as_json: Print the front as a JSON document.
        started: When the command began, by the monotonic clock: its time limit holds for all of it.

    Raises:
        ExplorerError: In one sentence, before anything is stored when the options are wrong.
        KeyboardInterrupt: On Ctrl-C, with the study complete and the way to resume printed.
    """
    console = words()
    started = time.monotonic() if started is None else started
    console.print(f"loading {config.model} ...", markup=False)
    session = decided(open_session(config, references=Saved.of_references(pictures_folder(config.storage))))
    with Store.open(config.storage) as store:
        _say(_few_pictures(session))
        _say(cut_words(session.evaluator.pipe, texts(session.evaluator.prompts)))
        if session.config.calibrate and config.calibrate is None:
            _say(CALIBRATES)
        session = with_profile(session, store)
        study = store.create_study(config.study, session.settings)
        added = enqueue(store, study, list(session.baselines()), session.space, session.evaluator.evaluations)
        _announce(config, store, study, added)
        _tell_no_look(session)
        clock = Clock(config.timeout, started)
        _say(predicted_time(session, store, study, clock))
        began, at_start = time.monotonic(), counts(store, study).finished
        try:
            with interruptible():
                session, cut = _prepared(store, study, session, clock)
                began = time.monotonic()
                if cut is not None:
                    message = cut
                elif config.workers == 1:
                    message = _in_this_process(session, store, study, clock)
                else:
                    del session  # the workers load their own: the device holds no copy for this process
                    message = _in_many(config, store, study, clock)
        except KeyboardInterrupt:
            console.print(
                f"\ninterrupted; the study {config.study!r} is complete. Resume with the same command "
                f"({command_line('search', '--study', config.study, storage=config.storage)} ...).",
                soft_wrap=True,
            )
            raise
        console.print(message, markup=False)
        _say(unscored(config, store, study, at_start, time.monotonic() - began))
        if as_json:
            print_json(study_document(store, study))
        else:
            print_front(store, study)
    show = command_line("show", config.study, "--html", "front.html", storage=config.storage)
    print_command(console, "\nlook at it", show)
    print_command(console, "in a browser", command_line("dashboard", storage=config.storage))


def run_one_worker(study: str, given: Mapping[str, Any], *, quality_only: bool, started: float | None = None) -> None:
    """Score plans of an existing study in this process, with the study's own settings. Where the device is not the
    study's, plans' quality alone.

    Args:
        study: Its name.
        given: The options of the command line, of `WORKER` and the storage.
        quality_only: Leave latency to others.
        started: When the command began, by the monotonic clock.

    Raises:
        StudyError: When this machine would measure something else than the study does; both sides are named.
    """
    from explorer.plans.plan import InheritancePlan

    clock = Clock(given.get("timeout"), started)
    storage = given.get("storage", SearchConfig.storage)
    Store.open(storage, read_only=True).close()  # a worker joins an existing study, and makes no storage
    with Store.open(storage) as store, interruptible():
        record = store.study(study)
        config = config_of(record.settings, study, **given)
        check_place(config)
        removed.check_sampler(config.sampler)
        session = open_session(config, references=Saved.of_references(store.folder))
        elsewhere = store.check_settings(record, session.settings)
        if elsewhere or quality_only:
            why = f"this is not the study's device ({elsewhere})" if elsewhere else "as asked"
            words().print(f"{why}: scoring only quality; a worker on the study's device measures latency", markup=False)
        if not store.beside_its_file:
            words().print(f"sample pictures go to {store.folder / FOLDER}", markup=False)
        if not elsewhere:  # another device's times say nothing of the latency that the study measures
            session = with_profile(session, store)
        session = with_stored(store, record, session, _say)
        if config.calibrate and session.evaluator.predictor is None:
            command = command_line("calibrate", "--study", study, storage=storage)
            raise StudyError(f"{study!r} is not calibrated yet; run `{command}` first.")
        if clock.over:
            words().print(clock.words)
            return
        outcome = run_worker(
            store, study, session.space, session.evaluator, InheritancePlan.from_json,
            given.get("trials"), _seconds(clock), device=session.info.to_json(),
            quality_only=quality_only or bool(elsewhere), proposals=proposals_of(config, session),
            predictor=session.evaluator.predictor,
        )  # fmt: skip
    words().print(clock.words if outcome.stopped == TIMEOUT else outcome.words)


def _prepared(store: Store, study: StudyRecord, session: Session, clock: Clock) -> tuple[Session, str | None]:
    """The session with what the study needs before its first plan; and in words, where the time is over before that."""
    try:
        session = prepared(store, study, session, partial(with_progress, seconds=clock.left), _say)
    except OutOfTime as error:
        return session, f"{clock.words}: {error}. Run the same command to continue."
    if not clock.over:
        findings.record(store, study, session)
    return session, clock.words if clock.over else None


def _announce(config: SearchConfig, store: Store, study: StudyRecord, added: int) -> None:
    standing = counts(store, study)
    console = words()
    if standing.finished:
        console.print(f"resuming {study.name!r}: {standing.finished} plans are finished, {standing.waiting} wait")
    elif added:
        console.print(f"study {study.name!r}: {added} baselines enqueued")
    waiting = standing.finished + standing.waiting
    if waiting > config.trials:
        console.print(
            f"note: --trials {config.trials} leaves out {waiting - config.trials} of the enqueued plans; give "
            f"--trials {waiting} or more to score them all"
        )


def _tell_no_look(session: Session) -> None:
    """Where the batch leaves a race nothing to decide before all pictures are made."""
    evaluator = session.evaluator
    raced = session.config.racing != "off" and evaluator.scorer is not None
    reason = no_look(len(evaluator.prompts), evaluator.batch) if raced else None
    if reason is not None:
        words().print(f"note: {reason}", markup=False)


def _few_pictures(session: Session) -> str | None:
    scorer = session.evaluator.scorer
    words = None if scorer is None else scorer.few(len(session.evaluator.prompts))
    return None if words is None else f"note: {words}"


def _say(note: str | None) -> None:
    if note is not None:
        words().print(note, markup=False)


def _seconds(clock: Clock) -> float | None:
    """What a worker is given of the time: always some."""
    return None if clock.left is None else max(clock.left, 0.001)


def _in_this_process(session: Session, store: Store, study: StudyRecord, clock: Clock) -> str:
    from explorer.plans.plan import InheritancePlan

    config = session.config
    with _progress(store, study, config, clock) as show:
        outcome: Outcome = run_worker(
            store, study.name, session.space, session.evaluator, InheritancePlan.from_json, config.trials,
            _seconds(clock), show, session.info.to_json(), proposals=proposals_of(config, session),
            predictor=session.evaluator.predictor,
        )  # fmt: skip
    return clock.words if outcome.stopped == TIMEOUT else outcome.words


def _in_many(config: SearchConfig, store: Store, study: StudyRecord, clock: Clock) -> str:
    told = config if clock.left is None else replace(config, timeout=_seconds(clock))
    command = [sys.executable, "-m", "studies.cli", "worker", "--study", study.name, *arguments(told, WORKER)]
    started, at_start = time.monotonic(), counts(store, study).finished
    with _progress(store, study, config, clock) as show:
        busy = Busy(StudyLedger(store, study))

        def poll(_alive: int) -> None:
            _say(busy.words())
            show(progress(counts(store, study), config.trials, at_start, time.monotonic() - started))

        exits = run_workers(config.workers, lambda _index: command, {STORAGE_VARIABLE: config.storage}, poll)
    crashed = [str(each) for each in exits if each.crashed]
    finished = counts(store, study).finished
    if crashed and finished < config.trials:
        raise StudyError(f"{len(crashed)} of {config.workers} workers failed: {crashed[0]}")
    unsteady = counts(store, study).unsteady
    also = f", {unsteady_words(unsteady)}" if unsteady else ""
    return f"{finished} of {config.trials} trials are finished{also}"


@contextmanager
def _progress(
    store: Store, study: StudyRecord, config: SearchConfig, clock: Clock
) -> Iterator[Callable[[SearchProgress], None]]:
    """A line that is redrawn on a terminal, otherwise a line for each finished plan."""
    console = words()
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )  # fmt: skip
    reading = Reading(study)
    seen, pace = {"finished": -1}, BaselinePace(config, clock, counts(store, study).finished)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("searching", total=config.trials, words="")

        def show(standing: SearchProgress) -> None:
            if standing.finished == seen["finished"] and standing.words is None:
                return
            seen["finished"] = standing.finished
            reading.refresh(store)
            text = _standing_words(reading, standing)
            bar.update(task, completed=standing.finished, words=text)
            if standing.state == "failed":
                console.print(f"failed: {standing.words}: {standing.reason}", markup=False)
            if standing.state == "unsteady":
                console.print(f"unsteady, to be timed again: {standing.words}: {standing.reason}", markup=False)
            if standing.state == "screened" and not console.is_terminal:
                console.print(f"{standing.words}: {standing.reason}", markup=False)
            if not console.is_terminal and standing.finished:
                event = f" {standing.words}:" if standing.words else ""
                console.print(f"[{standing.finished}/{standing.total}]{event} {text}", markup=False)
            if (note := pace.words(standing)) is not None:
                console.print(note, markup=False)

        yield show


def _standing_words(reading: Reading, standing: SearchProgress) -> str:
    parts = [f"{duration(standing.seconds_left)} left"] if standing.seconds_left is not None else []
    settings = reading.study.settings
    best: list[Any] = without_loss(reading.rows, settings.objectives, settings.steps)
    if best:
        parts.append(f"best at no loss {ratio(best[0].scores['speedup'])} ({best[0].title})")
    if standing.screened:
        parts.append(f"{standing.screened} screened out")
    if standing.unsteady:
        parts.append(f"{standing.unsteady} unsteady")
    parts.append(f"{standing.failed} failed")
    return ", ".join(parts)
