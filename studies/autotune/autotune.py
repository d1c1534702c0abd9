"""From a model and a limit on quality to a certified export, within a budget of time.

The budget is split by what a probe of the machine predicts: the search gets what a certificate does not need. The
search and the certificates end by the clock, so a wrong prediction makes fewer plans or pictures, not a longer run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from explorer.errors import ScoreError, StudyError
from explorer.files import write_whole
from explorer.plans.plan import InheritancePlan, plain_name
from explorer.plans.plan_files import PLAN_FILE
from explorer.plans.strategies import PLAIN_STEPS, strategy
from explorer.quality.registry import LEAST
from explorer.unet.architecture import Architecture
from search_spaces.axes import choices
from studies.autotune import sharing
from studies.autotune.sharing import SPARE, Split, baseline_count, split_budget
from studies.certificates.certify import certify, clip_metric
from studies.certificates.document import certificate_folder
from studies.certificates.export import exported_plan, set_aside, write_export
from studies.certificates.held_out import check_held_out
from studies.choosing.choice import Bound
from studies.choosing.judgement import FAILS, HOLDS, QualityLimits
from studies.choosing.pick import ScoredPlan, bounds_within, candidates, eligible
from studies.clock import OutOfTime
from studies.config import SearchConfig
from studies.documents import read_document
from studies.predicting.calibration import Calibration
from studies.queue.queue import counts, enqueue
from studies.searching.calibrate import CalibrationProgress, calibrate
from studies.searching.driver import Progress, run_worker
from studies.searching.further import left_out
from studies.searching.pace import probe
from studies.searching.preparation import calibrated, proposals_of, with_stored
from studies.searching.session import Session, open_session
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import FAILED, UNSTEADY

# The names on disk are those of `explorer tune`, as the command was called first, so that its folders resume.
WORK = ".tune"
STATE = "tune.json"
STUDY = "tune"
OBJECTIVES = ("latency", "clip", "psnr")
SILENT_SECONDS = 10.0  # between two words of a calibration
TRY_SEEDS = 100_000
"""How far the seeds of one certificate lie from those of the next: more than any has pictures."""
FIRST_LOOK = 0.35  # of a certificate's pictures, after which a claim that fails is given up

Say = Callable[[str], None]


def first_plans(
    architecture: Architecture, steps: int, values: Mapping[str, Iterable[str]] | None = None
) -> list[InheritancePlan]:
    """The controls and named strategies in the order in which they are worth trying when time is short. values: beside
    the pipeline's own, by the name of the axis; each has its controls of fewer steps too."""
    names = ["DC0/P3+f2", "DC0/P2+f2", "DC1/P3+f2", "DC0/P5+f2", "DC2/P3+f2", "DC0/P3", "DC1/P5+f2", "DC2/P5+f2"]
    names += ["DC1/P2+f2", "CO6/P3+f2", "DC2/P2+f2", "DC1/P3", "DC2/P3", "CO6/P2+f2", "DC0/P5", "CO6/P5†"]
    plain = list(dict.fromkeys(max(1, round(steps * n / 50)) for n in PLAIN_STEPS if round(steps * n / 50) < steps))
    further = [(axis, value) for axis in choices() for value in (values or {}).get(axis.name, ())]
    controls: list[list[InheritancePlan]] = []
    for count in plain:
        own = strategy(plain_name(count), unet=architecture)
        controls.append([own, *(axis.control(own, value) for axis, value in further)])
    named = [strategy(name, steps=steps, unet=architecture) for name in names]
    mixed = [strategy(f"plain@{steps}", unet=architecture)]
    for i, plan in enumerate(named):
        mixed += controls[i] if i < len(controls) else []
        mixed.append(plan)
    return mixed


@dataclass
class Tuning:
    """One `explorer autotune`: its folder, its clock, and what is remembered of it between runs."""

    config: SearchConfig
    limits: QualityLimits
    budget: float
    folder: Path
    say: Say
    certifying: SearchConfig
    spent_before: float = 0.0
    budget_before: float = 0.0
    tried: list[str] = field(default_factory=list)
    split: Split | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def work(self) -> Path:
        return self.folder / WORK

    @property
    def spent(self) -> float:
        """Seconds used, those of earlier runs included."""
        return self.spent_before + time.monotonic() - self.began

    @property
    def left(self) -> float:
        return self.budget * (1 - SPARE) - self.spent

    def load(self) -> None:
        """Read what an earlier run left. Raises StudyError for a folder that holds other things."""
        if self.folder.exists() and not self.folder.is_dir():
            raise StudyError(f"{self.folder} is a file; give a folder with --out.")
        if not (self.work / STATE).is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise StudyError(
                    f"the folder {self.folder} is not empty and not of an earlier `explorer autotune`; give another "
                    "--out."
                )
            return
        path = self.work / STATE
        shape = {"spent": (int, float), "budget": (int, float), "split": dict}
        document = read_document(path, shape, "give another --out")
        try:
            self.spent_before = float(document["spent"])
            self.budget_before = float(document["budget"])
            self.split = Split.from_json(document["split"]).grown(max(1.0, self.budget / self.budget_before))
            self.tried = [str(key) for key in document.get("tried", [])]
        except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
            raise StudyError(f"{path} cannot be read ({error!r:.200}); give another --out.") from error

    @property
    def standing(self) -> bool:
        """Whether the folder holds an export: until this run has chosen, that of an earlier one."""
        return (self.folder / PLAN_FILE).is_file()

    def save(self) -> None:
        assert self.split is not None
        document = {"spent": self.spent, "budget": max(self.budget, self.budget_before), "split": self.split.to_json()}
        document["tried"] = self.tried
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            write_whole(self.work / STATE, json.dumps(document).encode())
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder} ({error.strerror or error}); give another --out."
            ) from error


