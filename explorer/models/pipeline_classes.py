"""Which text-to-image pipeline a folder's networks make, whatever pipeline they were saved from.

A plan is searched on text-to-image pictures. An image-to-image, inpainting or ControlNet pipeline of the same networks
runs it as well, so such a folder is loaded as the text-to-image pipeline of its networks. Networks that cannot make a
picture from a text alone are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.errors import ModelError

SD, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")
_FURTHER_CHANNELS = {
    1: "a depth map (a depth-to-image model)",
    3: "a small picture (an upscaler)",
    4: "the latents of a picture (an InstructPix2Pix model)",
    5: "the latents of a picture and its mask (an inpainting model)",
}


def class_of(index: Mapping[str, Any]) -> str:
    """The class that a pipeline's index names; of a custom pipeline, whose file is named beside it, the class alone."""
    named = index.get("_class_name")
    return str(named[-1] if isinstance(named, list) and named else named)


def part_class(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part in a pipeline's index; None where it has no such part."""
    found = index.get(part)
    return found[1] if isinstance(found, list) and len(found) == 2 else None


def text_to_image_class(name: str, index: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    """The class to load a pipeline's networks with.

    Args:
        name: The model, as the user named it.
        index: The content of its `model_index.json`.
        unet: The configuration of its UNet.

    Raises:
        ModelError: when its networks do not make pictures from a text alone; names the class and the reason.
    """
    kind = class_of(index)
    reason = further_channels(unet.get("in_channels", 4), unet.get("out_channels", 4)) or _other_inputs(unet)
    if reason is None:
        encoders = [part for part in ("text_encoder", "text_encoder_2") if part_class(index, part)]
        extended = unet.get("addition_embed_type") == "text_time"
        if extended and encoders == ["text_encoder_2"]:
            reason = "it is a refiner, which continues from the latents of another pipeline"
        elif encoders != ["text_encoder", "text_encoder_2"][: 1 + extended]:
            reason = f"it has {' and '.join(encoders) or 'no text encoder'}, which its UNet cannot be run with"
        elif kind not in (SD, XL):
            strange = [part_class(index, part) for part in encoders if part_class(index, part) not in TEXT_ENCODERS]
            if strange:
                reason = f"its text encoder is a {strange[0]}, not Stable Diffusion's"
            elif part_class(index, "vae") is None:
                reason = "it has no autoencoder"
    if reason is not None:
        raise ModelError(
            f"{name} is a {kind} that cannot be run as a text-to-image pipeline: {reason}; give a Stable Diffusion "
            "1.x, 2.x or XL text-to-image model."
        )
    return XL if unet.get("addition_embed_type") == "text_time" else SD


def further_channels(channels: Any, latents: Any) -> str | None:
    """What a UNet takes beside the latents, as a reason against it; None for a text-to-image model's."""
    if channels == latents or not isinstance(channels, int) or not isinstance(latents, int):
        return None
    what = _FURTHER_CHANNELS.get(channels - latents, "something else")
    return f"its UNet takes {channels} channels, {latents} of latents and {channels - latents} of {what}"


def _other_inputs(unet: Mapping[str, Any]) -> str | None:
    """A condition of a UNet that no text gives."""
    if unet.get("class_embed_type") or unet.get("num_class_embeds"):
        return "its UNet takes class embeddings, such as those of a picture"
    if unet.get("encoder_hid_dim_type"):
        return f"its UNet takes other embeddings than a CLIP text encoder's ({unet['encoder_hid_dim_type']})"
    if unet.get("addition_embed_type") not in (None, "text_time"):
        return f"its UNet takes further embeddings ({unet['addition_embed_type']})"
    return None
