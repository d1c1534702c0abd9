"""A real space of plans with an evaluator that does not run them: cost by nodes that run, error by age and rule."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explorer.calibration.step_errors import Design, StepErrors
from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from search_spaces import make_space
from studies import Objective, Scored, Store, StudyRecord, StudySettings, run_worker
from studies.predicting.calibration import Calibration
from studies.predicting.drift_model import DriftModel
from studies.scored import Part, Prediction
from studies.scoring.limits import PlanLimits
from tests.architectures import TINY
from tests.explorer.calibration.test_fitting import moments_of
from tests.studies.toy_study import toy_settings

STEPS = 12


def evaluations(plan: InheritancePlan) -> int:
    return plan.steps + 1


def share(mask: Mask, architecture: Architecture = TINY) -> float:
    return len(liveness(architecture, mask).run) / len(architecture.nodes)


def predicted(plan: InheritancePlan) -> Prediction:
    """What scoring measures: cheap plans err more, and errors grow with age."""
    run = resolve_run(plan, evaluations(plan))
    drift, age, cost = 0.02 * (STEPS - plan.steps) ** 2, 0, 0.0
    for choice in run.choices:
        age = age + 1 if choice else 0
        mask = plan.mask(choice)
        cost += share(mask)
        drift += age**1.5 * len(mask) * 0.01 / plan.rule.history
    return Prediction(drift + 1e-3, cost / (STEPS + 1))


@dataclass
class PlanEvaluator:
    limits: PlanLimits = field(default_factory=PlanLimits)
    seconds: float = 0.0

    def evaluations(self, plan: InheritancePlan) -> int:
        return evaluations(plan)

    def rejection(self, plan: InheritancePlan) -> str | None:
        return self.limits.reason(plan, evaluations(plan))

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        time.sleep(self.seconds)
        found = predicted(plan)
        values = {"latency": found.cost, "speedup": 1 / found.cost, "psnr": -20 * float(np.log10(found.drift))}
        return Scored({name: Estimate(value, value, value, 4) for name, value in values.items()})


def plan_settings(**change: Any) -> StudySettings:
    objectives = (Objective("latency", "minimize"), Objective("psnr", "maximize"))
    values: dict[str, Any] = {"space": "joint", "objectives": objectives, "steps": STEPS}
    return toy_settings(**(values | change))


def search(
    store: Store,
    name: str,
    total: int,
    proposals: str,
    evaluator: PlanEvaluator | None = None,
    predictor: DriftModel | None = None,
    **change: Any,
) -> StudyRecord:
    """A study of the problem, searched up to `total` plans. predictor: by default one that predicts nothing true."""
    study = store.create_study(name, plan_settings(**change))
    space = make_space(study.settings.space, TINY, STEPS, STEPS + 1)
    run_worker(
        store, name, space, evaluator or PlanEvaluator(), InheritancePlan.from_json, total, proposals=proposals,
        predictor=predictor or tiny_drift_model(),
    )  # fmt: skip
    return study


def tiny_drift_model(seed: int = 0) -> DriftModel:
    """A calibration of TINY with random errors."""
    random = np.random.default_rng(seed)
    design = Design.of(TINY, STEPS + 1, count=3)
    shape = (len(design.masks), len(design.steps), len(design.ages), len(design.rules))
    positive = lambda *size: random.uniform(0.1, 1.0, size)  # noqa: E731
    errors = StepErrors(
        masks=positive(*shape),
        nodes=positive(len(design.nodes), len(design.steps)),
        noise=positive(len(design.steps)) + 1.0,
        wrong=positive(len(design.steps)),
        moved=positive(len(design.steps)),
        latents=np.ones(1),
        seconds=np.array([*(share(mask) for mask in design.masks.values()), 1.0]),
        pictures=2,
    )
    plain = {steps: 0.01 * (STEPS - steps) for steps in (STEPS, 10, 8, 7, 6, 5, 4, 2)}
    moments = {STEPS: moments_of(TINY, STEPS, STEPS + 1, seed)}
    return DriftModel(Calibration(design, errors, moments, plain, 1.0), evaluations, share)
