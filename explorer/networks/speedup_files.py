"""A speed-up adapter's folder: `speedup.json`, which says what it is, and `speedup.safetensors`, its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from explorer.errors import ExplorerError, ModelError, brief
from explorer.files import write_whole
from explorer.networks.speedup_branch import SCALES, NegativeBranch, SpeedUpUse
from explorer.networks.student_files import MAX_BYTES, read_tensors, writing

if TYPE_CHECKING:
    from explorer.networks.speedup import SpeedUp

DOCUMENT, WEIGHTS = "speedup.json", "speedup.safetensors"
FORMAT, SCHEMA = "explorer-speedup", 1
MAX_NAMES = 1000
PARTS = ("key.weight", "value.weight", "value.bias", *SCALES)


def save_speed_up(adapter: SpeedUp, folder: Path) -> Path:
    """Write both files, each there in full or not at all; the weights first, as the document names them."""
    tensors = {
        f"{name}.{part}": tensor.detach().cpu().half().contiguous().clone()
        for name, branch in zip(adapter.names, adapter.branches, strict=True)
        for part, tensor in branch.named_parameters()
    }
    document = {"format": FORMAT, "schema": SCHEMA, **adapter.to_json()}
    with writing(folder, "the speed-up adapter"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / WEIGHTS, save(tensors))
        write_whole(folder / DOCUMENT, json.dumps(document, indent=1).encode())
    return folder


def read_speed_up(folder: Path) -> tuple[dict[str, NegativeBranch], SpeedUpUse]:
    """Read an adapter's folder, untrusted: the arguments of a `SpeedUp`.

    Raises:
        ModelError: For a folder without an adapter, a document that is none, and weights that do not fit it.
    """
    path = folder / DOCUMENT
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} has over {MAX_BYTES:,} bytes, which no adapter has; give an adapter's folder.")
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"the folder {str(folder)!r} holds no speed-up adapter (no {DOCUMENT}); give one that `explorer distill "
            "--speedup` or SpeedUp.save wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({brief(error)}); save the adapter again.") from error
    try:
        return _adapter(data, folder / WEIGHTS)
    except ModelError as error:
        raise ModelError(f"{path}: {brief(error)}") from error
    except (ExplorerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is no speed-up adapter ({brief(repr(error))}); save it again.") from error


def _adapter(data: Any, weights: Path) -> tuple[dict[str, NegativeBranch], SpeedUpUse]:
    if data["format"] != FORMAT:
        raise ModelError("this is no speed-up adapter's document; give a folder that SpeedUp.save wrote.")
    if data["schema"] != SCHEMA:
        raise ModelError(
            f"its schema is {data['schema']!r:.20}, and this version reads {SCHEMA}; upgrade the explorer."
        )
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
