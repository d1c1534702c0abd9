"""A transformer block in fewer steps of Python: its attention processors are called directly.

diffusers' `Attention.forward` inspects its processor's signature at every call, to tell which keyword arguments it
takes. Where there are none that is time of the host alone, more than a tenth of a small batch's evaluation. The
arithmetic is the block's own, operation for operation. A block that anything was changed about is called as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from explorer.unet.own_forward import is_own

_FORWARDS = {each: each.forward for each in (BasicTransformerBlock, Attention) if is_own(each)}


def run_block(
    block: Any,
    hidden: Tensor,
    context: Any,
    attention_mask: Tensor | None,
    context_mask: Tensor | None,
    attention_kwargs: dict[str, Any] | None,
) -> Tensor:
    """What `block` makes of `hidden` (B, tokens, C). context: what its cross-attention reads, (B, T, C) or what the
    processors take in its place; masks as `BasicTransformerBlock.forward` takes them."""
    # A compiler reads the signature once, while it traces, and would guard every look at the module.
    if attention_kwargs or torch.compiler.is_compiling() or not _is_plain(block):
        called: Tensor = block(
            hidden,
            attention_mask=attention_mask,
            encoder_hidden_states=context,
            encoder_attention_mask=context_mask,
            timestep=None,
            cross_attention_kwargs=attention_kwargs,
            class_labels=None,
        )
        return called
    own, cross = block.attn1, block.attn2
    read = context if block.only_cross_attention else None
    found = own.processor(own, block.norm1(hidden), encoder_hidden_states=read, attention_mask=attention_mask)
    hidden = found + hidden
    found = cross.processor(cross, block.norm2(hidden), encoder_hidden_states=context, attention_mask=context_mask)
    hidden = found + hidden
    result: Tensor = block.ff(block.norm3(hidden)) + hidden
    return result


def _is_plain(block: Any) -> bool:
    """Whether the block is diffusers' own of the kind that Stable Diffusion has, and called as such."""
    return (
        _is_untouched(block, BasicTransformerBlock)
        and block.norm_type == "layer_norm"
        and block.pos_embed is None
        and block._chunk_size is None
        and _is_untouched(block.attn1, Attention)
        and _is_untouched(block.attn2, Attention)
        and not nn.modules.module._has_any_global_hook()
    )


def _is_untouched(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a call of the module runs diffusers' forward and nothing else: no subclass, no patch, no hook, and not
    compiled by itself (`compile_repeated_blocks`)."""
    return (
        type(module) is kind
        and kind.forward is _FORWARDS.get(kind)
        and "forward" not in module.__dict__
        and module._compiled_call_impl is None
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )
