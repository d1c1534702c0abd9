"""Adapters of another layout: a LoRA or a control network that was made for a UNet with other blocks or layers.

Tensors of such an adapter often fit by name and shape, and then change other layers than those that they were trained
on: a pruned UNet numbers its own layers, so that the second pair of an up block was the third in the original. A LoRA
shows only the layers that it names: one that names layers which this UNet lacks was made for another UNet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture

_PLACE = re.compile(
    r"(?:(?:down|up)_blocks\.\d+\.[a-z]+\.\d+|mid_block\.[a-z]+\.\d+)(?:\.transformer_blocks\.\d+)?(?=\.|$)"
)


def check_places(unet: nn.Module, names: Iterable[str], source: str) -> None:
    """Refuse weights that name a layer which the UNet does not have.

    Args:
        unet: A UNet2DConditionModel.
        names: Names of tensors or modules, as diffusers writes them.
        source: What names them, at the beginning of the message.

    Raises:
        ModelError: naming the first such layer, and how many there are.
    """
    found = {match.group() for match in map(_PLACE.search, names) if match is not None}
    if not found:
        return
    missing = sorted(place for place in found if not _has(unet, place))
    if missing:
        raise ModelError(
            f"{source} was made for a UNet of another layout: {len(missing)} of the {len(found)} layers that it names "
            f"do not exist in this one, such as {missing[0]}. A pruned UNet numbers its own layers, so the others "
            "may be wrong ones as well; give a LoRA that was trained for this UNet "
            f"({Architecture.of(unet).describe()})."
        )


def _has(unet: nn.Module, place: str) -> bool:
    try:
        unet.get_submodule(place)
    except AttributeError:
        return False
    return True


def check_residuals(architecture: Architecture, channels: Sequence[int], source: str = "the control network") -> None:
    """Refuse a control network whose residuals are not one for each skip, in order: diffusers would add those there
    are to the first skips, and stop at the first whose shape does not fit.

    Args:
        architecture: Of the UNet.
        channels: Of each residual, in order.
        source: What gives the residuals, at the beginning of the message.

    Raises:
        ModelError: naming both layouts.
    """
    expected = architecture.skip_channels
    if tuple(channels) == expected:
        return
    if len(channels) != len(expected):
        reason = f"gives {len(channels)} residuals, and this UNet has {len(expected)} skips"
    else:
        i = next(i for i, width in enumerate(channels) if width != expected[i])
        reason = f"gives {channels[i]} channels for {architecture.skips[i]}, which has {expected[i]}"
    raise ModelError(
        f"{source} was made for a UNet of another layout: it {reason}; give one that was trained for this UNet "
        f"({architecture.describe()})."
    )


def check_control_networks(pipe: Any, architecture: Architecture) -> None:
    """Refuse a pipeline's ControlNet of another layout before it runs. Raises ModelError."""
    given = getattr(pipe, "controlnet", None)
    for network in getattr(given, "nets", [given]):
        blocks = getattr(network, "controlnet_down_blocks", None)
        if blocks is not None:
            channels = [block.out_channels for block in blocks]
            check_residuals(architecture, channels, f"the pipeline's {type(network).__name__}")
