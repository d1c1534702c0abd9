"""UNets and their inputs without data, for what shapes alone tell: parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from explorer.models.workload import TEXT_TOKENS

if TYPE_CHECKING:
    from torch import Tensor


def empty_unet(config: Mapping[str, Any]) -> Any:
    """The UNet2DConditionModel of a configuration on the meta device. It takes no memory."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config).eval()


def empty_inputs(unet: Any, height: int, width: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What an empty UNet is called with, for one sample.

    Args:
        unet: The UNet.
        height: Of the latent.
        width: Of the latent.

    Returns:
        The sample (1, C, height, width), the text states (1, T, D), and what SDXL's UNet is given besides.
    """
    import torch

    config = unet.config
    dim = config.cross_attention_dim
    with torch.device("meta"):
        added = {}
        if config.addition_embed_type == "text_time":
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
        context = torch.empty(1, TEXT_TOKENS, dim if isinstance(dim, int) else dim[0])
        return torch.empty(1, config.in_channels, height, width), context, added
