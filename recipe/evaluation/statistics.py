"""Stage `statistics`: features, mean and covariance of the real pictures of the training captions, by extractor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from explorer.quality import Reference, load_extractor
from recipe.data.placing import real_pictures
from recipe.data.prepare import load_dataset
from training.tensors import load_tensors, metadata_of, save_tensors

EXTRACTORS = ("emojiclip", "efficientnet")
NAME = "emoji pictures of the training captions"
PLACINGS = 2
"""Of every placed picture, where the generator learns placed ones."""
KEPT = 1000
"""Features that ship, at most; mean and covariance are those of all."""


def write_statistics(
    work: Path,
    folder: Path,
    extractors: tuple[str, ...] = EXTRACTORS,
    placed: bool = False,
    device: str = "cpu",
) -> None:
    """`folder/<extractor>.safetensors`, in the format of `Reference`, its tensors narrowed to half precision.

    Half precision moves a Frechet distance by less than a thousandth of it and halves what ships. placed: of the
    pictures as the generator learned to draw them, see `recipe.data.placing`.
    """
    data = load_dataset(work)
    rows = data.where(split="train")
    pictures = torch.cat([real_pictures(data, rows, placed, k) for k in range(PLACINGS if placed else 1)])
    if placed:
        pictures = pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))]
    for name in extractors:
        extractor = load_extractor(name, torch.device(device))
        reference = Reference.from_features(NAME, extractor, extractor(pictures).values)
        if placed:
            reference = replace(reference, features=reference.features[:KEPT])
        path = folder / f"{name}.safetensors"
        reference.save(path)
        narrow(path)
        print(f"{name}: {len(pictures)} pictures, {len(reference.mean)} features", flush=True)


def narrow(path: Path) -> None:
    """Rewrite a file of statistics in half precision, its metadata kept."""
    save_tensors({k: v.half() for k, v in load_tensors(path).items()}, path, metadata_of(path))
