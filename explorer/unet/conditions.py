"""Read the arguments of a UNet call into `Conditions`: what diffusers' forward computes before its first block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture
from explorer.unet.conditional_conv import ROUTED_BY_TIME
from explorer.unet.layouts import check_residuals
from explorer.unet.program import Conditions


def read_conditions(
    unet: Any,
    architecture: Architecture,
    sample: Tensor,
    timestep: Any,
    context: Tensor | None,
    class_labels: Tensor | None = None,
    timestep_cond: Tensor | None = None,
    attention_mask: Tensor | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    added: dict[str, Tensor] | None = None,
    down_residuals: tuple[Tensor, ...] | None = None,
    mid_residual: Tensor | None = None,
    intrablock: list[Tensor] | None = None,
    context_mask: Tensor | None = None,
    embed: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, Conditions]:
    """The sample as conv_in reads it, and the conditions of one evaluation. Arguments as of UNet2DConditionModel.

    embed: in place of `embedding`, such as that one compiled.

    A control network's residuals (`down_residuals`, `mid_residual`) and a T2I-Adapter's features are applied live:
    those of this evaluation are added where a live node reads them, also on an inherited skip, and none is ever stored;
    in a region that is inherited as a whole they go with it. A control network's residuals of the last extract step
    drifted more in 7 of 10 measured cases, by up to 6.9 dB, and less in 3, by up to 0.5 dB
    (benchmarks/results/controlnet-residuals-emoji-cpu.json).

    Raises:
        ModelError: for GLIGEN, which feeds attention a network of its own, where attention has no text to read, and for
            residuals of a control network of another layout.
    """
    if context is None and any(node.kind == "attn" for node in architecture.nodes):
        raise ModelError(
            "the UNet was called without text states, which its attention reads; give it encoder_hidden_states (for no "
            "text those of an empty prompt)."
        )
    if attention_kwargs is not None and attention_kwargs.get("gligen") is not None:
        raise ModelError("GLIGEN is not supported with a plan; remove the plan for this call.")
    if unet.config.center_input_sample:
        sample = 2 * sample - 1.0
    time: Tensor | None = None
    if getattr(unet, ROUTED_BY_TIME, False):
        own = _time_embedding(unet, sample, timestep, timestep_cond)
        # one row where all samples share a timestep, so that they share a kernel
        shared = timestep_cond is None and not (isinstance(timestep, Tensor) and timestep.numel() > 1)
        time = own[:1] if shared else own
        emb = _further(unet, own, sample, class_labels, context, added)
    else:
        emb = (embed or embedding)(unet, sample, timestep, timestep_cond, class_labels, context, added)
    context = unet.process_encoder_hidden_states(encoder_hidden_states=context, added_cond_kwargs=added)

    if mid_residual is None and down_residuals is not None and intrablock is None:
        # The older way to pass T2I-Adapter features, as diffusers still reads it.
        intrablock, down_residuals = list(down_residuals), None
    adds = _adapter_adds(architecture, intrablock or [], sample)
    skip_adds: dict[str, Tensor] = {}
    bottom_add: Tensor | None = None
    if down_residuals is not None and mid_residual is not None:
        check_residuals(architecture, [each.shape[1] for each in down_residuals])
        skip_adds = dict(zip(architecture.skips, down_residuals, strict=True))
        bottom = architecture.bottom
        if architecture.mid_res:
            adds[bottom] = adds[bottom] + mid_residual if bottom in adds else mid_residual
        else:
            bottom_add = mid_residual
    height, width = sample.shape[-2:]
    factor = 2**unet.num_upsamplers
    return sample, Conditions(
        emb=emb,
        context=context,
        size=(height, width),
        upsample=bool(height % factor or width % factor),
        attention_mask=_bias(attention_mask, sample),
        context_mask=_bias(context_mask, sample),
        attention_kwargs=attention_kwargs,
        adds=adds,
        skip_adds=skip_adds,
        bottom_add=bottom_add,
        time=time,
    )


def embedding(
    unet: Any,
    sample: Tensor,
    timestep: Any,
    timestep_cond: Tensor | None,
    class_labels: Tensor | None,
    context: Tensor | None,
    added: dict[str, Tensor] | None,
) -> Tensor:
    """The time embedding (B, E) that every ResUnit reads, with that of classes and sizes: many small operations."""
    own = _time_embedding(unet, sample, timestep, timestep_cond)
    return _further(unet, own, sample, class_labels, context, added)


def _time_embedding(unet: Any, sample: Tensor, timestep: Any, timestep_cond: Tensor | None) -> Tensor:
    """The embedding of the timestep alone, (B, E)."""
    emb: Tensor = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep), timestep_cond)
    return emb


def _further(
    unet: Any,
    emb: Tensor,
    sample: Tensor,
    class_labels: Tensor | None,
    context: Tensor | None,
    added: dict[str, Tensor] | None,
) -> Tensor:
    """The embedding of the timestep with that of classes and sizes, through the activation where there is one."""
    class_emb = unet.get_class_embed(sample=sample, class_labels=class_labels)
    if class_emb is not None:
        emb = torch.cat([emb, class_emb], dim=-1) if unet.config.class_embeddings_concat else emb + class_emb
    aug_emb = unet.get_aug_embed(emb=emb, encoder_hidden_states=context, added_cond_kwargs=added)
    emb = emb + aug_emb if aug_emb is not None else emb
    return emb if unet.time_embed_act is None else unet.time_embed_act(emb)


def _bias(mask: Tensor | None, sample: Tensor) -> Tensor | None:
    return None if mask is None else ((1 - mask.to(sample.dtype)) * -10000.0).unsqueeze(1)


def _adapter_adds(architecture: Architecture, features: list[Tensor], sample: Tensor) -> dict[str, Tensor]:
    """Where T2I-Adapter's features are added: a CrossAttnDownBlock2D's last AttnUnit, a DownBlock2D's last node, and,
    for XL, the mid block when the shape fits."""
    adds: dict[str, Tensor] = {}
    if not features:
        return adds
    left = list(features)
    for b, spec in enumerate(architecture.down):
        if left:
            last = f"dn{b}.l{spec.layers - 1}"
            plain = f"dn{b}.down" if f"dn{b}.down" in architecture.by_name else f"{last}.res"
            adds[f"{last}.attn" if spec.transformers else plain] = left.pop(0)
    if left and architecture.mid_res:
        level = architecture.level("mid")
        size = tuple(-(-side // 2**level) for side in sample.shape[-2:])
        if tuple(left[0].shape) == (sample.shape[0], architecture.down[-1].channels, *size):
            adds[architecture.bottom] = left.pop(0)
    return adds
