"""An evaluator for benchmarks of proposals: a plan's quality is measured once for all of them, its cost is predicted.

Quality is real: the pictures of the model, beside the un-accelerated ones of the same prompts and seeds. It is kept on
disk, so that a plan which several methods propose is paid for once, while each of them is charged its seconds. Cost is
the loop's time by the cost model of a profile that was measured once: a benchmark of proposals must not depend on the
noise of the clock, and its runs may share a machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.shared.work_folder import WorkFolder
from explorer.bootstrap import mean_estimate
from explorer.errors import ExplorerError, PlanError, ScoreError, StudyError
from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan
from explorer.timing.profile import Profile
from studies.metrics import PREDICTED
from studies.scored import QUALITY, Part, Scored
from studies.searching.session import Session

CEILING = 60.0
"""dB at which a picture's PSNR is cut: beyond, 8-bit pictures look the same, and an equal one has no PSNR at all."""


def seconds_of(device: str) -> Callable[[], float]:
    """The clock of what is charged: on a CPU this process' own processor time, which neighbours on the machine do not
    lengthen; otherwise time."""
    return time.process_time if device == "cpu" else time.perf_counter


@dataclass(frozen=True)
class Entry:
    """A plan as a method scored it. share: of the un-accelerated run's predicted time. psnr: dB, the mean over the
    pictures, each cut at CEILING. seconds: of making its pictures and their scores, when they were first made.
    proposing: from the end of the plan before to the beginning of this one: proposal, storage and all."""

    words: str
    key: str
    share: float
    psnr: float
    ssim: float
    seconds: float
    proposing: float
    name: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class CachedEvaluator:
    """`studies.scored.Evaluator` of plans; `entries` are those that it scored, in order. profile: of the session's
    model at the workload of its latencies."""

    def __init__(self, session: Session, profile: Profile, work: WorkFolder) -> None:
        self.session, self.profile, self.work = session, profile, work
        self.inner = session.evaluator.with_profile(profile)  # proposals are screened by it, as in a search
        plain = InheritancePlan(session.architecture, session.settings.steps)
        self.whole = self._seconds(plain)
        self.clock = seconds_of(self.inner.device.type)
        self.entries: list[Entry] = []
        self._since = self.clock()

    def evaluations(self, plan: InheritancePlan) -> int:
        return self.inner.evaluations(plan)

    def rejection(self, plan: InheritancePlan) -> str | None:
        return self.inner.rejection(plan)

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """The plan's predicted latency and its measured drift; `part` is not asked of a study on one device."""
        proposing = self.clock() - self._since
        try:
            entry, each = self.entry(plan, proposing)
            self.entries.append(entry)
        finally:
            self._since = self.clock()
        seconds = self._seconds(plan)
        estimates = {
            "latency": Estimate(seconds, seconds, seconds, 1),
            "speedup": Estimate(1 / entry.share, 1 / entry.share, 1 / entry.share, 1),
            **{name: mean_estimate(np.array(values)) for name, values in each.items()},
        }
        if self.inner.predictor is not None:
            with suppress(PlanError):  # such as a number of steps that was not calibrated
                drift = self.inner.predictor.drift(plan)
                estimates[PREDICTED] = Estimate(drift, drift, drift, 1)
        return Scored(estimates, {"psnr": entry.seconds}, {}, each)

    def entry(self, plan: InheritancePlan, proposing: float = 0.0) -> tuple[Entry, dict[str, list[float]]]:
        """The plan's entry, and each picture's psnr and ssim.

        Raises:
            ScoreError: when the plan cannot be scored, also where an earlier run found that.
        """
        key = plan.key(self.evaluations(plan))
        found = self.work.get(f"plans/{key}", lambda: self._measure(plan))
        if "error" in found:
            raise ScoreError(found["error"])
        each = {"psnr": np.minimum(found["psnr"], CEILING).tolist(), "ssim": found["ssim"]}
        means = {name: float(np.mean(values)) for name, values in each.items()}
        share = self._seconds(plan) / self.whole
        words = plan.describe()
        entry = Entry(words, key, share, means["psnr"], means["ssim"], found["seconds"], proposing, plan.name)
        return entry, each

    def _measure(self, plan: InheritancePlan) -> dict[str, Any]:
        self.inner.baseline_pictures()  # made once for all plans, and charged to none
        began = self.clock()
        try:
            scored = self.inner.score(plan, QUALITY)
        except StudyError:
            raise  # the machine's trouble, not the plan's
        except ExplorerError as error:
            return {"words": plan.describe(), "error": str(error)}
        each = {name: [float(value) for value in scored.samples[name]] for name in ("psnr", "ssim")}
        return {"words": plan.describe(), **each, "seconds": self.clock() - began}

    def _seconds(self, plan: InheritancePlan) -> float:
        return self.profile.predicted_latency(plan, self.evaluations(plan)).value
