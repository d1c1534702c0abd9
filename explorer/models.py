"""Models by name: the embedded one, a hub id, a local diffusers folder, or a true architecture with random weights."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError

EMBEDDED = Path(__file__).parent / "embedded"
EMOJI = "emoji"
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""Parts of a pipeline that have weights."""
TOKENIZERS = ("tokenizer", "tokenizer_2")
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model")

_SD = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
_XL_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
_XL_UP_BLOCKS = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
# The UNet configurations published with SD 1.5, SD 2.1 (768 px) and SDXL base 1.0, and their predictions.
_ARCHITECTURES: dict[str, tuple[dict[str, Any], str]] = {
    "arch:sd15": (_SD, "epsilon"),
    "arch:sd21": (
        {
            **_SD,
            "sample_size": 96,
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        "v_prediction",
    ),
    "arch:sdxl": (
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "down_block_types": _XL_BLOCKS,
            "up_block_types": _XL_UP_BLOCKS,
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "epsilon",
    ),
}


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be named without a path or a hub. weights: whether a quality may be reported on it."""

    name: str
    description: str
    weights: bool
    guidance: float


MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(EMOJI, "the embedded model: emoji at 64x64 px, SD1.5's topology, trained by the recipe here", True, 3.0),
    ModelInfo("arch:sd15", "Stable Diffusion 1.5's true UNet with random weights: latency and MACs only", False, 7.5),
    ModelInfo("arch:sd21", "Stable Diffusion 2.1's true UNet with random weights: latency and MACs only", False, 7.5),
    ModelInfo("arch:sdxl", "Stable Diffusion XL's true UNet with random weights: latency and MACs only", False, 5.0),
)


def has_weights(name: str) -> bool:
    """Whether `name` is a trained model: a quality is refused for the `arch:` models."""
    return not name.startswith("arch:")


def default_guidance(name: str) -> float:
    """The guidance scale that a model is measured at unless the user says otherwise (A-SDM: 7.5)."""
    return next((model.guidance for model in MODELS if model.name == name), 7.5)


def load_pipeline(name: str, *, device: str = "cpu", dtype: str = "float32") -> Any:
    """A diffusers pipeline, on `device`, without a safety checker and with its progress bar off.

    name: `emoji`, an `arch:` model (no text encoder: give it `prompt_embeds`), a folder that `from_pretrained` reads,
    or a hub id (the only case that may use the network). Weights are read from safetensors only.

    Raises:
        ModelError: no such model, a folder that is no pipeline, a missing or truncated weight file, or another
            architecture than Stable Diffusion's.
        DeviceError: when the weights do not fit into the free memory of the device, with what is needed.
    """
    from explorer.memory import memory_explained

    what = f"{name} in {dtype}"
    _check_weights_fit(name, what, device, dtype)
    with memory_explained(f"loading {what}", device=device, dtype=dtype, weights=True):
        return _loaded(name, device, dtype)


def _loaded(name: str, device: str, dtype: str) -> Any:
    import torch

    torch_dtype = getattr(torch, dtype)
    if name.startswith("arch:"):
        pipe = _random_pipeline(name, torch_dtype, torch.device(device))
    else:
        pipe = _pretrained(_folder(name), torch_dtype)
    if getattr(pipe, "unet", None) is None:
        raise ModelError(f"{name} is a {type(pipe).__name__} without a UNet; give a Stable Diffusion pipeline.")
    from explorer.architecture import Architecture

    Architecture.of(pipe.unet)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def _check_names(pipe: Any, folder: Path) -> None:
    """Refuse weights of another model, or a part of its own, in whose place transformers draws random ones and
    diffusers leaves none."""
    for part, tensors in _tensors(folder).items():
        parameters = {_bare(name): p for name, p in getattr(pipe, part).named_parameters()}
        found = parameters.keys() & {_bare(name) for name in tensors}
        # diffusers renames tensors of older autoencoders as it loads them, and leaves those on meta that it lacks
        least = len(parameters) if part.startswith("text_encoder") else len(parameters) / 2
        if len(found) < least or any(p.is_meta for p in parameters.values()):
            raise ModelError(
                f"the weights in {folder / part} are not those of its model: they hold {len(found)} of its "
                f"{len(parameters)} tensors; copy the model again."
            )


def _bare(name: str) -> str:
    """A tensor's name as every version of transformers has it: some keep the text model within another module."""
    return name.removeprefix("text_model.")


def weight_bytes(name: str, *, device: str = "cpu", dtype: str = "float32") -> dict[str, int]:
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
            parts = {"unet": load_empty_unet(name), "vae": _true_vae()}
        size = itemsize if device.startswith("cuda") else max(4, itemsize)
        return {part: size * sum(each.numel() for each in module.parameters()) for part, module in parts.items()}
    folder = _folder(name)
    if isinstance(folder, str):
        return {"unet": itemsize * sum(each.numel() for each in load_empty_unet(name).parameters())}
    return {part: itemsize * count for part, count in _check_weights(folder).items()}


def _check_weights_fit(name: str, what: str, device: str, dtype: str) -> None:
    """Say what does not fit before minutes go into loading it."""
    import torch

    from explorer.memory import Needed, check_memory, free_memory

    needed = Needed(weight_bytes(name, device=device, dtype=dtype))
    check_memory(needed, free_memory(torch.device(device)), what, device=device, dtype=dtype)


def load_empty_unet(name: str) -> Any:
    """The UNet of a model without its weights: for anatomy, strategies and plans. Takes a second and no memory.

    Raises:
        ModelError: as `load_pipeline`.
    """
    import torch
    from diffusers import UNet2DConditionModel

    if name.startswith("arch:"):
        config = _architecture(name)[0]
    else:
        folder = _folder(name)
        if isinstance(folder, str):
            with _explained(name):
                config = UNet2DConditionModel.load_config(folder, subfolder="unet")
        else:
            if not _index(folder).get("unet"):
                raise ModelError(f"{folder} is a pipeline without a UNet; give a Stable Diffusion pipeline.")
            try:
                config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise ModelError(
                    f"{folder} has no readable unet/config.json ({error}); give a diffusers folder."
                ) from error
        kind = config.get("_class_name") if isinstance(config, dict) else None
        if kind != UNet2DConditionModel.__name__:
            raise ModelError(f"the UNet of {name} is a {kind}; give a model with a UNet2DConditionModel.")
    with torch.device("meta"), _explained(name):
        return UNet2DConditionModel.from_config(config)


def pixel_factor(name: str) -> int:
    """Pixels that a latent's side stands for in a model's autoencoder: 8 for Stable Diffusion and `emoji`.

    Raises:
        ModelError: as `load_pipeline`.
    """
    from diffusers import AutoencoderKL

    if name.startswith("arch:"):
        _architecture(name)
        return 8
    folder = _folder(name)
    with _explained(name):
        config = AutoencoderKL.load_config(folder, subfolder="vae", local_files_only=isinstance(folder, Path))
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


def _architecture(name: str) -> tuple[dict[str, Any], str]:
    if name not in _ARCHITECTURES:
        raise ModelError(f"no such architecture {name!r}; expected one of {', '.join(_ARCHITECTURES)}.")
    return _ARCHITECTURES[name]


def _folder(name: str) -> Path | str:
    """The folder of a model, or the hub id itself."""
    if name == EMOJI:
        folder = EMBEDDED / "emoji"
        if not folder.is_dir():
            raise ModelError(
                f"the embedded model is missing from this installation ({folder}); install the package again."
            )
        return folder
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(
                f"the folder {name} is no pipeline (no model_index.json); give a folder that diffusers saved."
            )
        return path
    parts = name.split("/")
    if path.exists() or len(parts) != 2 or name.startswith((".", "~", "/")) or not all(parts):
        known = ", ".join(model.name for model in MODELS)
        raise ModelError(
            f"no such model {name!r}; expected one of {known}, a diffusers folder or a hub id (owner/name)."
        )
    return name


@contextlib.contextmanager
def _explained(name: str | Path) -> Iterator[None]:
    """Turn what loaders raise into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot load {name} ({type(error).__name__}: {first[:300]}); check that it is a whole Stable Diffusion "
            "pipeline with safetensors weights, or copy it again."
        ) from error


def _pretrained(folder: Path | str, dtype: Any) -> Any:
    from diffusers import DiffusionPipeline

    local = isinstance(folder, Path)
    # SD1.x and 2.x name a safety checker, which is left out; SDXL has none and would warn of the argument.
    checker = {} if local and "safety_checker" not in _index(Path(folder)) else {"safety_checker": None}
    with _quiet_loaders(), _explained(folder):
        pipe = DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=local, **checker
        )
    if local:
        _check_names(pipe, Path(folder))
    return pipe


@contextlib.contextmanager
def _quiet_loaders() -> Iterator[None]:
    """No progress bars and remarks of diffusers and transformers while a model loads: progress is the caller's."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(module, module.get_verbosity()) for module in (diffusers_logging, transformers_logging)]
    for module, _ in levels:
        module.set_verbosity_error()
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module, level in levels:
            module.set_verbosity(level)
            module.enable_progress_bar()


def _index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}/model_index.json cannot be read ({error}); copy the model again.") from error
    if not isinstance(index, dict):
        raise ModelError(f"{folder}/model_index.json is no pipeline's index; copy the model again.")
    for part in (*PARTS, *TOKENIZERS):
        given = index.get(part, [None, None])
        if not (isinstance(given, list) and len(given) == 2 and all(isinstance(x, str | None) for x in given)):
            raise ModelError(
                f"{folder}/model_index.json gives {given!r} for {part}, not the library and class of it; copy the "
                "model again."
            )
    return index


