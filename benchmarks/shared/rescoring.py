"""Plans scored again with many pictures, as a certificate scores them: kept batch by batch, the un-accelerated pictures
made once for all plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shared.work_folder import digest
from explorer.errors import StudyError
from explorer.plans.plan import InheritancePlan
from explorer.quality.scorer import Raw, Scores
from studies.certificates.certify import prompt_of
from studies.certificates.data import CertificateData
from studies.certificates.document import FULL, PLAN
from studies.searching.session import Session
from studies.settings import Objective
from studies.storage.saved import Saved

if TYPE_CHECKING:
    import torch

    from explorer.quality.reference import Reference

APART = ("batch", "space", "sampler", "objectives")
"""Settings on which a score does not depend."""


class Rescoring:
    """Scores of `count` pictures of the session's prompts and seeds; more than there are prompts repeat them with
    further seeds. Kept under `folder`."""

    def __init__(self, session: Session, folder: Path, count: int) -> None:
        if session.evaluator.scorer is None:
            raise StudyError(f"{session.config.model} has random weights, so it has no quality to score.")
        facts = {name: value for name, value in session.settings.to_json().items() if name not in APART}
        self.facts = facts | {"metrics": sorted(each.name for each in session.evaluator.scorer.objectives)}
        self.session, self.scorer, self.count = session, session.evaluator.scorer, count
        self.folder = folder / digest(self.facts)
        self.batch = session.evaluator.batch
        self._kept = Saved(self.folder / "un-accelerated")
        self._reference: Reference | None = None
        self._has_reference = False

    def missing(self, plan: InheritancePlan | None) -> int:
        """Pictures of the plan that are still to be made; None: of the un-accelerated run."""
        return max(0, self.count - self._data(plan).count())

    def scores(self, plan: InheritancePlan, tell: Callable[[int], None] = lambda _: None) -> Scores:
        """Every metric of the plan, with its interval; what is missing is made. `tell(n)` after n more pictures.

        Raises:
            ScoreError: when the plan cannot be scored. StudyError: when the folder cannot be used.
        """
        if not self._has_reference:
            self._reference = self.scorer.reference_of(self.raw(None, tell).features)
            self._has_reference = True
        return self.scorer.estimates(self.raw(plan, tell), self._reference, prompt_of(self.session, self.count))

    def raw(self, plan: InheritancePlan | None, tell: Callable[[int], None] = lambda _: None) -> Raw:
        """The values of single pictures of the plan, or of the un-accelerated run (None)."""
        data, run = self._data(plan), FULL if plan is None else PLAN
        if data.count() < self.count:
            chosen = plan or InheritancePlan(self.session.architecture, self.session.settings.steps)
            with self.session.evaluator.painter(chosen) as paint:
                self._make(data, run, paint, tell)
        return data.runs(self.count)[run]

    def _make(
        self, data: CertificateData, run: str, paint: Callable[..., torch.Tensor], tell: Callable[[int], None]
    ) -> None:
        prompts, seed = self.session.evaluator.prompts, self.session.evaluator.seed
        steps, done = self.session.settings.steps, data.count()
        while done < self.count:
            stop = min(done + self.batch, self.count)
            words = [prompts[number % len(prompts)] for number in range(done, stop)]

            def plain(start: int = done, words: Any = words) -> dict[str, torch.Tensor]:
                return {"pictures": paint(words, seed + start, steps)}

            full = self._kept.get(f"{done:06d}-{stop:06d}", plain)["pictures"]
            pictures = full if run == FULL else paint(words, seed + done)
            data.add(done, {run: self.scorer.measure(pictures, words, full)})
            tell(stop - done)
            done = stop

    def _data(self, plan: InheritancePlan | None) -> CertificateData:
        key = FULL if plan is None else plan.key(self.session.evaluator.evaluations(plan))
        data = CertificateData(self.folder / key)
        # What is measured is in the folder's name; objectives are not what a score depends on.
        data.open(replace(self.session.settings, objectives=(Objective("latency", "minimize"),)), key)
        return data
