"""Drift from the un-accelerated picture of the same prompt and seed: PSNR, SSIM, LPIPS, one value a picture.

Both pictures start from the same noise, so what the prompt does to a picture cancels: a few pairs separate candidates
that need thousands of pictures for a Frechet distance.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from explorer.errors import ScoreError
from explorer.quality.weights import WeightFile, read_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from explorer.quality.registry import Pair

    Array = NDArray[np.float64]

PSNR_LIMIT = 100.0
"""dB counted for identical pictures, whose ratio is infinite; one step in one byte of a 64x64 picture is 89 dB."""

_BATCH = 16
_SSIM_WINDOW = 11

ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79", "LPIPS"
)


def _pairs(pictures: torch.Tensor, baseline: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of both sides as floats in [0, 1]."""
    if pictures.shape != baseline.shape:
        raise ScoreError(
            f"Paired scores need two pictures of one size for every prompt; {tuple(pictures.shape)} and "
            f"{tuple(baseline.shape)} were given."
        )
    batches = zip(pictures.split(_BATCH), baseline.split(_BATCH), strict=True)
    return [(ours.float() / 255, theirs.float() / 255) for ours, theirs in batches]


def psnr(pictures: torch.Tensor, baseline: torch.Tensor) -> Array:
    """Peak signal-to-noise ratio in dB, at most PSNR_LIMIT: uint8 (N, 3, H, W) twice -> (N,). Higher is closer."""
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio

    values = [
        peak_signal_noise_ratio(ours, theirs, data_range=1.0, reduction="none", dim=(1, 2, 3)).reshape(-1)
        for ours, theirs in _pairs(pictures, baseline)
    ]
    return torch.cat(values).clamp(max=PSNR_LIMIT).double().numpy()


def ssim(pictures: torch.Tensor, baseline: torch.Tensor) -> Array:
    """Structural similarity (Wang et al. 2004), Gaussian window 11 wide: uint8 (N, 3, H, W) twice -> (N,), 1 for
    identical pictures.
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(pictures.shape[-2:]) < _SSIM_WINDOW:
        raise ScoreError(
            f"SSIM needs pictures of at least {_SSIM_WINDOW} pixels a side; these are {tuple(pictures.shape[-2:])}."
        )
    values = []
    for ours, theirs in _pairs(pictures, baseline):
        similarity = structural_similarity_index_measure(ours, theirs, data_range=1.0, reduction="none")
        assert isinstance(similarity, torch.Tensor)
        values.append(similarity.reshape(-1))
    return torch.cat(values).double().numpy()


@functools.lru_cache(maxsize=1)
def load_lpips(device: torch.device, allow_download: bool = False) -> Any:
    """The LPIPS network (Zhang et al. 2018, arXiv 1801.03924), AlexNet: torchmetrics ships its linear layers,
    torchvision's AlexNet must be on disk.

    Raises ScoreError where it is not.
    """
    weights = read_weights(ALEXNET, allow_download)
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = _NoTrainLpips(net="alex", pnet_rand=True)
    for part in network.net.children():
        for index, layer in part.named_children():
            if hasattr(layer, "weight"):
                layer.load_state_dict({key: weights[f"features.{index}.{key}"] for key in ("weight", "bias")})
    return network.to(device)


def lpips(pictures: torch.Tensor, baseline: torch.Tensor, network: Any, device: torch.device) -> Array:
    """Perceptual distance by `load_lpips`: uint8 (N, 3, H, W) twice -> (N,). Lower is closer."""
    import torch

    values = []
    with torch.inference_mode():
        for ours, theirs in _pairs(pictures, baseline):
            values.append(network(ours.to(device), theirs.to(device), normalize=True).reshape(-1))
    return torch.cat(values).double().cpu().numpy()


def psnr_of(pair: Pair) -> Array:
    """The metric `psnr`: (N,)."""
    return psnr(pair.pictures, pair.baseline)


def ssim_of(pair: Pair) -> Array:
    """The metric `ssim`: (N,)."""
    return ssim(pair.pictures, pair.baseline)


def lpips_of(pair: Pair) -> Array:
    """The metric `lpips`: (N,)."""
    return lpips(pair.pictures, pair.baseline, pair.network, pair.device)
