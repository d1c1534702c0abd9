"""From a model and a limit on quality to a certified export, within a budget of time.

The budget is split by what a probe of the machine predicts: the search gets what a certificate does not need. Every
stage ends by the clock, so a wrong prediction makes fewer plans or pictures, not a longer run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explorer.architecture import Architecture
from explorer.errors import ScoreError, StudyError
from explorer.plan import InheritancePlan, plain_name
from explorer.plan_files import PLAN_FILE
from explorer.strategies import PLAIN_STEPS, strategy
from studies.certificate import certificate_folder
from studies.certify import LEAST, certify, check_held_out, clip_metric
from studies.choice import Bound
from studies.config import SearchConfig
from studies.documents import read_document
from studies.driver import Progress, run_worker
from studies.export import exported_plan, set_aside, write_export
from studies.judgement import FAILS, HOLDS, Limits
from studies.pick import Candidate, bounds_within, candidates, eligible
from studies.pictures import write_whole
from studies.queue import counts, enqueue
from studies.session import Session, open_session
from studies.store import Store, StudyRecord

WORK = ".tune"
STATE = "tune.json"
STUDY = "tune"
OBJECTIVES = ("latency", "clip", "psnr")
PROMPT_COUNTS = (64, 48, 32, 24, 16, 12, LEAST)
GOOD_PLANS, LEAST_PLANS = 40, 6
CERTIFICATE_SHARE, BASELINE_SHARE = 0.35, 0.6
SPARE = 0.03
AVERAGE_COST = 0.6  # of a candidate's run over the full one: what is worth trying lies around it
MOST_PICTURES = 2000
TRY_SEEDS = 100_000
"""How far the seeds of one certificate lie from those of the next: more than any has pictures."""
FIRST_LOOK = 0.35  # of a certificate's pictures, after which a claim that fails is given up

Say = Callable[[str], None]


@dataclass(frozen=True)
class Speed:
    """What a probe of this machine found, in seconds: of one un-accelerated denoising loop, of a picture with
    everything, of scoring a picture."""

    loop: float
    picture: float
    scoring: float

    def trial(self, prompts: int, pairs: int) -> float:
        """A candidate of the search."""
        return (5 + pairs) * AVERAGE_COST * self.loop + pairs * self.loop + prompts * self._pictures(1)

    def first(self, prompts: int, pairs: int) -> float:
        """The un-accelerated trial, with the pictures that the others stand beside."""
        return (10 + 2 * pairs) * self.loop + prompts * (2 * self.picture + self.scoring)

    def certificate(self, count: int, pairs: int) -> float:
        latencies = (15 + 2 * pairs + 3 * ((5 + pairs) * AVERAGE_COST + pairs)) * self.loop
        return latencies + count * (self.picture + self.scoring + self._pictures(3))

    def _pictures(self, runs: int) -> float:
        return runs * (AVERAGE_COST * self.picture + self.scoring)


@dataclass(frozen=True)
class Split:
    """How a budget is used: prompts and timed pairs of the search, about how many plans it scores and what one takes;
    the seconds kept for certificates, the pictures of one, and what the least one takes."""

    prompts: int
    pairs: int
    plans: int
    plan_seconds: float
    certificate_seconds: float
    pictures: int
    least_certificate: float

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, document: Any) -> Split:
        """Raises TypeError or ValueError for what is none."""
        found = cls(**document)
        whole = (found.prompts, found.pairs, found.plans, found.pictures)
        seconds = (found.plan_seconds, found.certificate_seconds, found.least_certificate)
        sound = all(0 < float(value) < 1e9 for value in (*whole, *seconds))
        if not sound or not all(type(value) is int for value in whole):
            raise ValueError("its split is not of numbers above zero")
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
    """The most telling search and certificate that fit into `budget`, of which `spent` seconds are gone; `prompts` is
    how many there are.

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
    search = left - for_certificate
    chosen, pairs = LEAST, 3
    for pairs_tried in (7, 3):
        for count in PROMPT_COUNTS:
            if count <= prompts and _plans(search, speed, count, pairs_tried) >= GOOD_PLANS:
                chosen, pairs = max((count, pairs_tried), (chosen, pairs))
    plans = max(_plans(search, speed, chosen, pairs), LEAST_PLANS)
    pictures = LEAST
    while pictures < MOST_PICTURES and speed.certificate(pictures + LEAST, pairs) <= for_certificate:
        pictures += LEAST
    trial, least_certificate = speed.trial(chosen, pairs), speed.certificate(LEAST, pairs)
    return Split(chosen, pairs, plans, trial, for_certificate, pictures, least_certificate)


def _plans(seconds: float, speed: Speed, prompts: int, pairs: int) -> int:
    return int((seconds - speed.first(prompts, pairs)) / speed.trial(prompts, pairs))


def probe(session: Session) -> Speed:
    """Time one loop and a few pictures of the un-accelerated pipeline."""
    evaluator, scorer = session.evaluator, session.evaluator.scorer
    assert scorer is not None
    plan = InheritancePlan(session.architecture, evaluator.steps)
    chosen = evaluator.prompts[:LEAST]
    with evaluator.painter(plan) as paint:
        paint(chosen[:1], 0, evaluator.steps)  # what is allocated and compiled at the first call counts for no other
        start = time.perf_counter()
        paint(chosen[:1], 0, evaluator.steps)
        loop = time.perf_counter() - start
        start = time.perf_counter()
        pictures = paint(chosen, 0, evaluator.steps)
        picture = (time.perf_counter() - start) / len(chosen)
    start = time.perf_counter()
    scorer.score(pictures, chosen, pictures)
    return Speed(loop, picture, (time.perf_counter() - start) / len(chosen))


