"""The runs of a plan that are at work. A run's state is its own: several threads, and several pipelines in one thread,
may run by one plan at the same time."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from torch import Tensor

from explorer.compile_modes import CompileMode
from explorer.errors import PlanError
from explorer.plans.plan import Run
from explorer.runtime.graphs import StaticSteps
from explorer.runtime.replay import Replay
from explorer.runtime.timesteps import Schedule, Timesteps, Walk, next_index, value_of
from explorer.unet.mask import Feature

Beginning = tuple[Walk, int]
"""A run begins: the timesteps that it walks over, and the index of its first there."""


class Running:
    """One run of a plan: where it is, and the features that it holds.

    Args:
        resolved: What the plan does at each evaluation that runs.
        start: Evaluations of the schedule that are left out before the first (img2img).
        mode: How its steps are run.
        walk: The timesteps that it walks over; None for one that was started by hand.
        seen: Timesteps that were set before it was started by hand.
    """

    def __init__(
        self, resolved: Run, start: int, mode: CompileMode, walk: Walk | None = None, seen: tuple[Any, ...] = ()
    ) -> None:
        self.resolved, self.start, self.mode, self.walk, self.seen = resolved, start, mode, walk, seen
        self.evaluation = self.peak = 0
        self.shape: tuple[Any, ...] | None = None
        self.extracted = False
        """Whether an extract step has run, since when nothing has made its features unusable."""
        self.cache: dict[Feature, dict[int, Tensor]] = {}
        self.replay: Replay | None = None
        self.static: StaticSteps | None = None
        self.holder: object = None
        """Of the thread that called it last."""
        self.context: Any = None
        """The text states of the last call."""
        self._repeated: int | None = None

    @property
    def count(self) -> int:
        """Evaluations that it makes."""
        return len(self.resolved.choices)

    @property
    def bytes(self) -> int:
        """Bytes of the features held now."""
        if self.static is not None:
            return self.static.bytes
        return sum(t.numel() * t.element_size() for held in list(self.cache.values()) for t in list(held.values()))

    def forget(self) -> None:
        """Let the next evaluation extract: what is kept is too old, or of something else."""
        self.shape = ()

    def reach(self, index: int) -> bool:
        """Go to the evaluation `index` of the schedule. False where another run begins there.

        Raises:
            PlanError: The evaluation is that of the last call.
        """
        at = index - self.start
        if at < max(self.evaluation - 1, 0) or at == self.evaluation - 1 == self.count - 1 == 0:
            return False
        if at == self.evaluation - 1:
            raise self._evaluated_twice()
        if at > self.evaluation:
            self.evaluation = at
            self.forget()  # evaluations were left out
        return True

    def is_next(self, values: list[float], value: float) -> bool:
        """Whether a copied timestep is that of the next evaluation. values: of the schedule."""
        expected = self.start + self.evaluation
        return self._repeated is None and expected < len(values) and values[expected] == value

    def reach_value(self, values: list[float], value: float) -> bool:
        """`reach` for a copied timestep. values: of the schedule, among which `value` is.

        One that has the value of the last call may be another picture's: it extracts, and the run ends there.
        """
        expected, first = self.start + self.evaluation, values.index(value)
        if self._repeated is None:
            index = next_index(values, value, expected)
            if index != expected - 1 or not self.evaluation or self.count == 1:
                return self.reach(index)
        elif first > self._repeated:
            raise self._evaluated_twice()
        elif first < self._repeated:
            return False
        self._repeated = first
        self.forget()
        return True

    def check_left(self) -> None:
        """Raises PlanError where all evaluations were made."""
        if self.evaluation < self.count:
            return
        if self.walk is None:
            raise PlanError(
                f"the UNet was called more often than the {self.count} evaluations that handle.begin() announced; call "
                "it before each run."
            )
        raise PlanError(
            f"the pipeline evaluates the UNet more often than its {self.count} timesteps; one that runs guidance in "
            "separate calls cannot inherit features, as it would mix them; remove the plan for it."
        )

    def _evaluated_twice(self) -> PlanError:
        return PlanError(
            "the pipeline evaluates the UNet more than once at one timestep; one that runs guidance in separate calls, "
            "or swaps in a schedule that the plan does not follow, cannot inherit features, as it would mix them; "
            "remove the plan for it. To begin another picture there call set_timesteps again."
        )

    def drop_unread(self) -> None:
        """Let go of the features that no evaluation after the present one reads."""
        for feature, held in self.cache.items():
            for source in [s for s in held if self._last_read(s, feature) <= self.evaluation and not self._is_late(s)]:
                del held[source]

    def _last_read(self, source: int, feature: Feature) -> int:
        return self.resolved.last_read.get((source, feature), -1)

    def _is_late(self, source: int) -> bool:
        """Whether `source` is an extract step that the schedule did not foresee (a change inside the run)."""
        return source > 0 and self.resolved.choices[source] != 0


class ThreadRuns(threading.local):
    """The runs of one thread, the latest first."""

    def __init__(self, everywhere: Everywhere) -> None:
        self.me = object()
        self._everywhere = everywhere
        self._mine: list[Running] = []
        self.latest: Running | None = None

    def mine(self) -> list[Running]:
        """Those that no other thread has taken over."""
        self._mine = [run for run in self._mine if run.holder is self.me]
        return self._mine

    def add(self, run: Running) -> list[Running]:
        """Add a run of this thread. Returns those that cannot continue: started by hand, on timesteps of the same
        owner, or on timesteps that were deleted. A run started by hand ends all others of the thread."""
        mine, walk = self.mine(), run.walk
        kept = [
            each for each in mine
            if walk is not None and each.walk is not None and each.walk.owner != walk.owner and not each.walk.is_over()
        ]  # fmt: skip
        ended = [each for each in mine if each not in kept]
        self._everywhere.replace(ended, run)
        self._take(run, kept)
        return ended

    def find(self, timesteps: Timesteps, timestep: Any, context: Any) -> Running | Beginning:
        """The run that a call belongs to, at the call's evaluation, or where a run begins with it.

        Raises:
            PlanError: No run can be found, or it cannot go on with this call.
        """
        if isinstance(timestep, Tensor):
            known = self._of_view(timestep, context)
            if known is not None:
                run, walk, index = known
                return self._take(run, self.mine()) if run.reach(index) else (walk, index)
            place = timesteps.find(timestep)
            if place is not None:
                return place
        by_hand = next((run for run in self.mine() if run.walk is None), None)
        schedules = timesteps.since(() if by_hand is None else by_hand.seen)
        if schedules:
            return self._of_value(timesteps, schedules, timestep)
        if by_hand is None:
            others = [run for run in self._everywhere.runs() if run.walk is None]
            by_hand = others[0] if len(others) == 1 else None  # started in another thread
        if by_hand is None:
            raise PlanError(
                "the UNet was called before a run began; call scheduler.set_timesteps first (for a bare UNet: give "
                "inherit() the scheduler, or call handle.begin(evaluations))."
            )
        return self._take(by_hand, self.mine())

    def _take(self, run: Running, others: list[Running]) -> Running:
        """This thread goes on with `run`."""
        run.holder = self.me
        self._mine = [run, *(each for each in others if each is not run)]
        self.latest = run
        return run

    def _of_view(self, timestep: Tensor, context: Any) -> tuple[Running, Walk, int] | None:
        """The run on the timesteps that `timestep` is a view of, and the index there. A run of another thread goes on
        here where the call is its next one and has its text states (a loop whose steps are called from a pool)."""
        mine = self.mine()
        for run in (*mine, *(each for each in self._everywhere.runs() if each not in mine)):
            index = run.walk.index(timestep) if run.walk is not None else None
            if run.walk is None or index is None:
                continue
            if run.holder is self.me or (index == run.start + run.evaluation and _is_same(run.context, context)):
                return run, run.walk, index
        return None

    def _of_value(self, timesteps: Timesteps, schedules: list[Schedule], timestep: Any) -> Running | Beginning:
        """As `find`, for a timestep that was copied alone. It goes on with this thread's latest run where it is next
        there; otherwise timesteps on which no run has begun yet come first."""
        value, dtype = value_of(timestep)
        run = self.latest if self.latest in self.mine() else None
        present = timesteps.of(run.walk) if run is not None and run.walk is not None else None
        if run is not None and present is not None and run.is_next(present.values(dtype), value):
            return run
        having = [schedule for schedule in schedules if value in schedule.values(dtype)]
        if not having:
            raise PlanError(
                f"the UNet was called at timestep {value:g}, which is none of those that the followed scheduler has "
                "set; for another scheduler call handle.follow(it) first; in a loop with timesteps of its own call "
                "handle.begin(evaluations) before each run."
            )
        new = [schedule for schedule in having if not schedule.begun]
        chosen = new[0] if new else present if present in having else having[0]
        if run is not None and chosen is present and run.reach_value(chosen.values(dtype), value):
            return run
        chosen.begun = True
        return chosen.walk, chosen.values(dtype).index(value)


class Everywhere:
    """The runs of all threads. One on timesteps is kept as long as these are, as another thread may go on with it; one
    begun by hand goes with its thread."""

    def __init__(self) -> None:
        self._walking: list[Running] = []
        self._by_hand: weakref.WeakSet[Running] = weakref.WeakSet()
        self._lock = threading.Lock()

    def replace(self, ended: list[Running], run: Running) -> None:
        with self._lock:
            over = [each for each in self._walking if each in ended or each.walk is None or each.walk.is_over()]
            for each in (*ended, *over):
                each.cache = {}  # also of a thread that never comes back to it
                self._by_hand.discard(each)
            self._walking = [each for each in self._walking if each not in over]
            if run.walk is None:
                self._by_hand.add(run)
            else:
                self._walking.append(run)

    def runs(self) -> list[Running]:
        with self._lock:
            return [*self._walking, *self._by_hand]


def _is_same(one: Any, other: Any) -> bool:
    """Whether two calls were given the same text states, not equal ones."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.data_ptr() == other.data_ptr() and one.shape == other.shape
    return one is not None and one is other
