"""A small real problem for the driver: plans with a known cost and error, a conditional space, a cheap evaluator."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial

from explorer.errors import PlanError, ScoreError
from explorer.estimate import Estimate
from studies.metrics import SPEEDS
from studies.scored import Part, Picture, Scored
from studies.settings import Objective, SamplerSettings, StudySettings


@dataclass(frozen=True)
class ToyPlan:
    """Compute every `period`-th step whole and inherit `width` parts in between; `order` only matters if some is."""

    period: int
    width: int = 0
    order: int = 0
    steps: int = 50
    name: str | None = None

    def key(self, evaluations: int) -> str:
        inherits = self.period > 1 and self.width > 0
        canonical = [self.steps, evaluations, *((self.period, self.width, self.order) if inherits else ())]
        return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:20]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ToyPlan:
        return cls(**{name: value for name, value in data.items() if name != "evaluations"})

    def describe(self) -> str:
        return self.name or f"{self.width} parts every {self.period}"


@dataclass(frozen=True)
class ToySpace:
    """`period` always; `width` and `order` only where something is inherited."""

    periods: int = 8
    widths: int = 9
    name: str = "toy"

    def suggest(self, trial: BaseTrial) -> ToyPlan:
        period = trial.suggest_int("period", 1, self.periods)
        if period == 1:
            return ToyPlan(1)
        width = trial.suggest_int("width", 1, self.widths)
        return ToyPlan(period, width, trial.suggest_categorical("order", [0, 1, 2]))

    def parameters(self, plan: ToyPlan) -> dict[str, Any]:
        if plan.steps != 50 or plan.period > self.periods or plan.width > self.widths:
            raise PlanError("outside of the space")
        if plan.period == 1:
            return {"period": 1}
        return {"period": plan.period, "width": plan.width, "order": plan.order}


@dataclass
class ToyEvaluator:
    """Cost falls with period and width, error rises with both and falls with the order up to a point.

    log: a file to which each scoring appends the plan's key, to count what was really done. broken: widths that cannot
    be scored. screened: widths that need not be.
    """

    seconds: float = 0.0
    log: Path | None = None
    broken: tuple[int, ...] = ()
    screened: tuple[int, ...] = ()
    pictures: bool = False

    def evaluations(self, plan: ToyPlan) -> int:
        return plan.steps + 1

    def rejection(self, plan: ToyPlan) -> str | None:
        return "too wide" if plan.width in self.screened else None

    def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
        time.sleep(self.seconds)
        if plan.width in self.broken:
            raise ScoreError(f"width {plan.width} cannot be scored")
        saved = (1 - 1 / plan.period) * plan.width / 10
        latency = plan.steps / 50 * (1 - saved)
        error = saved * (plan.period + abs(plan.order - 1)) + (50 - plan.steps) / 50
        values = {"latency": latency, "speedup": 1 / latency, "fd_toy": error, "clip": 30 - error}
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{plan.key(self.evaluations(plan))} {os.getpid()} {part or 'all'}\n")
        if part is not None:
            values = {name: value for name, value in values.items() if (name in SPEEDS) == (part == "latency")}
        picture = Picture(0, b"\x89PNG whole", b"\x89PNG small", "a red car", 7)
        return Scored(
            estimates={name: Estimate(value, value - 0.01, value + 0.01, 8) for name, value in values.items()},
            seconds={name: 0.5 for name in values if name == "latency"},
            extractors={name: "toy" for name in values if name == "fd_toy"},
            samples={name: [latency, latency * 1.01] for name in values if name == "latency"},
            pictures=[picture] if self.pictures and part != "latency" else [],
        )


def toy_settings(**change: Any) -> StudySettings:
    values: dict[str, Any] = {
        "model": "toy",
        "architecture": "toy-8",
        "device": "cpu",
        "dtype": "float32",
        "resolution": (64, 64),
        "steps": 50,
        "scheduler": "PNDMScheduler",
        "space": "toy",
        "objectives": (
            Objective("latency", "minimize"),
            Objective("fd_toy", "minimize"),
            Objective("clip", "maximize"),
        ),
        "prompts": "toy prompts",
        "prompts_hash": "0" * 64,
        "sampler": SamplerSettings("random", {}, 3),
    }
    return StudySettings(**(values | change))
