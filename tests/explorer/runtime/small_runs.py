"""Runs of a tiny pipeline, shared by the tests of the runtime."""

from __future__ import annotations

from typing import Any

import torch

from explorer import InheritancePlan, strategy
from tests.conftest import embeds, make_pipeline

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def latents(pipe: Any, steps: int = 10, batch: int = 1, **kwargs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    kwargs = {**embeds(batch), "output_type": "latent", "num_inference_steps": steps, **kwargs}
    return pipe(generator=generator, **kwargs).images


def small_pipeline(scheduler: Any = None) -> Any:
    """With two levels of one layer: soon run, and soon compiled."""
    return make_pipeline(
        scheduler, block_out_channels=(16, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def plan_for(pipe: Any, name: str = "DC0", mode: str = "P5", steps: int = 10, rule: str = "copy") -> InheritancePlan:
    return strategy(name, mode=mode, steps=steps, unet=pipe.unet, rule=rule)


def ran_units(pipe: Any) -> list[int]:
    """Append, at each evaluation, how many ResUnits ran: read by the caller after the run."""
    counts: list[int] = []
    for module in pipe.unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            module.conv1.register_forward_hook(lambda *_: counts.__setitem__(-1, counts[-1] + 1))
    pipe.unet.conv_in.register_forward_hook(lambda *_: counts.append(0))
    return counts
