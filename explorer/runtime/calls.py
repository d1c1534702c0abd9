"""What a UNet is called with: the parameters of `UNet2DConditionModel.forward`, by the names of `read_conditions`."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def read_call(
    sample: Tensor,
    timestep: Any,
    encoder_hidden_states: Tensor | None = None,
    class_labels: Tensor | None = None,
    timestep_cond: Tensor | None = None,
    attention_mask: Tensor | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
    added_cond_kwargs: dict[str, Tensor] | None = None,
    down_block_additional_residuals: tuple[Tensor, ...] | None = None,
    mid_block_additional_residual: Tensor | None = None,
    down_intrablock_additional_residuals: list[Tensor] | None = None,
    encoder_attention_mask: Tensor | None = None,
    return_dict: bool = True,
) -> tuple[dict[str, Any], bool]:
    """The arguments of `explorer.unet.conditions.read_conditions`, and whether the output is to be named."""
    return {
        "sample": sample,
        "timestep": timestep,
        "context": encoder_hidden_states,
        "class_labels": class_labels,
        "timestep_cond": timestep_cond,
        "attention_mask": attention_mask,
        "attention_kwargs": cross_attention_kwargs,
        "added": added_cond_kwargs,
        "down_residuals": down_block_additional_residuals,
        "mid_residual": mid_block_additional_residual,
        "intrablock": down_intrablock_additional_residuals,
        "context_mask": encoder_attention_mask,
    }, return_dict
