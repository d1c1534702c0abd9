"""LoRA files: their weights are fused into a pipeline's, so that a plan runs on plain layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError, brief, is_text


@dataclass(frozen=True)
class Lora:
    """A file of low-rank weights.

    Attributes:
        path: Absolute.
        scale: What its update is multiplied by.
    """

    path: Path
    scale: float

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:g}"

    def check(self) -> None:
        """Raises ModelError where there is no such file."""
        if not self.path.is_file():
            raise ModelError(f"there is no LoRA file {brief(self.path, 200)}; give another one with --lora.")


def parse_lora(text: str) -> Lora:
    """A LoRA file from `PATH` or `PATH:SCALE`; whether it exists is seen by `check`.

    Raises:
        ModelError: For another kind of file, and a scale that is no number.
    """
    name, _, last = text.rpartition(":")
    try:
        scale = float(last) if name else 1.0
    except ValueError:
        scale, name = 1.0, ""
    path = Path(name or text)
    if path.suffix != ".safetensors" or not is_text(text):
        raise ModelError(
            f"--lora must be a LoRA file in safetensors with its scale, such as style.safetensors:0.8, got "
            f"{brief(ascii(text), 200)}."
        )
    if not math.isfinite(scale):
        raise ModelError(f"the scale of a LoRA must be a number, got {brief(repr(text), 200)}.")
    return Lora(path.resolve(), scale)


def fuse_loras(pipe: Any, model: str, loras: Sequence[Lora]) -> None:
    """Add the LoRAs to the weights of a pipeline.

    Args:
        pipe: A diffusers text-to-image pipeline.
        model: What the pipeline is called in messages.
        loras: In any order; their updates are summed.

    Raises:
        ModelError: For a file that cannot be read or does not fit the pipeline's networks, and for one that names
            layers which its UNet lacks.
    """
    from explorer.unet.layouts import check_places

    for number, lora in enumerate(loras):
        lora.check()
        adapter = f"lora{number}"
        try:
            tensors = pipe.lora_state_dict(str(lora.path.parent), weight_name=lora.path.name, local_files_only=True,
                                           unet_config=pipe.unet.config)[0]  # fmt: skip
            check_places(pipe.unet, tensors, f"the LoRA {lora.path}")
            pipe.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name, adapter_name=adapter,
                                   local_files_only=True)  # fmt: skip
        except ModelError:
            raise
        except Exception as error:  # of safetensors, diffusers or peft: whatever a file holds
            raise ModelError(
                f"the LoRA {lora.path} does not fit {model} ({brief(error, 160).rstrip('.')}); give one that was "
                "trained for this model."
            ) from error
        if not any(adapter in names for names in pipe.get_list_adapters().values()):
            raise ModelError(f"the LoRA {lora.path} holds no weights for {model}; give one that was trained for it.")
        pipe.fuse_lora(lora_scale=lora.scale, adapter_names=[adapter])
        pipe.unload_lora_weights()
