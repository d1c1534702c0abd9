"""A convolution whose kernel is mixed from several experts (CondConv, Yang et al. 2019, arXiv 1904.04971)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from explorer.errors import ModelError

Routing = Literal["input", "time"]
"""What the shares of the experts are computed from: the convolution's input, or the time embedding alone."""
ROUTED_BY_TIME = "routed_by_time"
"""Attribute of a UNet, true where convolutions of it read the time embedding."""


class ConditionalConv(nn.Conv2d):
    """kernel = sum_i a_i W_i with a = sigmoid(R r + b); r is the input's mean over its pixels, or the time embedding.

    `weight` is the first expert and `experts` are the others; `router` gives the logits of the shares. The tensors of
    the convolution that it takes the place of keep their names.

    Args:
        conv: What it takes the place of. Its tensors are used, not copied.
        count: Of experts, 2 or more. The further ones and the router are not initialised.
        routing: What the shares are computed from.
        time_width: Of the time embedding.
    """

    def __init__(self, conv: nn.Conv2d, count: int, routing: Routing, time_width: int) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, (conv.kernel_size[0], conv.kernel_size[1]),
            stride=(conv.stride[0], conv.stride[1]), padding=conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.routing: Routing = routing
        self.experts = nn.ParameterList([nn.Parameter(torch.empty_like(conv.weight)) for _ in range(count - 1)])
        width = conv.in_channels if routing == "input" else time_width
        router = nn.Linear(width, count, device="meta", dtype=conv.weight.dtype)  # draws no random numbers
        self.router = router.to_empty(device=conv.weight.device)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """The convolution of x.

        Args:
            x: (B, C, H, W).
            time: (1, E) the time embedding that all samples share, or (B, E). Read where `routing` is `time`.

        Returns:
            (B, C_out, H, W).

        Raises:
            ModelError: Without the time embedding, which diffusers' own forward does not pass on.
        """
        shares = self.shares(x, time)
        kernels = torch.stack([self.weight, *self.experts])
        mixed = (shares @ kernels.flatten(1)).unflatten(1, self.weight.shape)
        if len(mixed) == 1:
            return self._conv_forward(x, mixed[0], self.bias)
        batch, _, height, width = x.shape
        # Each sample is a group of channels of one picture, so that one convolution has a kernel for each sample.
        made = nn.functional.conv2d(
            x.reshape(1, -1, height, width), mixed.flatten(0, 1), None, self.stride, self.padding, groups=batch
        )
        made = made.reshape(batch, -1, *made.shape[2:])
        return made if self.bias is None else made + self.bias[:, None, None]

    def shares(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, N) the share of each expert for each sample; (1, N) where all samples have the same. Arguments as of
        `forward`."""
        read = x.mean((2, 3)) if self.routing == "input" else time
        if read is None:
            raise ModelError(
                "a convolution whose experts are chosen by the time was called without the time embedding; run this "
                "UNet by a plan: explorer.inherit(unet, plan)."
            )
        return torch.sigmoid(self.router(read))
