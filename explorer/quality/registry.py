"""The metrics of pictures, each declared once: what scoring, choosing, showing and the docs know of it is read here.

Importing this is quick: what computes a metric is imported when it is first called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from explorer.bootstrap import Groups
    from explorer.estimate import Estimate
    from explorer.quality.features import Features
    from explorer.quality.reference import Reference

    Array = NDArray[np.float64]

Direction = Literal["minimize", "maximize"]
Input = Literal["features", "classes", "reference", "prompts", "baseline", "timings", "plan"]
LEAST = 8
"""Pictures below which nothing is decided: fewer make a comparison of distributions that is bias and noise."""


@dataclass(frozen=True)
class Pair:
    """What a paired metric compares.

    Attributes:
        pictures: uint8 (N, 3, H, W).
        baseline: The un-accelerated pictures of the same prompts and seeds, of the same shape.
        network: What the metric's `load` returned; None where it has none.
        device: Where a network runs.
    """

    pictures: torch.Tensor
    baseline: torch.Tensor
    network: Any
    device: torch.device


@dataclass(frozen=True)
class Metric:
    """The declaration of a metric. A metric of pictures is computed by `of_set`, `of_pairs` or `of_prompts`.

    Attributes:
        name: What users ask for.
        label: One line that says what it is.
        direction: `minimize` if less is better, else `maximize`.
        inputs: What it is computed from. For pictures: `features` of an extractor, `classes` (the extractor must be a
            classifier), a `reference` that features are compared with, the `prompts` in a CLIP model, the `baseline`
            (the un-accelerated pictures of the same prompts and seeds). Otherwise `timings`, or the `plan` alone.
        minimum: The least number of pictures that it can be computed from.
        unit: Unit of its values; empty if they have none.
        title: Its name in tables. By default `name`.
        axis: Its name on an axis, with the unit. By default the name in tables.
        family: The first part of its true name, before the name of the extractor or CLIP model. By default `name`.
        standard: Its true name with the standard model: Inception, or the paper's CLIP model. By default `name`.
        perfect: The value of a picture that is equal to the un-accelerated one; None if it is infinite or undefined.
        ceiling: A value beyond which pictures look the same. Charts need not reach further.
        usual: A usual limit, for a paired metric.
        needs: What must be on disk, for the docs.
        of_set: Function of the features, the reference (if `inputs` has it) and the prompt of each picture (if some
            have several pictures); returns an `Estimate`.
        of_pairs: Function of a `Pair`; returns values (N,).
        of_prompts: Function of the embeddings of pictures and prompts, (N, d) each; returns values (N,).
        load: Loads its own network on a device; the second argument allows a download.
    """

    name: str
    label: str
    direction: Direction
    inputs: frozenset[Input]
    minimum: int = 1
    unit: str = ""
    title: str = ""
    axis: str = ""
    family: str = ""
    standard: str = ""
    perfect: float | None = None
    ceiling: float | None = None
    usual: float | None = None
    needs: str = "nothing"
    of_set: Callable[[Features, Reference | None, Groups | None], Estimate] | None = None
    of_pairs: Callable[[Pair], Array] | None = None
    of_prompts: Callable[[Array, Array], Array] | None = None
    load: Callable[[torch.device, bool], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)
        object.__setattr__(self, "standard", self.standard or self.name)

    @property
    def paired(self) -> bool:
        """Whether it compares each picture with the un-accelerated one of the same prompt and seed."""
        return "baseline" in self.inputs

    @property
    def least(self) -> int:
        """The number of pictures below which differences between plans are chance. A study needs as many."""
        return max(LEAST, self.minimum) if "features" in self.inputs else self.minimum

    @property
    def better_end(self) -> Literal["low", "high"]:
        """The better end of an interval."""
        return "low" if self.direction == "minimize" else "high"

    @property
    def worse_end(self) -> Literal["low", "high"]:
        """The worse end of an interval."""
        return "high" if self.direction == "minimize" else "low"

    def losses(self, values: Array) -> Array:
        """Turn values into losses, which are minimised: the distance from `perfect` if there is one (1 - SSIM)."""
        if self.direction == "minimize":
            return values
        losses: Array = -values if self.perfect is None else self.perfect - values
        return losses


def _late(module: str, name: str) -> Callable[..., Any]:
    """A function of a module of this package, which is imported at the first call."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"explorer.quality.{module}"), name)(*arguments)

    return call


_COMPARED: frozenset[Input] = frozenset({"features", "reference"})
_DECLARED = (
    Metric(
        "fd", "Frechet distance between features of the pictures and of a reference", "minimize", _COMPARED, 2,
        standard="fid", needs="a reference", of_set=_late("frechet", "of_set"),
    ),
    Metric(
        "fid", "the same; called `fid` only with the standard Inception weights", "minimize", _COMPARED, 2,
        family="fd", needs="a reference", of_set=_late("frechet", "of_set"),
    ),
    Metric(
        "kid", "kernel distance to the reference, unbiased", "minimize", _COMPARED, 2,
        needs="a reference", of_set=_late("kid", "of_set"),
    ),
    Metric(
        "is", "inception score", "maximize", frozenset({"features", "classes"}), 2,
        needs="weights of a classifier", of_set=_late("inception_score", "of_set"),
    ),
    Metric(
        "clip", "100 x cosine of picture and prompt in a CLIP model; the name alone means the paper's ViT-g-14",
        "maximize", frozenset({"prompts"}), needs="weights of the CLIP model",
        of_prompts=_late("clip_score", "cosines"),
    ),
    Metric(
        "psnr", "peak signal-to-noise ratio to the un-accelerated picture of the same prompt and seed", "maximize",
        frozenset({"baseline"}), unit="dB", ceiling=60.0, usual=30.0, of_pairs=_late("paired", "psnr_of"),
    ),
    Metric(
        "ssim", "structural similarity to the same; 1 - SSIM is called drift", "maximize",
        frozenset({"baseline"}), perfect=1.0, usual=0.9, of_pairs=_late("paired", "ssim_of"),
    ),
    Metric(
        "lpips", "distance to the same in a perceptual network", "minimize", frozenset({"baseline"}),
        perfect=0.0, usual=0.1, needs="weights of AlexNet", of_pairs=_late("paired", "lpips_of"),
        load=_late("paired", "load_lpips"),
    ),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _DECLARED}
"""The metrics by name. Add an entry for a metric of your own."""
DRIFT = ("psnr", "ssim")
"""Measured of every plan: paired, they separate candidates that a Frechet distance of few pictures does not."""


def of_family(name: str) -> Metric | None:
    """The metric that a true name (`fd_emojiclip`, `clip`) is of; None for a name of none."""
    if name in METRICS:
        return METRICS[name]
    family, parted, _ = name.partition("_")
    return next((each for each in METRICS.values() if parted and each.family == family), None)
