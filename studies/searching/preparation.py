"""How a study is made ready to be searched, the same way for `explorer search`, `worker` and `autotune`: whether it is
calibrated, what exists of it, and who proposes its plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from search_spaces.space import BaseSpace
from studies.config import AUTO, SearchConfig
from studies.predicting.calibration import Calibration, load
from studies.queue.quiet_machine import StudyLedger
from studies.scoring.racing import Race
from studies.searching.calibrate import work
from studies.searching.pace import glance
from studies.searching.session import Session
from studies.storage.saved import Saved
from studies.storage.store import Store, StudyRecord

WORTH = 20
"""Plans beyond the baselines that a calibration must be followed by. It costs as much as some fifty plans of 8 prompts,
or seven of 64, and ten proposals by it reach what takes more than sixty others (`benchmarks/search_cost.py`): with
twenty a study is ahead, and with fewer the baselines are most of it."""
CALIBRATED = "planned"
"""What `--proposals auto` is in a calibrated study, whose plans can be predicted."""
UNCALIBRATED, ELSEWHERE = "seeds", "sampler"
"""What it is in another one: the seeds, and the sampler once they are used up. They are plans of the spaces of
`search_spaces` under the study's own scheduler; elsewhere the sampler has to do."""


def decided(session: Session) -> Session:
    """The session of a new study, calibrated if the user did not decide and its plans and time leave room for it."""
    if session.config.calibrate is not None:
        return session
    if _room(session) >= WORTH:
        return session.calibrating()
    return replace(session, config=replace(session.config, calibrate=False))


def _room(session: Session) -> int:
    """How many plans a new study would score beyond its baselines if it were calibrated first; 0 where it cannot be, or
    has no quality to find."""
    config = session.config
    if not config.quality_objectives or not work(session) or config.trials < WORTH:
        return 0
    baselines = sum(1 for _ in session.baselines())
    room = config.trials - baselines
    if config.timeout is None or room < WORTH:
        return room
    speed = glance(session)
    prompts = len(session.evaluator.prompts)
    fitting = speed.plans(config.timeout - speed.calibration, prompts, config.pairs) * config.workers
    return min(room, fitting - baselines)


def prepared(
    store: Store,
    study: StudyRecord,
    session: Session,
    calibrate: Callable[[Store, StudyRecord, Session], Calibration],
    say: Callable[[str], None] = lambda sentence: None,
) -> Session:
    """The session with what is stored of the study, which is calibrated first where it is to be and is not yet.

    Args:
        store: Holds the study.
        study: Which one.
        session: Its session.
        calibrate: Makes the calibration.
        say: Told when timings wait for a quiet machine.
    """
    return calibrated(store, study, with_stored(store, study, session, say), calibrate)


def with_stored(
    store: Store, study: StudyRecord, session: Session, say: Callable[[str], None] = lambda sentence: None
) -> Session:
    """The session with what the study has saved, the race of its plans, and its calibration where there is one. The
    study counts how long its timings wait for a quiet machine."""
    evaluator = session.evaluator
    evaluator = evaluator.with_quiet(evaluator.meter.quiet.on(StudyLedger(store, study), say))
    evaluator = evaluator.with_saved(Saved.of(store.folder, study.folder, session.settings))
    if session.config.racing != "off" and evaluator.scorer is not None:
        evaluator = evaluator.with_race(partial(Race, store, study))
    session = replace(session, evaluator=evaluator)
    stored = load(store, study)
    return session if stored is None else session.with_calibration(stored)


def calibrated(
    store: Store,
    study: StudyRecord,
    session: Session,
    calibrate: Callable[[Store, StudyRecord, Session], Calibration],
) -> Session:
    """The session with a calibration, which `calibrate` makes, where the study is to have one and has none yet."""
    if not session.config.calibrate or session.evaluator.predictor is not None:
        return session
    return session.with_calibration(calibrate(store, study, session))


def proposals_of(config: SearchConfig, session: Session) -> str:
    """The kind of proposers that was asked for, and what `auto` is."""
    if config.proposals != AUTO:
        return config.proposals
    if session.evaluator.predictor is not None:
        return CALIBRATED
    seeded = isinstance(session.space, BaseSpace) and not session.space.setting.values
    return UNCALIBRATED if seeded else ELSEWHERE