def _holds(index: dict[str, Any], part: str) -> bool:
    """Whether a pipeline's index names such a part."""
    return index.get(part, [None])[0] is not None


def _check_weights(folder: Path) -> dict[str, int]:
    """Numbers in the weights of each part. Names a missing or truncated weight file, and a missing tokenizer, before
    diffusers fails on it in many lines, or the first prompt does."""
    index = _index(folder)
    for part in TOKENIZERS:
        if _holds(index, part) and not any((folder / part / name).is_file() for name in VOCABULARIES):
            raise ModelError(f"{folder / part} holds no vocabulary ({', '.join(VOCABULARIES)}); copy the model again.")
    return {part: sum(sizes.values()) for part, sizes in _tensors(folder).items()}


def _tensors(folder: Path) -> dict[str, dict[str, int]]:
    """Names and sizes of the tensors in each part's weight files."""
    from safetensors import SafetensorError, safe_open

    index, found = _index(folder), {}
    for part in PARTS:
        if not _holds(index, part):
            continue
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            raise ModelError(
                f"{folder / part} has no safetensors weights; copy the model again or convert its weights."
            )
        sizes: dict[str, int] = {}  # by tensor, as a half-precision copy of the weights may lie beside them
        for file in files:
            try:
                with safe_open(file, framework="pt") as tensors:
                    sizes |= {key: math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"the weight file {file} is damaged or truncated ({error}); copy the model again."
                ) from error
        found[part] = sizes
    return found


