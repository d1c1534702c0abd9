"""Published weight files of other projects: found in torch's cache, checked, read without unpickling objects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.errors import ScoreError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightFile:
    """A file in torch's checkpoint cache, the address it is published at and the first digits of its SHA-256."""

    file: str
    url: str
    sha256: str
    needed_by: str

    @property
    def path(self) -> Path:
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.file


def read_weights(weights: WeightFile, allow_download: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a published file. Fetched only with `allow_download`.

    These files are published as .pth alone. They are read with `weights_only=True`: torch's restricted unpickler
    makes tensors and plain containers and refuses everything else, so a file put there by somebody else runs no code.
    Raises ScoreError for a missing, different or broken file.
    """
    import torch

    path = weights.path
    if not path.is_file():
        if not allow_download:
            raise ScoreError(
                f"{weights.needed_by} needs {weights.file}, and {path} is not there; fetch it from {weights.url}, "
                "or choose another."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=weights.sha256, progress=False)
        except (OSError, RuntimeError) as problem:
            raise ScoreError(
                f"{weights.needed_by} needs {weights.file}, and {weights.url} cannot be fetched: {problem}."
            ) from problem
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(weights.sha256):
        raise ScoreError(
            f"{path} is not the published file (SHA-256 {digest[:8]}, not {weights.sha256}); delete it and fetch "
            f"it from {weights.url}."
        )
    return read_tensors(path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The state dictionary of a .pth, by torch's restricted unpickler."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        # On bytes that are no such file the unpickler stops with whatever its stack machine runs into.
        raise ScoreError(f"The weights {path} cannot be read; delete the file and fetch it again.") from problem
    return dict(state)
