"""What a candidate's score costs beside the loop that one writes without the explorer, and how well each side ranks.

    python -m benchmarks.candidate_cost --count 64 --truth 1000

The naive loop makes every picture of every plan alone (batch 1, text encoder and decoder included) and scores all of
them; the un-accelerated pictures and the reference's features are made again for each plan. The pictures' repetition is
measured --repeats times and its median charged to every plan; the ratio without it is told as well. Ours is the
search's own worker on a study of the same plans: saved embeddings, un-accelerated pictures made once, batches, prefixes
replayed, and racing beside plain steps, DeepCache and encoder propagation, which stand in the study before and are not
counted. Timing the loop is left out on both sides: the naive one has its time from making pictures anyway.

Both sides' scores are then ranked against --truth pictures of the same plans on held-out prompts with fresh seeds. A
plan that the race drops has only drift, of fewer pictures; other metrics are compared on the plans that have them, on
both sides alike. On a CPU, seconds are processor time. All is kept in --work; a killed run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import optuna

from benchmarks.shared.cached_scores import seconds_of
from benchmarks.shared.candidate_figures import chart, figures_of, table
from benchmarks.shared.measure import run as explained
from benchmarks.shared.measure import without_savings
from benchmarks.shared.naive_loop import NaiveLoop
from benchmarks.shared.report import options, write_figure, write_result
from benchmarks.shared.rescoring import Rescoring
from benchmarks.shared.work_folder import Ticker, WorkFolder, digest
from explorer.errors import ExplorerError, PlanError, StudyError
from explorer.plans.cast import TEACHER
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import PAPER_STRATEGIES, baselines
from explorer.timing.latency import Latency
from search_spaces.neighbour import neighbour
from search_spaces.space import Setting
from studies.certificates.held_out import check_held_out, held_out
from studies.config import SearchConfig
from studies.queue.queue import counts, enqueue
from studies.results.rows import trials
from studies.scored import Part, Scored
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.latency_meter import LatencyMeter
from studies.searching.calibrate import calibrate
from studies.searching.driver import Progress, run_worker
from studies.searching.preparation import prepared
from studies.searching.session import Session, open_session
from studies.storage.saved import Saved
from studies.storage.store import Store

STUDY = "candidates"


def standing_plans(session: Session) -> list[InheritancePlan]:
    """What a race runs against: fewer plain steps, DeepCache's masks and encoder propagation."""
    short = baselines(session.architecture, session.settings.steps, modes=(), complete=False)
    return list(short)