@contextlib.contextmanager
def _made_on(device: Any, dtype: Any) -> Iterator[None]:
    """Weights that are made in the block are drawn by a GPU itself and in the dtype that they will have: a processor
    takes half a minute over SDXL's, and in single precision they would need twice the memory for a moment."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        if device.type != "cuda":
            yield
            return
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device:
                yield
        finally:
            torch.set_default_dtype(before)


def _true_vae() -> Any:
    """Stable Diffusion's autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )


def _random_pipeline(name: str, dtype: Any, device: Any) -> Any:
    """The true UNet with random weights in a stock pipeline, without text encoders (give it `prompt_embeds`)."""
    from diffusers import (
        EulerDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    config, prediction = _architecture(name)
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with _made_on(device, dtype):
        unet: Any = UNet2DConditionModel(**config)
        vae = _true_vae()
    unet.eval().to(dtype)
    vae.eval().to(dtype)
    if name == "arch:sdxl":
        euler = EulerDiscreteScheduler(**betas, steps_offset=1)
        return StableDiffusionXLPipeline(vae, None, None, None, None, unet, euler, add_watermarker=False)
    scheduler: Any = PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1, prediction_type=prediction)
    scheduler.register_to_config(clip_sample=False)  # as in SD configs: DDIM made from them must not clip latents
    return StableDiffusionPipeline(
        vae, None, None, unet, scheduler, None, None, requires_safety_checker=False
    )  # fmt: skip
