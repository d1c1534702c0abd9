"""What one writes around diffusers without the explorer: each plan's pictures one by one, then their scores.

The pipeline is called for every picture, so its text encoder runs each time and one picture is decoded at a time. The
scores are those of the explorer, so that both sides tell the same of the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.shared.cached_scores import seconds_of
from explorer.models.pictures import generate
from explorer.models.workload import twin
from explorer.plans.plan import InheritancePlan
from explorer.quality.features import load_extractor
from explorer.quality.reference import Reference
from explorer.quality.scorer import Scorer
from explorer.runtime.inherit import inherit
from studies.searching.session import Session


@dataclass(frozen=True)
class Naive:
    """A plan's scores, and seconds: `pictures` of its own, `reference` of the un-accelerated pictures' features and
    statistics, `scores` of the rest."""

    scores: dict[str, float]
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"scores": self.scores, "seconds": self.seconds}


class NaiveLoop:
    """On the session's pipeline, prompts and seeds; networks are loaded once, as a script would."""

    def __init__(self, session: Session) -> None:
        scorer = session.evaluator.scorer
        assert scorer is not None
        self.session, self.scorer = session, scorer
        self.clock = seconds_of(session.evaluator.device.type)

    def plain(self) -> tuple[torch.Tensor, float]:
        """The un-accelerated pictures, uint8 (N, 3, H, W), and their seconds."""
        began = self.clock()
        return self._pictures(twin(self.session.evaluator.pipe), self.session.settings.steps), self.clock() - began

    def score(self, plan: InheritancePlan, plain: torch.Tensor) -> Naive:
        """Make and score the plan's pictures. Raises ExplorerError or RuntimeError when it cannot run."""
        evaluator, scorer = self.session.evaluator, self.scorer
        extract = load_extractor(scorer.extractor, evaluator.device)
        names = [objective.name for objective in scorer.objectives]
        pipe = twin(evaluator.pipe)
        began = self.clock()
        with inherit(pipe, plan, compile=evaluator.compile):
            pictures = self._pictures(pipe, plan.steps)
        made = self.clock()
        # A scorer keeps its reference for the next plan; the script has it made anew each time.
        reference = scorer.reference or Reference.from_pictures(plain, extract)
        compared = self.clock()
        fresh = Scorer(names, scorer.extractor, reference, scorer.clip_model, evaluator.device)
        scores = fresh.score(pictures, evaluator.prompts, plain)
        ended = self.clock()
        seconds = {"pictures": made - began, "reference": compared - made, "scores": ended - compared}
        return Naive({name: score.value for name, score in scores.items()}, seconds)

    def _pictures(self, pipe: Any, steps: int) -> torch.Tensor:
        evaluator = self.session.evaluator
        return generate(
            pipe, evaluator.prompts, seed=evaluator.seed, steps=steps, guidance=evaluator.guidance, batch_size=1,
            size=evaluator.size,
        )  # fmt: skip