def first_plans(architecture: Architecture, steps: int, schedulers: Sequence[str] = ()) -> list[InheritancePlan]:
    """The controls and named strategies in the order in which they are worth trying when time is short. schedulers:
    further ones, of which each has its controls of fewer steps beside the own one's."""
    names = ["DC0/P3+f2", "DC0/P2+f2", "DC1/P3+f2", "DC0/P5+f2", "DC2/P3+f2", "DC0/P3", "DC1/P5+f2", "DC2/P5+f2"]
    names += ["DC1/P2+f2", "CO6/P3+f2", "DC2/P2+f2", "DC1/P3", "DC2/P3", "CO6/P2+f2", "DC0/P5", "CO6/P5†"]
    plain = list(dict.fromkeys(max(1, round(steps * n / 50)) for n in PLAIN_STEPS if round(steps * n / 50) < steps))
    own_first = (None, *schedulers)
    controls = [strategy(plain_name(count, name), unet=architecture) for count in plain for name in own_first]
    named = [strategy(name, steps=steps, unet=architecture) for name in names]
    mixed = [strategy(f"plain@{steps}", unet=architecture)]
    for i, plan in enumerate(named):
        mixed += controls[i * len(own_first) : (i + 1) * len(own_first)]
        mixed.append(plan)
    return mixed


@dataclass
class Tuning:
    """One `explorer tune`: its folder, its clock, and what is remembered of it between runs."""

    config: SearchConfig
    limits: Limits
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
                    f"the folder {self.folder} is not empty and not of an earlier `explorer tune`; give another --out."
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
class Result:
    """What came out. chosen: None when no plan kept the limits; certificate: of the chosen one, or of the last that did
    not hold. given_up: those whose certificate did not hold; untried: those that no time was left for. bounds: what the
    limits allow in this study. aside: where the export of an earlier run was moved, as nothing was chosen."""

    chosen: Candidate | None
    certificate: dict[str, Any] | None
    found: list[Candidate]
    given_up: list[Candidate]
    untried: list[Candidate]
    plans: int
    failed: int
    clip: float
    bounds: list[Bound]
    aside: Path | None = None


def prepare(tuning: Tuning) -> Session:
    """Load the model, probe the machine unless an earlier run has, and open the search's session.

    Raises:
        StudyError: when the budget is too small. Nothing is written then.
    """
    tuning.load()
    config = tuning.config
    session = open_session(replace(config, prompt_count=None))
    check_held_out(open_session(tuning.certifying, session.evaluator.pipe), session.settings)
    if tuning.split is None:
        tuning.split = split_budget(
            tuning.budget, tuning.spent, probe(session), len(session.evaluator.prompts)
        )  # fmt: skip
    split = tuning.split
    tuning.save()
    if tuning.standing:
        tuning.say(f"{tuning.folder} holds the export of an earlier run, until this one has chosen")
    tuning.say(
        f"about {split.plans} plans on {split.prompts} prompts, then a certificate of about {split.pictures} pictures"
    )
    chosen = replace(config, prompt_count=split.prompts, pairs=split.pairs, storage=str(tuning.work / "explorer.db"))
    return open_session(chosen, session.evaluator.pipe)


def search(tuning: Tuning, session: Session, store: Store) -> StudyRecord:
    """The baselines, then what the sampler proposes, until the search's share of the budget is used."""
    split = tuning.split
    assert split is not None
    study = store.create_study(STUDY, session.settings)
    first = first_plans(session.architecture, session.config.steps, session.other_schedulers)
    most = max(LEAST_PLANS, round(BASELINE_SHARE * split.plans))
    enqueue(store, study, first[:most], session.space, session.evaluator.evaluations)
    seconds = tuning.left - split.certificate_seconds
    until = time.monotonic() + seconds

    def show(progress: Progress) -> None:
        tuning.save()
        if progress.words is not None:
            state = "" if progress.reason is None else f" failed: {progress.reason}"
            left = max(0.0, until - time.monotonic())
            tuning.say(f"search, plan {progress.finished}: {progress.words}{state} ({left:.0f} s of it left)")

    # A plan that is begun is scored to its end: on the average half of one is over the time.
    timeout = seconds - split.plan_seconds / 2
    if timeout > 0 or not counts(store, study).done:
        run_worker(
            store, study.name, session.space, session.evaluator, InheritancePlan.from_json, None, max(timeout, 0.001),
            show, session.info.to_json(),
        )  # fmt: skip
    return study


def finish(tuning: Tuning, session: Session, store: Store, study: StudyRecord) -> Result:
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
    given_up: list[Candidate] = []
    best: tuple[Candidate, dict[str, Any]] | None = None
    while left := eligible(found, bounds, given_up):
        if best is not None and tuning.left < tuning.split.least_certificate:
            break
        choice = left[0]
        document = _certificate(tuning, certified, store, study, choice, found)
        if document["claim"]["verdict"] == HOLDS:
            best = choice, document
            break
        if best is None or document["claim"]["verdict"] != FAILS:
            best = choice, document
        given_up.append(choice)
    holds = best is not None and best[1]["claim"]["verdict"] != FAILS
    result = Result(
        best[0] if best and holds else None, best[1] if best else None, found, given_up,
        [] if holds else eligible(found, bounds, given_up), standing.done, standing.failed, clip, bounds,
    )  # fmt: skip
    if result.chosen is not None:
        write_export(store, study, result.chosen.row, tuning.folder, force=True)
    else:  # what an earlier run chose, by other limits or fewer pictures, must not pass for this one's
        result = replace(result, aside=set_aside(tuning.folder))
    tuning.save()
    return result


def _certificate(
    tuning: Tuning, session: Session, store: Store, study: StudyRecord, choice: Candidate, found: list[Candidate]
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
