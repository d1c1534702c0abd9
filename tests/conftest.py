"""Tiny UNets and pipelines of the shapes that the engine supports, with random weights and fixed seeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests themselves keep the machine busy: what they time is taken as it comes, and no quiet is waited for. Tests of
# stalled timings set these themselves.
os.environ.setdefault("EXPLORER_STALL_RATIO", "1e6")
os.environ.setdefault("EXPLORER_QUIET_SECONDS", "0")

import hypothesis
import pytest

# An example may take longer than hypothesis' 200 ms on a machine that has other things to do.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


SHAPES: dict[str, dict[str, Any]] = {
    "sd1": {"attention_head_dim": 2, "cross_attention_dim": 16},
    "sd2": {"attention_head_dim": (2, 2, 4, 4), "cross_attention_dim": 16, "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 3),
        "attention_head_dim": (2, 2, 4),
        "cross_attention_dim": 16,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
    },
}
PRUNED = ("bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny", "ssd-1b", "segmind-vega", "koala-700m", "koala-1b")
"""Networks that others have pruned and published, each an `arch:` model."""


def pruned_config(name: str) -> dict[str, Any]:
    """The published configuration of a pruned UNet, narrow; blocks, layers and transformer blocks are its own."""
    from explorer.models.true_architectures import architecture

    config = architecture(f"arch:{name}")[0]
    levels = len(config["block_out_channels"])
    narrow: dict[str, Any] = {"sample_size": 16, "cross_attention_dim": 16, "attention_head_dim": (2, 2, 4, 4)[:levels]}
    if config.get("addition_embed_type") == "text_time":
        narrow |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 16}
    return {**config, **narrow, "block_out_channels": (16, 32, 32, 32)[:levels]}


def make_unet(shape: str = "sd1", **changes: Any) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 16,
        "block_out_channels": (16, 32, 32, 32),
        "norm_num_groups": 8,
        **(SHAPES[shape] if shape in SHAPES else pruned_config(shape)),
        **changes,
    }
    torch.manual_seed(0)
    return UNet2DConditionModel(**config).eval()


def make_pipeline(scheduler: Any = None, *, kind: str = "StableDiffusionPipeline", **unet_changes: Any) -> Any:
    """A stock pipeline with a tiny random UNet and autoencoder; give it `prompt_embeds` (it has no text encoder)."""
    import diffusers
    import torch

    unet = make_unet("sd1", **unet_changes)
    torch.manual_seed(1)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    scheduler = scheduler or diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        set_alpha_to_one=False,
    )  # fmt: skip
    pipe = getattr(diffusers, kind)(vae, None, None, unet, scheduler, None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embeds(batch: int = 1, tokens: int = 7, width: int = 16) -> dict[str, Any]:
    """Prompt and negative prompt embeddings for a pipeline without text encoder."""
    import torch

    generator = torch.Generator().manual_seed(2)
    draw = torch.randn(2, batch, tokens, width, generator=generator)
    return {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1]}


@pytest.fixture(scope="session")
def unet_of() -> Callable[..., Any]:
    return make_unet


@pytest.fixture()
def pipeline_of() -> Callable[..., Any]:
    return make_pipeline
