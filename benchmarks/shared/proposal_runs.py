"""The runs of `benchmarks.search_cost`: every way of proposing, on a real study, through the driver of searches."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.cached_scores import CachedEvaluator, Entry, seconds_of
from benchmarks.shared.measure import tell, without_savings
from benchmarks.shared.work_folder import Ticker, WorkFolder, digest
from explorer.errors import StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import baselines
from explorer.timing.profile import Profile
from studies.config import PROPOSALS, SAMPLERS, SearchConfig
from studies.device_lock import on_device
from studies.predicting import calibration
from studies.proposing.proposers import CALIBRATED
from studies.queue.queue import enqueue
from studies.results.rows import trials
from studies.searching.calibrate import calibrate
from studies.searching.driver import run_worker
from studies.searching.profiles import session_workload
from studies.searching.session import Session, open_session
from studies.settings import Objective, SamplerSettings
from studies.storage.saved import Saved
from studies.storage.store import Store

OBJECTIVES = (Objective("latency", "minimize"), Objective("psnr", "maximize"))
SAMPLER = "sampler"
WITH = "+calibrated"
OF_THE_RUN = ("space", "objectives", "sampler", "batch")
"""Settings on which a plan's quality does not depend."""


@dataclass(frozen=True)
class Method:
    """A way of proposing: an Optuna sampler alone, or a kind of proposals of `explorer search`.

    calibrated: whether the study is calibrated, so that plans can be predicted and the space has fitted rules.
    """

    name: str
    sampler: str
    proposals: str
    calibrated: bool


def methods() -> dict[str, Method]:
    """All that the search offers, by name. What does without a calibration is there a second time with one."""
    alone = [(name, name, SAMPLER) for name in reversed(SAMPLERS)]
    kinds = [(kind, "tpe", kind) for kind in PROPOSALS if kind != SAMPLER]
    found = [Method(*each, calibrated=each[2] in CALIBRATED) for each in (*alone, *kinds)]
    more = [replace(each, name=each.name + WITH, calibrated=True) for each in found if not each.calibrated]
    return {method.name: method for method in (*found, *more)}


def usual_methods() -> list[str]:
    """Each way as it is, and the sampler tpe in a space with fitted rules too."""
    return [name for name in methods() if not name.endswith(WITH)]


@dataclass(frozen=True)
class Bench:
    """What all runs share: the model without and with its calibration, and what has been measured of it. points: of
    the calibration, as `studies.searching.calibrate` takes them."""

    plain: Session
    calibrated: Session
    profile: Profile
    work: WorkFolder
    points: int | None = None

    def session(self, method: Method) -> Session:
        return self.calibrated if method.calibrated else self.plain


def open_bench(config: SearchConfig, folder: Path, rounds: int | None = None, points: int | None = None) -> Bench:
    """Load the model, and measure its profile where there is none. rounds: of the profile, by the device's speed by
    default.

    Raises:
        ExplorerError: for what cannot be had or measured.
    """
    config = replace(without_savings(config), objectives=("latency", "psnr"), calibrate=False)
    plain = open_session(config)
    calibrated = open_session(replace(config, calibrate=True), plain.evaluator.pipe)
    facts = {name: value for name, value in plain.settings.to_json().items() if name not in OF_THE_RUN}
    work = WorkFolder(folder / digest(facts))
    if work.read("settings") is None:
        work.write("settings", facts)
    saved = Saved(work.folder / "saved")
    plain, calibrated = (replace(each, evaluator=each.evaluator.with_saved(saved)) for each in (plain, calibrated))
    document = work.get("profile", lambda: _profile(plain, rounds))
    return Bench(plain, calibrated, Profile.from_json(document), work, points)


def _profile(session: Session, rounds: int | None) -> dict[str, Any]:
    from explorer.timing.profiling import profile_pipeline

    with on_device(session.info):
        made = profile_pipeline(
            session.evaluator.pipe, session.config.model, session_workload(session), steps=session.config.steps,
            rounds=rounds, on_progress=tell(),
        )  # fmt: skip
    return made.to_json()


def calibrate_bench(bench: Bench) -> tuple[Session, float]:
    """The calibrated session with the calibration that all methods share, made once; and what it cost in seconds, which
    every calibrated run is charged."""
    session = bench.calibrated
    with bench.work.locked("calibration"), Store.open(bench.work.folder / "calibration.db") as store:
        study = store.create_study("calibration", session.settings)
        made = calibration.load(store, study)
        if made is None:
            clock = seconds_of(session.evaluator.device.type)
            spent, began = (bench.work.read("calibration") or {"seconds": 0.0})["seconds"], clock()
            try:
                made = calibrate(store, study, session, points=bench.points, on_progress=_each_tenth("calibration"))
            finally:  # one that is interrupted goes on with the parts that stand
                bench.work.write("calibration", {"seconds": spent + clock() - began})
    spent = float((bench.work.read("calibration") or {"seconds": made.seconds})["seconds"])
    return session.with_calibration(made), spent


