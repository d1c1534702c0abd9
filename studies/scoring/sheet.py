"""The pictures of a plan in scoring, made as far as they are asked for; which are kept, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from explorer.devices import DeviceInfo
from explorer.models.prompts import Prompt
from explorer.quality.scorer import Scorer, Scores
from studies.device_lock import on_device

KEPT_PICTURES = 16
"""Stored pictures of a candidate: this many of the first prompts, and half as many of those that drifted most. Of the
un-accelerated run all are stored."""


class Sheet:
    """The pictures of one plan, each made once.

    draw: makes those of some prompts, given the number of the first; uint8 (n, 3, H, W). baseline: gives the
    un-accelerated ones of all prompts. check: raises ScoreError for pictures without information. seconds: what making
    them took, and measuring their drift on the way.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        draw: Callable[[Sequence[Prompt], int], torch.Tensor],
        baseline: Callable[[], torch.Tensor],
        scorer: Scorer | None,
        info: DeviceInfo,
        check: Callable[[torch.Tensor], None],
    ) -> None:
        self.seconds = 0.0
        self._check = check
        self._prompts, self._draw, self._baseline, self._scorer, self._info = prompts, draw, baseline, scorer, info
        self._made: list[torch.Tensor] = []
        self._count = 0

    def pictures(self) -> torch.Tensor:
        """Those made so far, uint8 (n, 3, H, W)."""
        return torch.cat(self._made)

    def draw(self, count: int) -> None:
        """Make the first `count`: all, or as many as end with a batch, so that no picture depends on the stops."""
        with on_device(self._info, shared=True):
            self._baseline()  # made once per study, and not part of a plan's cost
            start = time.perf_counter()
            prompts = self._prompts[self._count : count]
            if prompts:
                self._made.append(self._draw(prompts, self._count))
                self._check(self.pictures())
            self._count = max(count, self._count)
            self.seconds += time.perf_counter() - start

    def drift(self, count: int, metrics: set[str]) -> dict[str, Any]:
        """Paired metrics of the first `count` pictures, (count,) each."""
        self.draw(count)
        assert self._scorer is not None
        start = time.perf_counter()
        baseline = self._baseline()[:count]
        found = {name: self._scorer.of_pairs(name, self.pictures(), baseline) for name in sorted(metrics)}
        self.seconds += time.perf_counter() - start
        return found


def shared_out(scores: Scores, making: float) -> dict[str, float]:
    """Seconds of each score: its own, and an equal share of what all of them need, the pictures (`making`) and their
    features. They add up to what the plan's quality cost."""
    shared = (making + scores.seconds["features"]) / len(scores)
    return {name: scores.seconds[name] + shared for name in scores}


def first_and_worst(count: int, psnr: list[float]) -> list[int]:
    """Which pictures to keep: those of the first prompts, and those that drifted most."""
    first = range(min(KEPT_PICTURES, count))
    worst = sorted(range(len(psnr)), key=psnr.__getitem__)[: KEPT_PICTURES // 2]
    return sorted({*first, *worst})
