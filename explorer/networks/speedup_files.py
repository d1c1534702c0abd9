"""A speed-up adapter's folder: `speedup.json`, which says what it is, and `speedup.safetensors`, its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from explorer.errors import ModelError, brief
from explorer.networks.network_files import NetworkFolder, read_tensors
from explorer.networks.speedup_branch import SCALES, NegativeBranch, SpeedUpUse

if TYPE_CHECKING:
    from explorer.networks.speedup import SpeedUp

FILES = NetworkFolder(
    "speed-up adapter", "speedup.json", "speedup.safetensors", "explorer-speedup", 1, "explorer distill --speedup",
    "SpeedUp.save",
)  # fmt: skip
SHIPPED = "speedup"
"""The folder of an embedded model's adapter in the model's own."""
MAX_NAMES = 1000
PARTS = ("key.weight", "value.weight", "value.bias", *SCALES)


def save_speed_up(adapter: SpeedUp, folder: Path) -> Path:
    """Write both files, see `NetworkFolder.write`."""
    tensors = {
        f"{name}.{part}": tensor
        for name, branch in zip(adapter.names, adapter.parts, strict=True)
        for part, tensor in branch.named_parameters()
    }
    return FILES.write(folder, tensors, adapter.to_json())


def speed_up_folder(name: str | os.PathLike[str]) -> Path:
    """An adapter's folder by its path, or by the name of the embedded model for the one that ships with it."""
    from explorer.models.loading import EMBEDDED, EMOJI

    folder = Path(name)
    if name == EMOJI and not (folder / FILES.document).exists():
        return EMBEDDED / EMOJI / SHIPPED
    return folder


def read_speed_up(folder: Path) -> tuple[dict[str, NegativeBranch], SpeedUpUse]:
    """Read an adapter's folder, untrusted: the arguments of a `SpeedUp`.

    Raises:
        ModelError: For a folder without an adapter, a document that is none, and weights that do not fit it.
    """
    return FILES.read(folder, lambda data: _arguments(data, folder / FILES.weights))


def _arguments(data: Any, weights: Path) -> tuple[dict[str, NegativeBranch], SpeedUpUse]:
    names, use = tuple(data["names"]), dict(data["use"])
    if not names or len(names) > MAX_NAMES or len({*names}) < len(names):
        raise ModelError("its cross-attentions cannot be read; save the adapter again.")
    if not all(isinstance(name, str) and len(name) <= 200 for name in names):
        raise ModelError("its cross-attentions are no names; save the adapter again.")
    numbers = ("guidance", "most", "steps")
    if not all(type(use[key]) in (int, float) for key in numbers) or type(use["steps"]) is not int:
        raise ModelError("what it was trained for is not said in numbers; save the adapter again.")
    if use["base"] is not None and not (isinstance(use["base"], str) and len(use["base"]) <= 64):
        raise ModelError("the fingerprint of its base is no text.")
    tensors = read_tensors(weights, len(names) * len(PARTS))
    return {name: _branch(name, tensors) for name in names}, SpeedUpUse(**use)


def _branch(name: str, tensors: dict[str, Tensor]) -> NegativeBranch:
    parts = {part: tensors[f"{name}.{part}"].float() for part in PARTS}
    (inner, context), channels = parts["key.weight"].shape, parts["a"].shape[0]
    with torch.device("meta"):  # draws no random numbers
        branch = NegativeBranch(context, inner, channels)
    try:
        branch.load_state_dict(parts, assign=True)
    except RuntimeError as error:
        raise ModelError(f"its tensors at {name} have other shapes than each other ({brief(error)}).") from error
    return branch
