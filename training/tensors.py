"""Tensors on disk: safetensors files replaced atomically, so that a kill never leaves half a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from explorer.errors import TrainingError


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` to `path` through a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    # clone: safetensors refuses tensors that share storage
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary, metadata=metadata)
    temporary.chmod(0o644)  # safetensors makes files that their owner alone can read
    os.replace(temporary, path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file into memory. Raises TrainingError for one that is damaged or missing."""
    with _explained(path):
        return load_file(path)


def metadata_of(path: Path) -> dict[str, str]:
    """The facts that were saved beside the tensors. Raises TrainingError for a file that is damaged or missing."""
    with _explained(path), safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); remove it and make it again.") from error
