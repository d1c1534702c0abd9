"""UNet configurations as diffusers writes them, and architectures without torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from explorer.unet.architecture import Architecture

if TYPE_CHECKING:
    from explorer.timing.anatomy import Anatomy

SD15_CONFIG: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SDXL_CONFIG: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
}
SMALL_CONFIG = {**SD15_CONFIG, "layers_per_block": 1, "mid_block_type": None}
"""BK-SDM-Small; without its last level, and with attention throughout, BK-SDM-Tiny."""
TINY_CONFIG = {
    **SMALL_CONFIG,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
}
SSD1B_CONFIG = {
    **SDXL_CONFIG,
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
SD15 = Architecture.of_config(SD15_CONFIG)
SDXL = Architecture.of_config(SDXL_CONFIG)
TINY = Architecture.from_json(
    {
        "down": [
            {"channels": 8, "layers": 1, "transformers": 0},
            {"channels": 16, "layers": 1, "transformers": 1},
        ],
        "mid_transformers": 1,
        "up": [
            {"channels": 16, "layers": 2, "transformers": 1},
            {"channels": 8, "layers": 2, "transformers": 0},
        ],
        "in_channels": 4,
        "out_channels": 4,
        "context": 8,
    }
)
ONE_BLOCK = Architecture.of_config(
    {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
        "block_out_channels": [8],
        "layers_per_block": 1,
        "cross_attention_dim": 8,
    }
)
BK_TINY = Architecture.of_config(TINY_CONFIG)
SSD1B = Architecture.of_config(SSD1B_CONFIG)
ARCHITECTURES = {
    "sd15": SD15, "sdxl": SDXL, "bk-sdm-tiny": BK_TINY, "ssd-1b": SSD1B, "tiny": TINY, "one block": ONE_BLOCK
}  # fmt: skip


@cache
def sd15_anatomy() -> Anatomy:
    """The costs of SD1.5's UNet at 64x64 latents; it is built without data."""
    import torch
    from diffusers import UNet2DConditionModel

    from explorer.timing.anatomy import anatomy

    with torch.device("meta"):
        return anatomy(UNet2DConditionModel(**SD15_CONFIG))
