"""The standard FID features: Inception-v3 of 2015, 2048 pooled features and 1008 logits (Heusel et al. 2017, arXiv
1706.08500).

The network is torch-fidelity's, bit-compatible with the original TensorFlow graph, its resizer included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ScoreError
from explorer.quality.weights import WeightFile, read_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

WEIGHTS = WeightFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d",
    "The extractor inception",
)

_BATCH = 16


def build_network() -> Any:
    """The network without weights. Raises ScoreError where torch-fidelity is not installed."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as fidelity
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    except ImportError as problem:
        raise ScoreError(
            "The extractor inception needs torch-fidelity; install inheritance-explorer[inception], or choose another."
        ) from problem
    from torch import float32, nn

    class Inception(fidelity.FeatureExtractorInceptionV3):
        """The layers and the forward of the original. Its own constructor unpickles the weights, or fetches them, so
        it is not called.
        """

        def __init__(self) -> None:
            FeatureExtractorBase.__init__(self, "inception-v3-compat", ["2048", "logits_unbiased"])
            self.feature_extractor_internal_dtype = float32
            conv = fidelity.BasicConv2d
            self.Conv2d_1a_3x3 = conv(3, 32, kernel_size=3, stride=2)
            self.Conv2d_2a_3x3 = conv(32, 32, kernel_size=3)
            self.Conv2d_2b_3x3 = conv(32, 64, kernel_size=3, padding=1)
            self.MaxPool_1 = nn.MaxPool2d(kernel_size=3, stride=2)
            self.Conv2d_3b_1x1 = conv(64, 80, kernel_size=1)
            self.Conv2d_4a_3x3 = conv(80, 192, kernel_size=3)
            self.MaxPool_2 = nn.MaxPool2d(kernel_size=3, stride=2)
            self.Mixed_5b = fidelity.InceptionA(192, pool_features=32)
            self.Mixed_5c = fidelity.InceptionA(256, pool_features=64)
            self.Mixed_5d = fidelity.InceptionA(288, pool_features=64)
            self.Mixed_6a = fidelity.InceptionB(288)
            self.Mixed_6b = fidelity.InceptionC(768, channels_7x7=128)
            self.Mixed_6c = fidelity.InceptionC(768, channels_7x7=160)
            self.Mixed_6d = fidelity.InceptionC(768, channels_7x7=160)
            self.Mixed_6e = fidelity.InceptionC(768, channels_7x7=192)
            self.Mixed_7a = fidelity.InceptionD(768)
            self.Mixed_7b = fidelity.InceptionE_1(1280)
            self.Mixed_7c = fidelity.InceptionE_2(2048)
            self.AvgPool = nn.AdaptiveAvgPool2d(output_size=(1, 1))
            self.fc = nn.Linear(2048, 1008)
            self.requires_grad_(False)
            self.eval()

    return Inception()


class InceptionExtractor:
    """uint8 (N, 3, H, W) -> 2048 features and 1008 logits without their bias, which is what the inception score is
    defined on.
    """

    name = "inception"
    resizer = "tensorflow1-bilinear-299"
    dimensions = 2048

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network, self._device = network.to(device), device

    def __call__(self, pictures: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import torch

        features, logits = [], []
        with torch.inference_mode():
            for batch in pictures.split(_BATCH):
                pooled, classes = self._network(batch.to(self._device))
                features.append(pooled.double().cpu())
                logits.append(classes.double().cpu())
        return torch.cat(features).numpy(), torch.cat(logits).numpy()


def load_inception(device: torch.device, allow_download: bool = False) -> InceptionExtractor:
    """The extractor with the standard weights, and no others: only these make a Frechet distance an FID."""
    network = build_network()
    network.load_state_dict(read_weights(WEIGHTS, allow_download))
    return InceptionExtractor(network, device)
