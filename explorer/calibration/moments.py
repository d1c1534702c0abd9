"""How a model's features move over a run: inner products of each feature's values at all pairs of evaluations.

They are all that a linear rule needs: the squared error of any combination of any earlier extract steps, and the
combination that makes it least, follow from them without a further run. They are taken on un-accelerated runs, over
prompts, channels and positions, of which a fixed random sample is read, so that neither time nor memory grows with the
picture (a run's sample of SD1.5 at 50 steps and 4 prompts: about 80 MB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.calibration.probe import Probe, all_features, storing
from explorer.errors import PlanError, ScoreError
from explorer.models.pictures import run
from explorer.models.prompts import Prompt
from explorer.models.workload import is_guided
from explorer.unet.mask import Feature
from explorer.unet.program import Conditions

ELEMENTS = 512
"""Elements read of a feature, for each picture: two or three weights are fitted, so that thousands are plenty."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Second moments of features over un-accelerated runs of one model, scheduler, step count and guidance.

    gram: (name, form) -> symmetric (T, T), T evaluations: the mean over elements and pictures of F(a) F(b). With
    guidance F is the guided feature, (1 - g) F_uncond + g F_cond: to first order its error is what reaches the guided
    prediction. pictures: how many were made.
    """

    architecture: str
    scheduler: str
    steps: int
    evaluations: int
    guidance: float
    pictures: int
    gram: Mapping[Feature, Array]

    def error(self, feature: Feature, at: int, sources: Sequence[int], weights: Sequence[float]) -> float:
        """Root mean square error of `weights` of the feature at `sources` against the feature at `at`."""
        gram = self.gram[feature]
        points, row = [*sources, at], np.array([*weights, -1.0])
        return float(np.sqrt(max(0.0, row @ gram[np.ix_(points, points)] @ row)))

    def joined(self, other: Moments) -> Moments:
        """The moments of both sets of pictures. Raises PlanError when they are of other runs."""
        different = [
            name
            for name in ("architecture", "scheduler", "steps", "evaluations", "guidance")
            if getattr(self, name) != getattr(other, name)
        ]
        if different:
            raise PlanError(f"moments of runs that differ in {', '.join(different)} cannot be joined; calibrate again.")
        total = self.pictures + other.pictures
        gram = {
            feature: (values * self.pictures + other.gram[feature] * other.pictures) / total
            for feature, values in self.gram.items()
        }
        return replace(self, pictures=total, gram=gram)


def collect_moments(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
    batch_size: int = 4,
    size: tuple[int, int] | None = None,
    elements: int = ELEMENTS,
    progress: Callable[[int, int], None] | None = None,
) -> Moments:
    """Run `pipe` un-accelerated on `prompts` (arguments as of `explorer.models.pictures.generate`) and take the
    moments.

    Raises:
        ScoreError: for no prompts, and features that hold infinities or NaNs.
    """
    reader = _Reader(guidance, elements)
    probe = Probe(pipe, reader)
    reader.probe = probe
    with probe:
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            run(pipe, batch, seed=seed + start, steps=steps, guidance=guidance, size=size, output_type="latent")
            reader.end_batch(len(batch))
            if progress is not None:
                progress(start + len(batch), len(prompts))
    if not reader.pictures:
        raise ScoreError("No prompts were given to calibrate on; give at least one.")
    return Moments(
        architecture=probe.program.architecture.signature,
        scheduler=type(pipe.scheduler).__name__,
        steps=steps,
        evaluations=reader.evaluations,
        guidance=guidance,
        pictures=reader.pictures,
        gram={feature: total / reader.pictures for feature, total in reader.total.items()},
    )


class _Reader:
    """Watches a probe: keeps each feature's sampled elements of the running batch, then adds up their products."""

    def __init__(self, guidance: float, elements: int) -> None:
        self.guidance, self.elements = guidance, elements
        self.probe: Any = None
        self.rows: list[Tensor] = []
        self.spans: dict[Feature, slice] = {}
        self.places: dict[Feature, Tensor] = {}
        self.total: dict[Feature, Array] = {}
        self.pictures = self.evaluations = 0
        self.variant: Any = None

    def __call__(self, evaluation: int, sample: Tensor, at: Conditions) -> Tensor:
        program = self.probe.program
        if self.variant is None:
            self.variant = storing(program, all_features(program.architecture))
        noise, stored = self.variant(sample, at, {})
        if evaluation == 0:
            self.rows = []
        self.rows.append(self._sampled(stored))
        return noise

    def _sampled(self, stored: Mapping[Feature, Tensor]) -> Tensor:
        """(pictures, all features' elements) on the CPU, in one transfer."""
        parts = []
        start = 0
        for feature, value in stored.items():
            flat = value.flatten(1)
            if feature not in self.places:
                generator = torch.Generator().manual_seed(len(self.places))
                chosen = torch.randperm(flat.shape[1], generator=generator)[: self.elements]
                self.places[feature] = chosen.to(flat.device)
                self.spans[feature] = slice(start, start + len(chosen))
            start = self.spans[feature].stop
            parts.append(flat[:, self.places[feature]])
        rows = torch.cat(parts, dim=1).float()
        if is_guided(self.guidance) and rows.shape[0] % 2 == 0:
            without, with_text = rows.chunk(2)
            rows = without + self.guidance * (with_text - without)
        return rows.cpu()

    def end_batch(self, pictures: int) -> None:
        rows = torch.stack(self.rows).double()
        if not torch.isfinite(rows).all():
            raise ScoreError("The model's features hold infinities or NaNs; calibrate in float32 or bfloat16.")
        for feature, span in self.spans.items():
            flat = rows[:, :, span].flatten(1)
            product = (flat @ flat.T / (span.stop - span.start)).numpy()
            self.total[feature] = self.total.get(feature, 0.0) + product
        self.pictures += pictures
        self.evaluations = len(self.rows)
        self.rows = []
