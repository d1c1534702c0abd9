"""Time an exported plan against the stock pipeline and DeepCache, alternating in one process.

Each contender alternates with the stock pipeline (A B, B A, ...) and its speed-up is the median ratio of the pairs, so
that what drifts on the machine meanwhile touches both sides. With a compile mode the stock pipeline is compiled too:
the compiler's gain is not the plan's, and has a row of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from explorer.errors import ExplorerError
from explorer.estimate import Estimate
from explorer.models.workload import twin
from explorer.plans.plan import InheritancePlan
from explorer.timing.latency import Latency
from studies.searching.session import Session
from studies.wording import speed_words

STOCK, EAGER, PLAN = "stock", "eager", "plan"
INTERVALS = (3, 5)
INSTALL = "DeepCache is not installed; `pip install DeepCache==0.1.1` adds it to the comparison."


@dataclass(frozen=True)
class BenchRow:
    """A contender: its latency against the stock pipeline, or why it could not be timed. scheduler: where it is another
    one than the pipeline's."""

    role: str
    name: str
    steps: int
    latency: Latency | None
    problem: str | None = None
    scheduler: str | None = None

    @property
    def speedup(self) -> Estimate | None:
        """None where it was not timed, or its timings are unsteady."""
        return self.latency.speedup if self.latency is not None and self.latency.unsteady is None else None

    def to_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "name": self.name,
            "steps": self.steps,
            "scheduler": self.scheduler,
            "latency": self.latency.to_json() if self.latency else None,
            "speedup": self.speedup.to_json() if self.speedup else None,
            "problem": self.problem,
        }


def bench(
    session: Session, plan: InheritancePlan, on_progress: Callable[[int, int, float | None], None] | None = None
) -> list[BenchRow]:
    """Time the plan, the stock pipeline (against itself: how far this machine can be trusted), and DeepCache; with a
    compile mode also the stock pipeline that is not compiled.

    Raises:
        ExplorerError: when the plan does not run on this model. What fails of DeepCache is told in its row.
    """
    evaluator = session.evaluator
    plain = f"plain@{evaluator.steps}"

    def eager() -> BenchRow:
        return BenchRow(
            EAGER, f"{plain}, not compiled", evaluator.steps, evaluator.latency_of(evaluator.pipe, evaluator.steps)
        )

    contenders: list[Callable[[], BenchRow]] = [
        lambda: BenchRow(PLAN, plan.describe(), plan.steps, evaluator.latency(plan), scheduler=plan.scheduler),
        lambda: BenchRow(STOCK, plain, evaluator.steps, evaluator.latency_of(evaluator.stock, evaluator.steps)),
        *([eager] if evaluator.compile != "off" else []),
        *(lambda interval=interval: _deepcache(session, interval) for interval in INTERVALS if find_spec("DeepCache")),
    ]  # fmt: skip
    found = []
    for number, contender in enumerate(contenders):
        if on_progress is not None:
            on_progress(number, len(contenders), None)
        found.append(contender())
    return found


def _deepcache(session: Session, interval: int) -> BenchRow:
    """DeepCache (arXiv 2312.00858) at branch 0, on a UNet of its own: a shallow copy would share what it patches."""
    evaluator = session.evaluator
    # It replaces forwards of the eager modules, and does not go with the compiler.
    name = f"DeepCache, interval {interval}{'' if evaluator.compile == 'off' else ', not compiled'}"
    try:
        with _patched(evaluator.pipe, interval) as pipe:
            return BenchRow(f"deepcache-{interval}", name, evaluator.steps, evaluator.latency_of(pipe, evaluator.steps))
    except ExplorerError:
        raise
    except Exception as error:  # it was written for older versions of diffusers, and asserts and indexes freely
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BenchRow(
            f"deepcache-{interval}", name, evaluator.steps, None, f"it does not run on this model ({first})"
        )


class _patched:
    """A copy of the pipeline with DeepCache at work, for as long as the block runs."""

    def __init__(self, pipe: Any, interval: int) -> None:
        from DeepCache import DeepCacheSDHelper

        self.pipe = twin(pipe)
        self.pipe.unet = copy.deepcopy(pipe.unet)
        self.helper = DeepCacheSDHelper(pipe=self.pipe)
        self.helper.set_params(cache_interval=interval, cache_branch_id=0)

    def __enter__(self) -> Any:
        self.helper.enable()
        return self.pipe

    def __exit__(self, *_: object) -> None:
        self.helper.disable()


def compiler_words(found: list[BenchRow]) -> str:
    """What compiling alone gives the stock pipeline; empty where nothing is compiled."""
    for row in found:
        if row.role == EAGER and row.latency is not None and row.latency.unsteady is None:
            speed = row.latency.speedup
            gain = Estimate(1 / speed.value, 1 / speed.high, 1 / speed.low, speed.n)
            return f"Compiled, the stock pipeline is {speed_words(gain, 'it is without the compiler')}."
    return ""


def contenders(found: list[BenchRow]) -> Iterator[BenchRow]:
    """What is shown: the stock pipeline first, then the surely fastest, last what could not be timed."""
    yield from (row for role in (STOCK, EAGER) for row in found if row.role == role)
    others = [row for row in found if row.role not in (STOCK, EAGER)]
    yield from sorted(others, key=lambda row: -(row.speedup.low if row.speedup else 0.0))
