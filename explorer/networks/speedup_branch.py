"""What a speed-up adapter has at one cross-attention, and what it was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.errors import ModelError

SCALES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class SpeedUpUse:
    """What an adapter was trained for.

    Attributes:
        guidance: The guidance scale that it takes by default.
        most: The largest that it was trained for; the least is 1.
        steps: UNet evaluations of a run.
        scheduler: A scheduler that a plan may name.
        spacing: Of its timesteps.
        base: Fingerprint of the UNet that it was trained on; it plugs into others of the same layout.
    """

    guidance: float = 3.0
    most: float = 6.0
    steps: int = 4
    scheduler: str = "DDIMScheduler"
    spacing: str = "trailing"
    base: str | None = None

    def __post_init__(self) -> None:
        from explorer.plans.schedulers import check_name, check_spacing

        if not 1 <= self.guidance <= self.most <= 100 or not 1 <= self.steps <= 1000:
            raise ModelError(
                f"a speed-up adapter takes a guidance from 1 to the largest that it was trained for and 1 to 1000 "
                f"steps, got {self.guidance:g} of {self.most:g} and {self.steps}."
            )
        check_name(self.scheduler)
        check_spacing(self.spacing)


class NegativeBranch(nn.Module):
    """What an adapter has at one cross-attention.

    Args:
        context: Channels of the text states.
        inner: Channels of keys and values.
        channels: Of the cross-attention's output.
    """

    def __init__(self, context: int, inner: int, channels: int) -> None:
        super().__init__()
        self.key = nn.Linear(context, inner, bias=False)
        self.value = nn.Linear(context, inner)
        self.a, self.b, self.c, self.d = (nn.Parameter(torch.zeros(channels)) for _ in SCALES)

    def forward(
        self, attention: Any, hidden: Tensor, negative: Tensor, out: Tensor, guidance: float | Tensor
    ) -> Tensor:
        """The output (B, tokens, C) of a cross-attention with the negative prompt taken off.

        Args:
            attention: The cross-attention.
            hidden: Its input (B, tokens, C).
            negative: Text states of the negative prompt (B, T, D).
            out: What it gives for the prompt (B, tokens, C).
            guidance: The guidance scale; of each sample, (B, 1, 1).
        """
        g = guidance - 1
        query = self._heads(attention, attention.to_q(hidden))
        key, value = (self._heads(attention, part(negative)) for part in (self.key, self.value))
        read = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        taken = functional.linear(read, attention.to_out[0].weight)
        # in single precision, where no length overflows
        away = out.float().norm(dim=-1, keepdim=True) * functional.normalize(taken.float(), dim=-1, eps=1e-6)
        change = g * (self.a + g * self.b) * away + g * (self.c + g * self.d)
        return out - change.to(out.dtype)

    @staticmethod
    def _heads(attention: Any, states: Tensor) -> Tensor:
        """(B, tokens, heads x d) to (B, heads, tokens, d)."""
        return states.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