@dataclass(frozen=True)
class AutotuneResult:
    """What came out. chosen: None when no plan kept the limits; certificate: of the chosen one, or of the last that did
    not hold. given_up: those whose certificate did not hold; untried: those that no time was left for. bounds: what the
    limits allow in this study. aside: where the export of an earlier run was moved, as nothing was chosen."""

    chosen: ScoredPlan | None
    certificate: dict[str, Any] | None
    found: list[ScoredPlan]
    given_up: list[ScoredPlan]
    untried: list[ScoredPlan]
    plans: int
    failed: int
    clip: float
    bounds: list[Bound]
    aside: Path | None = None


def begin(tuning: Tuning) -> Session:
    """Load the model, probe the machine unless an earlier run has, and open the search's session.

    Raises:
        StudyError: when the budget is too small. Nothing is written then.
    """
    tuning.load()
    config = tuning.config
    session = open_session(replace(config, prompt_count=None))
    check_held_out(open_session(tuning.certifying, session.evaluator.pipe), session.settings)
    if tuning.split is None:
        speed = probe(session)
        tuning.split = split_budget(tuning.budget, tuning.spent, speed, len(session.evaluator.prompts))
    split = tuning.split
    tuning.save()
    if tuning.standing:
        tuning.say(f"{tuning.folder} holds the export of an earlier run, until this one has chosen")
    first = f"a calibration of about {split.calibration:.0f} s, by which plans are proposed, then " * bool(
        split.calibration
    )
    tuning.say(
        f"{first}about {split.plans} plans on {split.prompts} prompts, then a certificate of about {split.pictures} "
        "pictures"
    )
    chosen = replace(
        config, prompt_count=split.prompts, pairs=split.pairs, storage=str(tuning.work / "explorer.db"),
        calibrate=split.calibration > 0,
    )  # fmt: skip
    return open_session(chosen, session.evaluator.pipe)


def search(tuning: Tuning, session: Session, store: Store) -> tuple[Session, StudyRecord]:
    """The calibration where the budget allows one, the baselines, then what is proposed, until the search's share of
    the budget is used. A calibration that would leave no time for the least number of plans is given up, and the same
    command of a later run, with a larger budget, goes on with it.

    Returns:
        The session as the plans were scored by it, and their study.
    """
    split = tuning.split
    assert split is not None
    study = store.create_study(STUDY, session.settings)
    session = with_stored(store, study, session, tuning.say)
    try:
        session = calibrated(store, study, session, partial(_calibrated, tuning))
    except OutOfTime as error:
        tuning.say(f"{error}; plans are proposed without it")
    first = first_plans(session.architecture, session.config.steps, session.space.setting.values)
    first = first[: baseline_count(split.plans)]
    enqueue(store, study, first, session.space, session.evaluator.evaluations)
    seconds = tuning.left - split.certificate_seconds
    until = time.monotonic() + seconds

    def show(progress: Progress) -> None:
        tuning.save()
        if progress.words is not None:
            state = "" if progress.reason is None else f": {progress.reason}"
            state = f" failed{state}" if progress.state == FAILED else state
            state = f" is unsteady{state}" if progress.state == UNSTEADY else state
            left = max(0.0, until - time.monotonic())
            tuning.say(f"search, plan {progress.finished}: {progress.words}{state} ({left:.0f} s of it left)")

    # A plan in progress is finished, which takes half a plan beyond the time on average.
    timeout = seconds - split.plan_seconds / 2
    standing = counts(store, study)
    if timeout > 0 or not standing.done:  # one plan at least, whatever the time
        total, lasts = (None, timeout) if timeout > 0 else (standing.begun + 1, None)
        run_worker(
            store, study.name, session.space, session.evaluator, InheritancePlan.from_json, total, lasts, show,
            session.info.to_json(), proposals=proposals_of(session.config, session),
            predictor=session.evaluator.predictor,
        )  # fmt: skip
    return session, study


def _calibrated(tuning: Tuning, store: Store, study: StudyRecord, session: Session) -> Calibration:
    """`calibrate` with the command's own words."""
    said = -SILENT_SECONDS

    def show(standing: CalibrationProgress) -> None:
        nonlocal said
        if standing.seconds - said >= SILENT_SECONDS:
            said = standing.seconds
            tuning.save()
            left = "" if standing.seconds_left is None else f" ({standing.seconds_left:.0f} s of it left)"
            tuning.say(f"calibration, {standing.words}: {standing.done} of {standing.total} evaluations{left}")

    split = tuning.split
    assert split is not None
    seconds = tuning.left - split.certificate_seconds - sharing.LEAST_PLANS * split.plan_seconds
    made = calibrate(store, study, session, on_progress=show, seconds=seconds)
    if sentence := left_out(session.space.setting, made):
        tuning.say(sentence.removesuffix("."))
    return made


def finish(tuning: Tuning, session: Session, store: Store, study: StudyRecord) -> AutotuneResult:
    """Pick, certify, and where a certificate does not hold take the next; then export what was chosen.

    Raises:
        ScoreError: when the un-accelerated run could not be scored.
    """
    assert tuning.split is not None and session.evaluator.scorer is not None
    name = clip_metric(session.evaluator.scorer)
    plain, found = candidates(store, study, name)
    if plain is None:
        raise ScoreError(f"the un-accelerated run of {session.config.model} could not be scored; see `explorer show`.")
    clip, bounds = plain.scores[name].value, bounds_within(tuning.limits, name, plain)
    standing = counts(store, study)
    # Small enough that the clock is looked at often.
    batch = max(1, min(session.settings.batch, tuning.split.pictures // 8))
    certified = open_session(replace(tuning.certifying, batch=batch, pairs=tuning.split.pairs), session.evaluator.pipe)
    quiet = session.evaluator.meter.quiet  # one wait for quiet, however many certificates
    certified = replace(certified, evaluator=certified.evaluator.with_quiet(quiet))
    given_up: list[ScoredPlan] = []
    best: tuple[ScoredPlan, dict[str, Any]] | None = None
    while left := eligible(found, bounds, given_up):
        choice = left[0]
        stands = choice.row.key in tuning.tried  # by an earlier run, and read from its folder
        if best is not None and tuning.left < tuning.split.least_certificate and not stands:
            break
        document = _certificate(tuning, certified, store, study, choice, found)
        if document["claim"]["verdict"] == HOLDS:
            best = choice, document
            break
        if best is None or document["claim"]["verdict"] != FAILS:
            best = choice, document
        given_up.append(choice)
    holds = best is not None and best[1]["claim"]["verdict"] != FAILS
    result = AutotuneResult(
        best[0] if best and holds else None, best[1] if best else None, found, given_up,
        [] if holds else eligible(found, bounds, given_up), standing.done + standing.screened, standing.failed, clip,
        bounds,
    )  # fmt: skip
    if result.chosen is not None:
        write_export(store, study, result.chosen.row, tuning.folder, force=True)
    else:  # what an earlier run chose, by other limits or fewer pictures, must not pass for this one's
        result = replace(result, aside=set_aside(tuning.folder))
    tuning.save()
    return result


def _certificate(
    tuning: Tuning, session: Session, store: Store, study: StudyRecord, choice: ScoredPlan, found: list[ScoredPlan]
) -> dict[str, Any]:
    """The choice's certificate: a first look at some pictures, and the rest unless the claim fails by then.

    Each plan that is tried has seeds of its own, the same ones when it is tried again: a plan is not judged by pictures
    that have chosen it. The document tells the others.
    """
    assert tuning.split is not None
    if choice.row.key not in tuning.tried:
        tuning.tried.append(choice.row.key)
        tuning.save()
    number = tuning.tried.index(choice.row.key)
    session = session.reseeded((session.settings.seed + number * TRY_SEEDS) % 2**31)
    names = {each.row.key: each.row.nickname for each in found}
    others = [names.get(key, key) for key in tuning.tried if key != choice.row.key]
    plan = exported_plan(study, choice.row)
    folder = certificate_folder(store, study, choice.row.key)
    whole = tuning.split.pictures
    look = min(whole, max(LEAST, round(FIRST_LOOK * whole)))
    tuning.say(f"certifying {choice.row.nickname}, {choice.speedup:.2f}x in the search: timing it beside plain steps")

    def show(done: int, total: int, left: float | None) -> None:
        tuning.save()
        words = "" if left is None else f" ({min(left, max(0.0, tuning.left)):.0f} s of it left)"
        tuning.say(f"certificate of {choice.row.nickname}: {done} of {total} pictures{words}")

    def run(count: int) -> dict[str, Any]:
        return certify(
            session, plan, choice.row.words, folder, count=count, limits=tuning.limits,
            seconds=max(0.0, tuning.left - 1), also_certified=others, on_progress=show,
        )  # fmt: skip

    document = run(look)
    if document["claim"]["verdict"] == FAILS or tuning.left < 2 or look == whole:
        return document
    return run(whole)