def candidates(session: Session, count: int) -> list[InheritancePlan]:
    """Different plans of three kinds, a third each, in an order of chance: rows of Table V, draws from the space, and
    plans one to three moves away from those that stand."""
    architecture, steps = session.architecture, session.settings.steps
    evaluations = session.evaluator.evaluations
    setting = Setting(architecture, steps, evaluations(InheritancePlan(architecture, steps)))
    random = Random(0)
    seen = {plan.key(evaluations(plan)) for plan in standing_plans(session)}
    found: list[InheritancePlan] = []

    def take(plans: Iterator[InheritancePlan], wanted: int) -> None:
        for plan in plans:
            if wanted <= 0:
                return
            try:
                key = plan.key(evaluations(plan))
            except PlanError:  # its schedule does not fit the run
                continue
            if key not in seen and not plan.extracts_always:
                seen.add(key)
                found.append(plan)
                wanted -= 1

    named = [plan for plan in baselines(architecture, steps) if (plan.name or "").partition("/")[0] in PAPER_STRATEGIES]
    random.shuffle(named)
    take(iter(named), count // 3)
    take(_draws(session), count // 3)
    take(_neighbours(standing_plans(session), setting, random), count - len(found))
    random.shuffle(found)
    return found


def _draws(session: Session) -> Iterator[InheritancePlan]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10_000):
        try:
            yield session.space.suggest(study.ask())
        except ExplorerError:
            continue


def _neighbours(plans: list[InheritancePlan], setting: Setting, random: Random) -> Iterator[InheritancePlan]:
    able = [plan for plan in plans if not plan.extracts_always]
    for _ in range(10_000):
        moved: InheritancePlan | None = random.choice(able)
        for _ in range(random.randint(1, 3)):
            moved = None if moved is None else neighbour(moved, setting, random)
        if moved is not None:
            yield moved


@dataclass(frozen=True, eq=False)
class ClockedMeter(LatencyMeter):
    """A meter that counts the seconds which it takes itself."""

    clock: Callable[[], float] = time.perf_counter
    spent: list[float] = field(default_factory=list)

    def measure(self, *given: Any) -> Latency:
        began = self.clock()
        try:
            return super().measure(*given)
        finally:
            self.spent.append(self.clock() - began)


@dataclass(frozen=True)
class TimedEvaluator:
    """An evaluator whose seconds are kept, by plan, in the work folder. Those of timing the loop are kept as `latency`
    and are not part of `seconds`."""

    session: Session
    work: WorkFolder

    @cached_property
    def meter(self) -> ClockedMeter:
        inner = self.session.evaluator.meter
        return ClockedMeter(**vars(inner), clock=seconds_of(inner.device.type))

    @cached_property
    def evaluator(self) -> CandidateEvaluator:
        return replace(self.session.evaluator, meter=self.meter)

    def evaluations(self, plan: InheritancePlan) -> int:
        return self.session.evaluator.evaluations(plan)

    def rejection(self, plan: InheritancePlan) -> str | None:
        return self.session.evaluator.rejection(plan)

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        clock, before = self.meter.clock, sum(self.meter.spent)
        began = clock()
        scored = self.evaluator.score(plan, part)
        timing = sum(self.meter.spent) - before
        spent = {"seconds": clock() - began - timing, "latency": timing}
        self.work.write(f"ours/{plan.key(self.evaluations(plan))}", spent)
        return scored


def measure_naive(session: Session, plans: list[InheritancePlan], work: WorkFolder, repeats: int) -> list[Any]:
    """Every plan's document, and under `plain` the seconds of the un-accelerated pictures, each time they were made."""
    loop = NaiveLoop(session)
    kept = Saved(work.folder / "naive-un-accelerated")
    ticker = Ticker(len(plans) + repeats)
    for number in range(repeats):
        name = f"naive/plain-{number}"
        stands = work.read(name) is not None
        if not stands:
            made, seconds = loop.plain()
            kept.get("pictures", lambda made=made: {"pictures": made})  # type: ignore[misc]
            work.write(name, {"seconds": seconds})
        ticker.tell("naive loop: un-accelerated pictures", worked=not stands)
    pictures = kept.get("pictures", lambda: {"pictures": loop.plain()[0]})["pictures"]
    found = []
    for plan in plans:
        name = f"naive/{plan.key(session.evaluator.evaluations(plan))}"
        document = work.read(name)
        if document is None:
            try:
                document = loop.score(plan, pictures).to_json()
            except StudyError:
                raise
            except ExplorerError as error:  # such a plan fails on both sides, and is left out
                document = {"scores": {}, "seconds": {}, "error": str(error)}
            work.write(name, document)
            ticker.tell(f"naive loop: {plan.describe()}")
        else:
            ticker.tell("", worked=False)
        found.append(document)
    return found


def measure_ours(config: SearchConfig, session: Session, plans: list[InheritancePlan], work: WorkFolder) -> list[Any]:
    """Every plan's scores and seconds as the search's worker has them; `once` is what all plans share."""
    clock = seconds_of(session.evaluator.device.type)
    with Store.open(config.storage) as store:
        study = store.create_study(STUDY, session.settings)
        session = prepared(store, study, session, calibrate)
        if work.read("ours-once") is None:
            began = clock()
            session.evaluator.baseline_pictures()
            work.write("ours-once", {"seconds": clock() - began})
        evaluator = TimedEvaluator(session, work)
        before = standing_plans(session)
        enqueue(store, study, before, session.space, evaluator.evaluations)
        enqueue(store, study, plans, session.space, evaluator.evaluations, origin="search")
        total = len({plan.key(evaluator.evaluations(plan)) for plan in [*before, *plans]})
        ticker = Ticker(total - counts(store, study).finished)

        def show(progress: Progress) -> None:
            if progress.state is not None:
                ticker.tell(f"ours: {progress.words}")

        run_worker(
            store, STUDY, session.space, evaluator, InheritancePlan.from_json, total, on_progress=show,
            device=session.info.to_json(),
        )  # fmt: skip
        rows = {row.key: row for row in trials(store, study)}
    found = []
    for plan in plans:
        row = rows[plan.key(session.evaluator.evaluations(plan))]
        spent = work.read(f"ours/{row.key}") or {"seconds": 0.0, "latency": 0.0}
        scores = {name: score.value for name, score in row.scores.items()}
        pictures = row.scores["psnr"].n if "psnr" in row.scores else 0
        found.append({"state": row.state, "scores": scores, "pictures": pictures, **spent})
    return found


def measure(arguments: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures, and every plan with what each side measured of it."""
    config = SearchConfig(
        study=STUDY, model=arguments.model, steps=arguments.steps, prompts=arguments.prompts,
        prompt_count=arguments.count, device=arguments.device, dtype=arguments.dtype, resolution=arguments.resolution,
        compile=arguments.compile, batch=arguments.pictures_batch, pairs=arguments.pairs, reference="baseline",
        objectives=("latency", "fd", "kid", "clip"), baselines="short", students=(TEACHER,),
    )  # fmt: skip
    bare = open_session(without_savings(config))
    facts = {name: value for name, value in bare.settings.to_json().items() if name != "sampler"}
    work = WorkFolder(arguments.work / digest(facts | {"plans": arguments.plans}))
    config = replace(config, storage=f"sqlite:///{work.folder / 'ours.db'}")
    plans = candidates(bare, arguments.plans)
    sure = held_out(config)
    truth_session = open_session(without_savings(sure), bare.evaluator.pipe)
    check_held_out(truth_session, bare.settings)
    truth = Rescoring(truth_session, arguments.work / "truth", arguments.truth)
    naive = measure_naive(bare, plans, work, arguments.repeats)
    ours = measure_ours(config, open_session(config, bare.evaluator.pipe), plans, work)
    ticker = Ticker(sum(truth.missing(plan) for plan in (None, *plans)))
    rows: list[dict[str, Any]] = []
    for plan, one, other in zip(plans, naive, ours, strict=True):

        def tell(made: int, plan: InheritancePlan = plan) -> None:
            ticker.tell(f"truth: {plan.describe()}", count=made)

        if one["scores"] and other["scores"]:
            values = {name: score.value for name, score in truth.scores(plan, tell).items()}
            rows.append({"words": plan.describe(), "naive": one, "ours": other, "truth": values})
    plain = [work.read(f"naive/plain-{number}")["seconds"] for number in range(arguments.repeats)]
    signs = {each.name: -1.0 if each.direction == "minimize" else 1.0 for each in truth.scorer.objectives}
    if not rows:
        raise StudyError("no plan could be scored on both sides; the naive loop's folder tells why.")
    figures = figures_of(rows, signs, float(np.median(plain)), work.read("ours-once")["seconds"])
    more = {"left out": len(plans) - len(rows), "count": arguments.count, "truth": arguments.truth}
    return figures | more, rows


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--plans", type=int, default=30, help="candidates")
    parser.add_argument("--steps", type=int, default=20, help="of the un-accelerated run")
    parser.add_argument("--prompts", help="a shipped set, a .txt or a .jsonl file; the search's own by default")
    parser.add_argument("--count", type=int, default=64, help="prompts, one picture each")
    parser.add_argument("--truth", type=int, default=512, help="pictures of each plan that ranks are compared with")
    parser.add_argument("--repeats", type=int, default=3, help="times that the naive loop remakes its baseline")
    parser.add_argument("--pairs", type=int, default=3, help="timed pairs of a latency; not part of the cost")
    parser.add_argument(
        "--pictures-batch", type=int, default=8, help="pictures that ours makes at once; a race stops there"
    )
    parser.add_argument("--work", type=Path, default=Path("build/candidate-cost"), help="where all of it is kept")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.plans, arguments.steps, arguments.count, arguments.truth, arguments.repeats = 6, 6, 8, 8, 1

    def go() -> None:
        for name in ("plans", "steps", "count", "repeats"):
            if getattr(arguments, name) < 1:
                raise StudyError(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
        figures, rows = measure(arguments)
        print(table(figures))
        write_figure(chart(figures, rows), write_result("candidate-cost", figures, rows, arguments))

    explained(go)


if __name__ == "__main__":
    main()
