"""Feature extractors by name: pictures to the vectors that the Frechet distance, KID and the inception score are
computed from.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from explorer.errors import ScoreError
from explorer.quality.clip_model import EMBEDDED, PAPER, PREFIX, ClipModel, canonical_clip, load_clip
from explorer.quality.efficientnet import load_efficientnet
from explorer.quality.inception import WEIGHTS, load_inception

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

EXTRACTORS = (EMBEDDED, "inception", "efficientnet", f"{PREFIX}MODEL/TAG")
"""Names of feature extractors; `openclip:` takes a model and tag of open_clip, or a folder."""
CLASSIFIERS = ("inception", "efficientnet")
"""Extractors that also give class logits, which the inception score needs."""


@dataclass(frozen=True)
class Features:
    """What an extractor gives for N pictures.

    Attributes:
        values: (N, d) features.
        logits: (N, c) class logits of a classifier.
        embeddings: (N, d) embeddings of a CLIP model, of unit length.
    """

    values: Array
    logits: Array | None = None
    embeddings: Array | None = None

    def __len__(self) -> int:
        return len(self.values)


class Extractor(Protocol):
    """Pictures uint8 (N, 3, H, W) -> Features in float64. `resizer` names how pictures were brought to the network's
    size.
    """

    @property
    def name(self) -> str: ...
    @property
    def resizer(self) -> str: ...
    def __call__(self, pictures: torch.Tensor) -> Features: ...


class ClipExtractor:
    """The picture embedding of a CLIP model, of unit length times the root of its dimension.

    That scale gives coordinates of about unit size, for which the kernel of KID and the size of a Frechet distance
    are made.
    """

    def __init__(self, model: ClipModel) -> None:
        self._model = model
        self.name, self.resizer = model.name, model.resizer

    def __call__(self, pictures: torch.Tensor) -> Features:
        rows = self._model.encode_pictures(check_pictures(pictures))
        return Features(rows * np.sqrt(rows.shape[1]), embeddings=rows)


class ClassifierExtractor:
    """Inception or EfficientNet."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self.name, self.resizer = network.name, network.resizer

    def __call__(self, pictures: torch.Tensor) -> Features:
        values, logits = self._network(check_pictures(pictures))
        return Features(values, logits=logits)


class _Network(Protocol):
    name: str
    resizer: str

    def __call__(self, pictures: torch.Tensor) -> tuple[Array, Array]: ...


def check_pictures(pictures: torch.Tensor) -> torch.Tensor:
    """The pictures, if they are uint8 (N, 3, H, W) with N at least 1; otherwise ScoreError."""
    import torch

    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) == 0:
        raise ScoreError(
            f"Pictures are scored as bytes of shape (N, 3, H, W); {str(pictures.dtype).removeprefix('torch.')} "
            f"{tuple(pictures.shape)} was given."
        )
    return pictures


def canonical_extractor(name: str) -> str:
    """The one spelling of an extractor's name. Raises ScoreError for an unknown one."""
    if name in (EMBEDDED, *CLASSIFIERS):
        return name
    if name.startswith(PREFIX) and name != PREFIX:
        return canonical_clip(name)
    raise ScoreError(f"{name!r} is not a feature extractor; use one of {', '.join(EXTRACTORS)}.")


@functools.lru_cache(maxsize=2)
def load_extractor(name: str, device: torch.device, allow_download: bool = False) -> Extractor:
    """Load a feature extractor. The last two are kept for further calls.

    Args:
        name: One of `EXTRACTORS`.
        device: Where it runs.
        allow_download: Whether `inception` may download its weights. An `openclip:` model that is not a folder is
            downloaded in any case, as its name says so.

    Raises:
        ScoreError: When the name is unknown or the weights are not available.
    """
    name = canonical_extractor(name)
    if name == "inception":
        return ClassifierExtractor(load_inception(device, allow_download))
    if name == "efficientnet":
        return ClassifierExtractor(load_efficientnet(device))
    return ClipExtractor(load_clip(name, device))


def default_extractor(embedded: bool) -> str:
    """The extractor that is used when none is given.

    Args:
        embedded: Whether the model is the embedded one, which has a CLIP model of its own.

    Returns:
        For other models `inception` if its weights are in torch's cache, else `efficientnet` if its package (which
        includes the weights) is installed, else the CLIP model of the CLIP score.
    """
    if embedded:
        return EMBEDDED
    if WEIGHTS.path.is_file() and find_spec("torch_fidelity"):
        return "inception"
    return "efficientnet" if find_spec("efficientnet_lite_pytorch") else PAPER
