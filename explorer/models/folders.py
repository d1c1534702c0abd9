"""What lies in a diffusers folder: its index, the weight files of each part and their variants, and what is damaged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from explorer.errors import ModelError

INDEX = "model_index.json"
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""Parts of a pipeline that have weights."""
TOKENIZERS = ("tokenizer", "tokenizer_2")
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
MAIN = ""
"""The variant of files without one in their names."""
VARIANTS = {"float16": ("fp16", MAIN, "bf16"), "bfloat16": ("bf16", MAIN, "fp16")}
"""Variants that are read without being asked for, by dtype, the first that is complete. They differ in precision alone,
unlike `ema` or `non_ema`."""
_WEIGHTS = re.compile(
    r"(?P<part>\w+)/(?:diffusion_pytorch_)?model(?:-\d{5}-of-\d{5})?(?:\.(?P<variant>[^./]+?))?(?:-\d{5}-of-\d{5})?"
    r"\.safetensors"
)
Files = dict[str, dict[str, list[str]]]
"""Part -> variant -> names of its weight files, relative to the folder."""


def read_index(folder: Path) -> dict[str, Any]:
    """The content of a folder's `model_index.json`. Raises ModelError."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}/{INDEX} cannot be read ({error}); copy the model again.") from error
    return checked_index(index, str(folder))


def checked_index(index: Any, where: str) -> dict[str, Any]:
    """A pipeline's index as it was read from `where`, if it is one. Raises ModelError."""
    if not isinstance(index, dict):
        raise ModelError(f"{where}/{INDEX} is not the index of a pipeline; copy the model again.")
    for part in (*PARTS, *TOKENIZERS):
        given = index.get(part, [None, None])
        if not (isinstance(given, list) and len(given) == 2 and all(isinstance(x, str | None) for x in given)):
            raise ModelError(
                f"{where}/{INDEX} gives {given!r} for {part}, not the library and class of it; copy the model again."
            )
    return index


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of a part of a diffusers folder. Raises ModelError."""
    try:
        config = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"cannot load {folder}: {part}/config.json cannot be read ({error}); give a diffusers folder."
        ) from error
    return config if isinstance(config, dict) else {}


def holds(index: Mapping[str, Any], part: str) -> bool:
    """Whether a pipeline's index names such a part."""
    return index.get(part, [None])[0] is not None


def weight_files(names: Iterable[str]) -> Files:
    """The safetensors weights among the files of a pipeline, by part and variant."""
    found: Files = {}
    for name in sorted(names):
        match = _WEIGHTS.fullmatch(name)
        if match is not None and match["part"] in PARTS:
            found.setdefault(match["part"], {}).setdefault(match["variant"] or MAIN, []).append(name)
    return found


def files_of(folder: Path) -> Files:
    """The safetensors weights of a folder, by part and variant."""
    return weight_files(path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors"))


def chosen_variant(name: str, index: Mapping[str, Any], files: Files, dtype: str, asked: str | None) -> str:
    """The variant of a model's weights to load: a part without files of it has them without a variant.

    Args:
        name: The model, for messages.
        index: Its pipeline's index.
        files: Its weight files.
        dtype: What the weights are loaded as, which decides where nothing was asked for.
        asked: The variant that the user asked for.

    Raises:
        ModelError: when a part has no such weights; names those that the model has.
    """
    parts = [part for part in PARTS if holds(index, part)]
    for part in parts:
        if part not in files:
            raise ModelError(f"{name}/{part} has no safetensors weights; copy the model again or convert its weights.")
    known = sorted({variant for part in parts for variant in files[part]} - {MAIN})
    if asked is not None and asked not in known:
        raise ModelError(
            f"{name} has no weights of the variant {asked!r}; it has {', '.join(known) or 'none but the main ones'}."
        )
    for variant in (asked,) if asked is not None else VARIANTS.get(dtype, (MAIN, "fp16", "bf16")):
        if variant in {MAIN, *known} and all({variant, MAIN} & files[part].keys() for part in parts):
            return variant
    told = "; ".join(f"{part}: {', '.join(variant or 'main' for variant in files[part])}" for part in parts)
    raise ModelError(
        f"{name} has no variant of its weights that is complete ({told}); give one with --variant, or copy the model "
        "again."
    )


def check_tokenizers(folder: Path) -> None:
    """Name a missing tokenizer before the first prompt fails on it. Raises ModelError."""
    index = read_index(folder)
    for part in TOKENIZERS:
        if holds(index, part) and not any((folder / part / name).is_file() for name in VOCABULARIES):
            raise ModelError(f"{folder / part} holds no vocabulary ({', '.join(VOCABULARIES)}); copy the model again.")


def tensors_of(folder: Path, variant: str) -> dict[str, dict[str, int]]:
    """Names and sizes of the tensors in each part's weight files of a variant.

    Raises:
        ModelError: for a file that is damaged or truncated.
    """
    index, files = read_index(folder), files_of(folder)
    found = {}
    for part in PARTS:
        if holds(index, part):
            chosen = files[part].get(variant) or files[part][MAIN]
            found[part] = {key: math.prod(shape) for name in chosen for key, shape in shapes_of(folder / name).items()}
    return found


def shapes_of(file: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a safetensors file. Raises ModelError for one that is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weight file {file} is damaged or truncated ({error}); copy the model again.") from error


def check_names(pipe: Any, folder: Path, variant: str) -> None:
    """Refuse weights of another model, or a part of its own, in whose place transformers draws random ones and
    diffusers leaves none. Raises ModelError."""
    for part, tensors in tensors_of(folder, variant).items():
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
