"""How many UNet evaluations plans share with the beginning of plans measured before, and what replaying them saves.

    python -m benchmarks.prefix_sharing                        # the share alone, nothing is run
    python -m benchmarks.prefix_sharing --pictures 8 --steps 10    # and in seconds, on the embedded model

Kinds of proposals: the baselines in their order; random draws of the space, and neighbours (`search_spaces.moves`),
each beside the baselines and all that came before; and each kind of local move beside its parent alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import optuna
import torch

from explorer.architecture import Architecture
from explorer.errors import ExplorerError
from explorer.models import load_pipeline
from explorer.pictures import generate
from explorer.plan import InheritancePlan, resolve_run
from explorer.prompts import load_prompts
from explorer.replay import Recording, beginnings, shared
from explorer.runtime import inherit
from explorer.strategies import baselines
from explorer.workload import evaluations_of
from search_spaces import JointSpace, make_space
from search_spaces.moves import MOVES, neighbour


class Counter:
    """What is known so far, without a bound, and how much of it further plans share."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.known: set[bytes] = set()
        self._evaluations: dict[int, int] = {}

    def evaluations(self, plan: InheritancePlan) -> int:
        if plan.steps not in self._evaluations:
            self._evaluations[plan.steps] = evaluations_of(self.scheduler, plan.steps)
        return self._evaluations[plan.steps]

    def hashes(self, plan: InheritancePlan) -> tuple[bytes, ...]:
        return beginnings(plan, resolve_run(plan, self.evaluations(plan)))

    def saved(self, plan: InheritancePlan, known: Iterable[bytes]) -> tuple[int, int]:
        """Evaluations that need not be computed, and all."""
        run = resolve_run(plan, self.evaluations(plan))
        length, computed = shared(known, beginnings(plan, run), run)
        return length - len(computed), len(run.choices)

    def line(self, what: str, plans: Sequence[InheritancePlan]) -> None:
        """One line of the table; a plan that does the same as one before is never paid, and does not count."""
        saved = whole = new = 0
        for plan in plans:
            hashes = self.hashes(plan)
            if hashes[-1] in self.known:
                continue
            more, count = self.saved(plan, self.known)
            saved, whole, new = saved + more, whole + count, new + 1
            self.known.update(hashes)
        print(f"| {what} | {new} | {saved / max(1, whole):.1%} |")


def random_plans(space: Any, count: int, seed: int) -> list[InheritancePlan]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    made: list[InheritancePlan] = []
    while len(made) < count:
        try:
            made.append(space.suggest(study.ask()))
        except ExplorerError:
            continue
    return made


def by_move(space: JointSpace, counter: Counter, parents: Sequence[InheritancePlan], each: int, seed: int) -> None:
    """Each kind of move beside its parent alone; a move that changes nothing is none."""
    random = Random(seed)
    for move in MOVES:
        shares = []
        for _ in range(each):
            parent = random.choice(parents)
            try:
                moved = move(parent, space.setting, random)
                if moved is None or moved.key(counter.evaluations(moved)) == parent.key(counter.evaluations(parent)):
                    continue
                saved, count = counter.saved(moved, set(counter.hashes(parent)))
            except ExplorerError:
                continue
            shares.append(saved / count)
        print(f"| {move.__name__}, beside its parent | {len(shares)} | {sum(shares) / max(1, len(shares)):.1%} |")


def in_seconds(pipe: Any, plans: Sequence[InheritancePlan], pictures: int, limit: int) -> None:
    """The plans' pictures with and without replay, which must be equal to the bit."""
    prompts = load_prompts("emoji-search", pictures).prompts
    recording = Recording(limit)
    seconds = {"computed": 0.0, "replayed": 0.0}
    for plan in plans:
        made = []
        for how, kept in (("computed", None), ("replayed", recording)):
            with inherit(pipe, plan) as handle:
                handle.recording = kept
                start = time.perf_counter()
                made.append(
                    generate(pipe, prompts, seed=0, steps=plan.steps, guidance=3.0, batch_size=pictures)
                )  # fmt: skip
                seconds[how] += time.perf_counter() - start
        if not torch.equal(*made):
            raise SystemExit(f"the pictures of {plan.describe()} differ")
    count = recording.computed + recording.replayed
    print(
        f"\n{len(plans)} plans, {pictures} pictures each, equal to the bit: {seconds['computed']:.1f} s computed, "
        f"{seconds['replayed']:.1f} s with replay ({1 - seconds['replayed'] / seconds['computed']:.0%} less); "
        f"{recording.replayed} of {count} evaluations replayed, {recording.size / 2**20:.0f} MiB held"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--plans", type=int, default=300, help="of each kind of proposal [300]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=0, help="measure seconds with so many pictures a plan [0: not]")
    parser.add_argument("--timed", type=int, default=24, help="plans of which seconds are measured [24]")
    parser.add_argument("--limit", type=int, default=1024, help="MiB that are kept [1024]")
    arguments = parser.parse_args()
    pipe = load_pipeline(arguments.model)
    architecture = Architecture.of(pipe.unet)
    counter = Counter(pipe.scheduler)
    named = list(baselines(architecture, arguments.steps))
    space = make_space("joint", architecture, arguments.steps, counter.evaluations(named[0]))
    assert isinstance(space, JointSpace)
    print(f"{arguments.model}, {arguments.steps} steps of {type(pipe.scheduler).__name__}\n")
    print("| proposals | plans | evaluations that need not be computed |")
    print("|---|---|---|")
    counter.line("baselines, in their order", named)
    draws = random_plans(space, arguments.plans, arguments.seed)
    counter.line("random draws, after those", draws)
    random = Random(arguments.seed)
    parents = [plan for plan in (*named, *draws) if not plan.extracts_always]
    found = (neighbour(random.choice(parents), space.setting, random) for _ in range(arguments.plans))
    near = [plan for plan in found if plan is not None]
    counter.line("neighbours of those, after all", near)
    by_move(space, counter, parents, arguments.plans, arguments.seed)
    if arguments.pictures:
        chosen = random.sample(parents, max(1, arguments.timed // 2))
        moved = [neighbour(plan, space.setting, random) for plan in chosen]
        pairs = [plan for pair in zip(chosen, moved, strict=True) for plan in pair if plan is not None]
        in_seconds(pipe, pairs, arguments.pictures, arguments.limit * 2**20)


if __name__ == "__main__":
    main()
