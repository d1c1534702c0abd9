"""What every worker of a study needs and none should make twice: text embeddings, un-accelerated pictures, features of
these and of a reference folder; and in a folder of their own, beginnings of runs (`explorer.runtime.replay`).

Files beside the database, `explorer-saved/<study>/<digest>/<name>.safetensors`; the digest is of all that they depend
on. Features of a reference folder are no study's: they are read before one is made, and kept in `.references`, under a
digest of the pictures' names, sizes and times. All can be deleted at any time. A tensor comes back to the bit as it was
made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.errors import StudyError
from explorer.files import write_whole
from studies.settings import StudySettings

if TYPE_CHECKING:
    import torch

FOLDER = "explorer-saved"
REFERENCES = ".references"  # which no study can be called
APART = ("space", "objectives", "sampler", "extractor", "reference")
"""Settings on which pictures do not depend."""
MAX_BYTES = 2 * 2**30
"""What a study may keep: larger tensors are made again by each process."""

Tensors = dict[str, "torch.Tensor"]


class Saved:
    """Tensors of one study on disk. `Saved.of(store.folder, study.folder, settings)`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, folder: Path, study: str, settings: StudySettings) -> Saved:
        facts = {name: value for name, value in settings.to_json().items() if name not in APART}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]
        return cls(folder / FOLDER / study / digest)

    @classmethod
    def of_references(cls, folder: Path) -> Saved:
        """For features of reference pictures, which depend on no setting but the extractor that their names hold."""
        return cls(folder / FOLDER / REFERENCES)

    def get(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """The tensors under `name`, on the CPU. They are made, and kept for others, if they are missing or damaged.

        Raises:
            StudyError: when the folder cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load, save

        path = self.folder / f"{name}.safetensors"
        with contextlib.suppress(OSError, SafetensorError):
            return load(path.read_bytes())
        made = {key: value.detach().cpu().contiguous() for key, value in make().items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._bytes() + sum(value.nbytes for value in made.values()) <= MAX_BYTES:
                write_whole(path, save(made))
        except OSError as error:
            raise StudyError(
                f"cannot write {path} ({error.strerror or error}); make room or choose another --storage, then run the "
                "same command to resume."
            ) from error
        return made

    def _bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))
