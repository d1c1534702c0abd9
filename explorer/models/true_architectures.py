"""The published architectures with random weights: right for latency, MACs and tests, and for no quality."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from explorer.errors import ModelError

_SD = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
_XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SMALL = {**_SD, "layers_per_block": 1, "mid_block_type": None}
_THREE_LEVELS = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
}
# UNet configurations and predictions as published: SD 1.5, SD 2.1 (768 px), SDXL base 1.0, and networks pruned from
# them: BK-SDM, SSD-1B, Segmind-Vega and KOALA. small-sd has BK-SDM-Base's UNet, tiny-sd BK-SDM-Tiny's.
ARCHITECTURES: dict[str, tuple[dict[str, Any], str]] = {
    "arch:sd15": (_SD, "epsilon"),
    "arch:sd21": (
        {
            **_SD,
            "sample_size": 96,
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        "v_prediction",
    ),
    "arch:sdxl": (_XL, "epsilon"),
    "arch:bk-sdm-base": ({**_SD, "layers_per_block": 1}, "epsilon"),
    "arch:bk-sdm-small": (_SMALL, "epsilon"),
    "arch:bk-sdm-tiny": ({**_SMALL, **_THREE_LEVELS}, "epsilon"),
    "arch:ssd-1b": (
        {
            **_XL,
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": (1, (2, 2), (4, 4)),
            "reverse_transformer_layers_per_block": ((4, 4, 10), (2, 1, 1), 1),
        },
        "epsilon",
    ),
    "arch:segmind-vega": (
        {**_XL, "mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": (1, 1, 2)},
        "epsilon",
    ),
    "arch:koala-700m": (
        {**_XL, "layers_per_block": 1, "mid_block_type": None, "transformer_layers_per_block": (1, 2, 5)},
        "epsilon",
    ),
    "arch:koala-1b": ({**_XL, "layers_per_block": 1, "transformer_layers_per_block": (1, 2, 6)}, "epsilon"),
}


def architecture(name: str) -> tuple[dict[str, Any], str]:
    """The UNet's configuration and the prediction type of an `arch:` model. Raises ModelError for an unknown one."""
    if name not in ARCHITECTURES:
        raise ModelError(f"no such architecture {name!r}; expected one of {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]


@contextlib.contextmanager
def _made_on(device: Any, dtype: Any) -> Iterator[None]:
    """Weights that are made in the block are drawn by a GPU itself and in the dtype that they will have: a processor
    takes half a minute over SDXL's, and in single precision they would need twice the memory for a moment."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        if device.type != "cuda":
            yield
            return
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device:
                yield
        finally:
            torch.set_default_dtype(before)


def true_vae() -> Any:
    """Stable Diffusion's autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )


def random_pipeline(name: str, dtype: Any, device: Any) -> Any:
    """The true UNet with random weights in a stock pipeline, without text encoders (give it `prompt_embeds`)."""
    from diffusers import (
        EulerDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    config, prediction = architecture(name)
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with _made_on(device, dtype):
        unet: Any = UNet2DConditionModel(**config)
        vae = true_vae()
    unet.eval().to(dtype)
    vae.eval().to(dtype)
    if config.get("addition_embed_type") == "text_time":
        euler = EulerDiscreteScheduler(**betas, steps_offset=1)
        return StableDiffusionXLPipeline(vae, None, None, None, None, unet, euler, add_watermarker=False)
    scheduler: Any = PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1, prediction_type=prediction)
    scheduler.register_to_config(clip_sample=False)  # as in SD configs: DDIM made from them must not clip latents
    return StableDiffusionPipeline(
        vae, None, None, unet, scheduler, None, None, requires_safety_checker=False
    )  # fmt: skip