def _each_tenth(words: str) -> Callable[[Any], None]:
    """A line on stderr at each tenth of what a search or a calibration tells of its progress."""
    from studies.cli.commands.output import duration

    seen: set[int] = set()

    def show(progress: Any) -> None:
        tenth = progress.done * 10 // max(1, progress.total)
        if tenth not in seen and progress.seconds_left is not None:
            seen.add(tenth)
            print(f"{words}: {tenth * 10}%, {duration(progress.seconds_left)} left", file=sys.stderr, flush=True)

    return show


def plain_plans(session: Session) -> list[InheritancePlan]:
    """The un-accelerated run and fewer plain steps: what every method begins with, beside its own plans."""
    return [plan for plan in baselines(session.architecture, session.settings.steps) if plan.extracts_always]


def score_baselines(bench: Bench) -> list[Entry]:
    """Every baseline of the study, once: fewer steps, DeepCache, encoder propagation and the 69 rows of Table V."""
    evaluator = CachedEvaluator(bench.plain, bench.profile, bench.work)
    plans = list(bench.plain.baselines())
    missing = [plan for plan in plans if bench.work.read(_document(evaluator, plan)) is None]
    ticker = Ticker(len(missing))
    # Several processes begin at different places, so that they share the work instead of waiting for each other.
    start = int(np.random.default_rng().integers(max(1, len(missing))))
    for plan in [*missing[start:], *missing[:start]]:
        evaluator.entry(plan)
        ticker.tell(f"baseline {plan.describe()}")
    return [evaluator.entry(plan)[0] for plan in plans]


def _document(evaluator: CachedEvaluator, plan: InheritancePlan) -> str:
    return f"plans/{plan.key(evaluator.evaluations(plan))}"


def run_name(method: Method, seed: int, plans: int) -> str:
    return f"runs/{method.name}-{seed}-{plans}"


def run(bench: Bench, method: Method, seed: int, plans: int) -> dict[str, Any]:
    """One search of so many scored plans beside the plain ones, in a database of its own.

    Gives `start` and `plans`, the entries of the plain runs and of the method's own in the order of scoring, and
    `calibration`, the seconds that were spent before the first of them.
    """
    session, spent = bench.session(method), 0.0
    if method.calibrated:
        session, spent = calibrate_bench(bench)
    settings = replace(session.settings, objectives=OBJECTIVES, sampler=SamplerSettings(method.sampler, {}, seed))
    evaluator = CachedEvaluator(session, bench.profile, bench.work)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "explorer.db") as store:
        study = store.create_study("hypervolume", settings)
        begin = plain_plans(session)
        added = enqueue(store, study, begin, session.space, evaluator.evaluations)
        outcome = run_worker(
            store, study.name, session.space, evaluator, InheritancePlan.from_json, added + plans,
            on_progress=_each_tenth(f"{method.name}, seed {seed}"), device=session.info.to_json(),
            proposals=method.proposals, predictor=evaluator.inner.predictor,
        )  # fmt: skip
        by = {row.key: row.proposed_by for row in trials(store, study)}
    entries = evaluator.entries
    if len(entries) < added:
        raise StudyError(f"{method.name} scored {len(entries)} of {added} plain runs: {outcome.words}.")
    return {
        "method": asdict(method), "seed": seed, "calibration": spent, "words": outcome.words,
        "failed": outcome.failed, "duplicates": outcome.duplicates,
        "start": [entry.to_json() for entry in entries[:added]],
        "plans": [entry.to_json() | {"by": by[entry.key]} for entry in entries[added:]],
    }  # fmt: skip


def make_runs(bench: Bench, chosen: list[Method], seeds: int, plans: int) -> list[str]:
    """Make the runs that are missing and that no other process is making; returns the names of those left to others.
    Seeds come first, so that an interrupted benchmark has every method."""
    wanted = [(method, seed) for seed in range(seeds) for method in chosen]
    ticker, left = Ticker(len(wanted)), []
    for method, seed in wanted:
        name = run_name(method, seed, plans)
        with bench.work.locked(name.replace("/", "-"), wait=False) as mine:
            if bench.work.read(name) is not None:
                ticker.tell(name, worked=False)
            elif not mine:
                left.append(name)
                ticker.tell(name, worked=False)
            else:
                bench.work.write(name, run(bench, method, seed, plans))
                ticker.tell(name)
    return [name for name in left if bench.work.read(name) is None]


def standing_runs(work: WorkFolder, chosen: list[Method], seeds: int, plans: int) -> Iterator[dict[str, Any]]:
    for method in chosen:
        for seed in range(seeds):
            if (document := work.read(run_name(method, seed, plans))) is not None:
                yield document
