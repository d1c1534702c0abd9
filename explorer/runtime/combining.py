"""What an eager step inherits: each feature combined by the rule when its node's turn comes, and let go after that."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping

from torch import Tensor

from explorer.plans.rules import Rule
from explorer.unet.mask import Feature, Mask


class Combining(Mapping[Feature, Tensor]):
    """The features that a step under `mask` takes at `evaluation`, made from those in `cache` when they are asked for.

    cache: by feature, by the evaluation it was extracted at. Evaluations are counted within a run that left out its
    first `start` (img2img); weights are those of the whole run. peak: the most bytes of combined features that stood at
    once so far; a copy is the cached tensor itself and takes none.
    """

    def __init__(
        self, rule: Rule, cache: Mapping[Feature, Mapping[int, Tensor]], mask: Mask, evaluation: int, start: int = 0
    ) -> None:
        self._rule, self._cache, self._at, self._start = rule, cache, evaluation + start, start
        self._features = [feature for feature in mask.entries if cache.get(feature)]  # removed nodes have none
        self._watched: list[weakref.ref[Tensor]] = []
        self._bytes = self.peak = 0

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, feature: Feature) -> Tensor:
        held = self._cache[feature]
        sources = tuple(held)[-self._rule.history :]
        weights = self._rule.coefficients(self._at, tuple(source + self._start for source in sources), feature)
        value = combine([held[source] for source in sources], weights)
        if value is not held[sources[-1]]:
            self._watch(value)
        return value

    def _watch(self, value: Tensor) -> None:
        size = value.numel() * value.element_size()
        self._bytes += size
        self.peak = max(self.peak, self._bytes)

        def gone(_: weakref.ref[Tensor]) -> None:
            self._bytes -= size

        self._watched.append(weakref.ref(value, gone))


def combine(features: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Linear combination of features of one shape; a single one of weight 1 is given back as it is, without a copy."""
    if weights == (1.0,):
        return features[0]
    total = features[0] * weights[0]
    for feature, weight in zip(features[1:], weights[1:], strict=True):
        total.add_(feature, alpha=weight)
    return total
