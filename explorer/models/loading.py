"""Models by name: the embedded one, a hub id, a folder, a checkpoint, or an architecture with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from explorer.models.empty_unets import empty_unet
from explorer.models.folders import (
    INDEX,
    MAIN,
    PARTS,
    TOKENIZERS,
    check_names,
    check_tokenizers,
    checked_index,
    chosen_variant,
    files_of,
    holds,
    part_config,
    read_index,
    tensors_of,
    weight_files,
)
from explorer.models.hub import explained, fetch_files, fetch_json, listing
from explorer.models.library_messages import quiet_libraries
from explorer.models.lora import fuse_loras, parse_lora
from explorer.models.pipeline_classes import text_to_image_class
from explorer.models.single_files import SingleFile, is_single_file, load_single_file, read_single_file
from explorer.models.true_architectures import architecture, random_pipeline, true_vae

EMBEDDED = Path(__file__).parents[1] / "embedded"
EMOJI = "emoji"
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Optional parts that no text-to-image run reads."""


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be named without a path or a hub. weights: whether a quality may be reported on it."""

    name: str
    description: str
    weights: bool
    guidance: float


MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(EMOJI, "the embedded model: emoji at 64x64 px, SD1.5's topology, trained by the recipe here", True, 3.75),
    *(
        ModelInfo(name, f"{whose} true UNet with random weights: latency and MACs only", False, guidance)
        for name, whose, guidance in (
            ("arch:sd15", "Stable Diffusion 1.5's", 7.5),
            ("arch:sd21", "Stable Diffusion 2.1's", 7.5),
            ("arch:sdxl", "Stable Diffusion XL's", 5.0),
            ("arch:bk-sdm-base", "BK-SDM-Base's and small-sd's", 7.5),
            ("arch:bk-sdm-small", "BK-SDM-Small's", 7.5),
            ("arch:bk-sdm-tiny", "BK-SDM-Tiny's and tiny-sd's", 7.5),
            ("arch:ssd-1b", "SSD-1B's", 5.0),
            ("arch:segmind-vega", "Segmind-Vega's", 5.0),
            ("arch:koala-700m", "KOALA-700M's", 5.0),
            ("arch:koala-1b", "KOALA-1B's", 5.0),
        )
    ),
)


def has_weights(name: str) -> bool:
    """Whether `name` is a trained model: a quality is refused for the `arch:` models."""
    return not name.startswith("arch:")


def default_guidance(name: str) -> float:
    """The default guidance scale of a model: 7.5 (A-SDM), or the model's own for `emoji` and `arch:` models."""
    return next((model.guidance for model in MODELS if model.name == name), 7.5)


def load_pipeline(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    variant: str | None = None,
    loras: Sequence[str] = (),
) -> Any:
    """Load a text-to-image pipeline, without a safety checker and with its progress bar off.

    Weights are read from safetensors files only. A folder that was saved from another pipeline of the same networks,
    such as image-to-image or ControlNet, is loaded as the text-to-image pipeline.

    Args:
        name: `emoji`; an `arch:` model (no text encoder: give it `prompt_embeds`); a folder that `from_pretrained`
            reads; a `.safetensors` checkpoint; or a hub id, the only case that downloads weights.
        device: Where the weights are put.
        dtype: Their type, such as `float16`.
        variant: Which weight files to read, such as `non_ema`. By default those of `dtype` if the model has them
            (`fp16` for `float16`), otherwise the main ones, otherwise those of another precision.
        loras: LoRA files to fuse into the weights, each as `PATH[:SCALE]`.

    Returns:
        A `StableDiffusionPipeline` or `StableDiffusionXLPipeline` on `device`.

    Raises:
        ModelError: When there is no such model, the hub refuses, the folder is not a text-to-image pipeline, a weight
            file is missing or truncated, or the architecture is not supported.
        DeviceError: When the weights do not fit into the free memory of the device.
    """
    from explorer.memory import memory_explained

    what = f"{name} in {dtype}"
    _check_weights_fit(name, what, device, dtype, variant)
    with memory_explained(f"loading {what}", device=device, dtype=dtype, weights=True):
        pipe = _loaded(name, device, dtype, variant)
        fuse_loras(pipe, name, [parse_lora(each) for each in loras])
        return pipe


def _loaded(name: str, device: str, dtype: str, variant: str | None) -> Any:
    import torch

    from explorer.unet.architecture import Architecture

    torch_dtype = getattr(torch, dtype)
    if name.startswith("arch:"):
        pipe = random_pipeline(name, torch_dtype, torch.device(device))
    elif isinstance(_source(name), SingleFile):
        pipe = load_single_file(name, torch_dtype)
    else:
        pipe = _pretrained(name, torch_dtype, variant)
    Architecture.of(pipe.unet)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def _pretrained(name: str, dtype: Any, variant: str | None) -> Any:
    """A folder's pipeline, or a hub id's, whose files are downloaded first."""
    import diffusers

    kind = text_to_image_class(name, _index(name), unet_config(name))
    folder = _source(name)
    if not isinstance(folder, Path):
        folder = _downloaded(name, str(dtype).removeprefix("torch."), variant)
    index = read_index(folder)
    chosen = chosen_variant(str(folder), index, files_of(folder), str(dtype).removeprefix("torch."), variant)
    check_tokenizers(folder)
    unused: dict[str, None] = {part: None for part in UNUSED if part in index}
    with quiet_libraries(), explained(name):
        pipe = getattr(diffusers, kind).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, variant=chosen or None, **unused
        )
    check_names(pipe, folder, chosen)
    return pipe


