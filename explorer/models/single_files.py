"""A model in a single `.safetensors` file, in the layout of the original Stable Diffusion checkpoints.

The file holds weights alone. How they are put together is read from a diffusers folder that the file lies in (such as a
copy of a hub repository, with or without weights of its own), otherwise from the published model's files on the hub.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from explorer.models.folders import INDEX, part_config, read_index, shapes_of
from explorer.models.hub import explained
from explorer.models.library_messages import quiet_libraries
from explorer.models.pipeline_classes import SD, XL, further_channels, text_to_image_class
from explorer.models.true_architectures import architecture

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_TEXT = ("cond_stage_model.", "conditioner.embedders.")
_SECOND_TEXT, _OPEN_CLIP = "conditioner.embedders.1.", "cond_stage_model.model."
_FIRST_CONVOLUTION = f"{_UNET}input_blocks.0.0.weight"
_LATENTS = 4
PUBLISHED = {
    "arch:sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "arch:sd21": "stabilityai/stable-diffusion-2-1",
    "arch:sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
"""Where the configuration of each architecture is on the hub."""


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint of a complete pipeline. like: the `arch:` model of its layout; folder: the diffusers folder that
    describes it, where it lies in one; sizes: numbers in the weights of each part."""

    path: Path
    like: str
    folder: Path | None
    sizes: dict[str, int]

    def unet_config(self) -> dict[str, Any]:
        """Raises ModelError for a folder without one."""
        return dict(architecture(self.like)[0]) if self.folder is None else part_config(self.folder, "unet")


def is_single_file(name: str) -> bool:
    """Whether a model's name is that of a file with weights."""
    path = Path(name).expanduser()
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_single_file(name: str) -> SingleFile:
    """What a file with weights holds; the weights themselves are not read.

    Raises:
        ModelError: for a file that is no checkpoint of a complete Stable Diffusion pipeline; says what it is.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() not in SUFFIXES[:2]:
        raise ModelError(
            f"{name} holds pickled weights, which can run code when they are loaded; convert it to safetensors first."
        )
    shapes = shapes_of(path)
    sizes = {
        part: sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(prefixes))
        for part, prefixes in (("unet", _UNET), ("vae", _VAE), ("text_encoder", _TEXT))
    }
    missing = [part for part, size in sizes.items() if not size]
    if missing:
        raise ModelError(f"{name} {_what_it_is(shapes, missing)}")
    first = shapes.get(_FIRST_CONVOLUTION, [0, _LATENTS])
    reason = further_channels(first[1], _LATENTS)
    if reason is None and _TEXT[1] in " ".join(shapes) and not any(key.startswith(_SECOND_TEXT) for key in shapes):
        reason = "it is a refiner, which continues from the latents of another pipeline"
    if reason is not None:
        raise ModelError(
            f"{name} cannot be run as a text-to-image pipeline: {reason}; give a Stable Diffusion 1.x, 2.x or XL "
            "text-to-image model."
        )
    like = "arch:sd15"
    if any(key.startswith(_SECOND_TEXT) for key in shapes):
        like = "arch:sdxl"
    elif any(key.startswith(_OPEN_CLIP) for key in shapes):
        like = "arch:sd21"
    folder = path.parent if (path.parent / INDEX).is_file() else None
    width = architecture(like)[0]["block_out_channels"][0]
    if folder is None and first[0] not in (0, width):
        raise ModelError(
            f"{name} is not a published Stable Diffusion model (its UNet begins with {first[0]} channels, not "
            f"{width}); put it into the diffusers folder that describes it, beside its {INDEX}."
        )
    return SingleFile(path, like, folder, sizes)


def load_single_file(name: str, dtype: Any) -> Any:
    """The text-to-image pipeline of a checkpoint. Raises ModelError."""
    import diffusers

    file = read_single_file(name)
    kind = XL if file.like == "arch:sdxl" else SD
    if file.folder is not None:
        kind = text_to_image_class(name, read_index(file.folder), file.unet_config())
    config = PUBLISHED[file.like] if file.folder is None else str(file.folder)
    wanted = f"the configuration {config}"
    with quiet_libraries(), explained(name, "" if file.folder else config):
        pipe = getattr(diffusers, kind).from_single_file(
            str(file.path), config=config, dtype=dtype, local_files_only=file.folder is not None, safety_checker=None,
            feature_extractor=None, image_encoder=None,
        )  # fmt: skip
    for part in file.sizes:
        lacking = [key for key, parameter in getattr(pipe, part).named_parameters() if parameter.is_meta]
        if lacking:
            raise ModelError(
                f"{name} lacks {len(lacking)} tensors of its {part} ({lacking[0]}), or {wanted} is another model's; "
                "copy it again."
            )
    return pipe


def _what_it_is(shapes: dict[str, list[int]], missing: list[str]) -> str:
    """Of a file that is no complete checkpoint, and what to give in its place."""
    if any("lora" in key.lower() for key in shapes):
        return "holds a LoRA, not a model; give the model that it was made for."
    if len(missing) < 3:
        return f"has no {' and no '.join(missing)}; give the checkpoint of a complete pipeline."
    if any(key.startswith(("down_blocks.", "encoder.down_blocks.", "text_model.", "embeddings.")) for key in shapes):
        return (
            "holds one part of a pipeline in diffusers' layout, and a model needs them all; give the folder that has "
            f"{INDEX}."
        )
    return "holds no Stable Diffusion checkpoint; give a diffusers folder, or the checkpoint of a complete pipeline."