def _downloaded(repo: str, dtype: str, variant: str | None) -> Path:
    """The folder in the hub's cache with what a text-to-image run needs of a pipeline: one variant of its weights, and
    no checker, ControlNet, pickle or other framework's copy."""
    index, known = _index(repo), listing(repo)
    files = weight_files(known.files)
    with explained(repo):
        try:
            chosen = chosen_variant(repo, index, files, dtype, variant)
        except ModelError as error:
            if known.unreached is None:
                raise
            raise known.unreached from error  # the cache lacks some weights, and the hub cannot give them
    patterns = [INDEX, "scheduler/*.json", *(f"{part}/*" for part in TOKENIZERS if holds(index, part))]
    for part in (part for part in PARTS if holds(index, part)):
        patterns += [f"{part}/*.json", *(files[part].get(chosen) or files[part][MAIN])]
    return fetch_files(repo, patterns)


def weight_bytes(
    name: str, *, device: str = "cpu", dtype: str = "float32", variant: str | None = None
) -> dict[str, int]:
    """Bytes of each part of a model's weights while it is loaded: {"unet": ..., "vae": ..., "text_encoder": ...}.

    The weights of an `arch:` model are made in float32 where no GPU makes them, whatever the dtype. Of a hub id, whose
    files are not there yet, the UNet alone is known.

    Raises:
        ModelError: as `load_pipeline`.
    """
    import torch

    itemsize: int = getattr(torch, dtype).itemsize
    if name.startswith("arch:"):
        with torch.device("meta"):
            parts = {"unet": load_empty_unet(name), "vae": true_vae()}
        size = itemsize if device.startswith("cuda") else max(4, itemsize)
        return {part: size * sum(each.numel() for each in module.parameters()) for part, module in parts.items()}
    source = _source(name)
    if isinstance(source, SingleFile):
        return {part: itemsize * size for part, size in source.sizes.items()}
    if isinstance(source, str):
        return {"unet": itemsize * sum(each.numel() for each in load_empty_unet(name).parameters())}
    check_tokenizers(source)
    chosen = chosen_variant(name, read_index(source), files_of(source), dtype, variant)
    return {part: itemsize * sum(sizes.values()) for part, sizes in tensors_of(source, chosen).items()}


def _check_weights_fit(name: str, what: str, device: str, dtype: str, variant: str | None) -> None:
    """Say what does not fit before minutes go into loading it."""
    import torch

    from explorer.memory import Needed, check_memory, free_memory

    needed = Needed(weight_bytes(name, device=device, dtype=dtype, variant=variant))
    check_memory(needed, free_memory(torch.device(device)), what, device=device, dtype=dtype)


def load_empty_unet(name: str) -> Any:
    """The UNet of a model without its weights: for anatomy, strategies and plans. Takes a second and no memory.

    Raises:
        ModelError: as `load_pipeline`; an inpainting model's UNet has an anatomy as well.
    """
    config = unet_config(name)
    with quiet_libraries(), explained(name):
        return empty_unet(config)


def unet_config(name: str) -> dict[str, Any]:
    """The configuration of a model's UNet. Raises ModelError."""
    if name.startswith("arch:"):
        return architecture(name)[0]
    source = _source(name)
    if isinstance(source, SingleFile):
        return source.unet_config()
    if not _index(name).get("unet"):
        raise ModelError(f"{name} is a pipeline without a UNet; give a Stable Diffusion pipeline.")
    config = fetch_json(source, "unet/config.json") if isinstance(source, str) else part_config(source, "unet")
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != "UNet2DConditionModel":
        raise ModelError(f"the UNet of {name} is a {kind}; give a model with a UNet2DConditionModel.")
    return config


def pixel_factor(name: str) -> int:
    """Pixels per side of a latent in a model's autoencoder: 8 for Stable Diffusion and `emoji`.

    Raises:
        ModelError: as `load_pipeline`.
    """
    if name.startswith("arch:"):
        architecture(name)
        return 8
    source = _source(name)
    if isinstance(source, SingleFile):
        if source.folder is None:
            return 8
        source = source.folder
    config = fetch_json(source, "vae/config.json") if isinstance(source, str) else part_config(source, "vae")
    with explained(name):
        return int(2 ** (len(config["block_out_channels"]) - 1))


def fingerprint(pipe: Any) -> str:
    """Twelve hexadecimal digits of a pipeline's weights, from up to 64 values of every parameter: two models under one
    name differ in it."""
    import hashlib

    digest = hashlib.sha256()
    for part in PARTS:
        module = getattr(pipe, part, None)
        for name, parameter in module.named_parameters() if module is not None else ():
            flat = parameter.detach().reshape(-1)
            digest.update(name.encode())
            digest.update(flat[:: max(1, flat.numel() // 64)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def _index(name: str) -> dict[str, Any]:
    """The pipeline's index of a folder or hub id. Raises ModelError."""
    source = _source(name)
    if isinstance(source, Path):
        return read_index(source)
    return checked_index(fetch_json(str(source), INDEX), str(source))


def _source(name: str) -> Path | SingleFile | str:
    """The folder of a model, the checkpoint, or the hub id itself. Raises ModelError for none of them."""
    if name == EMOJI:
        folder = EMBEDDED / "emoji"
        if not folder.is_dir():
            raise ModelError(
                f"the embedded model is missing from this installation ({folder}); install the package again."
            )
        return folder
    if is_single_file(name):
        return read_single_file(name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / INDEX).is_file():
            raise ModelError(f"the folder {name} is not a pipeline (no {INDEX}); give a folder that diffusers saved.")
        return path
    parts = name.split("/")
    if path.exists() or len(parts) != 2 or name.startswith((".", "~", "/")) or not all(parts):
        known = ", ".join(model.name for model in MODELS)
        raise ModelError(
            f"no such model {name!r}; expected one of {known}, a diffusers folder, a .safetensors checkpoint or a hub "
            "id (owner/name)."
        )
    return name
