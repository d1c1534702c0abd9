"""Pictures of the evaluation: the same captions and seeds for every candidate, kept by parts as they are made."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from explorer.models.pictures import generate
from training.tensors import load_tensors, save_tensors

SEED = 6
PART = 64
"""Pictures of a part: what a kill loses at most."""


@dataclass(frozen=True)
class Drawer:
    """Draws with a pipeline as it is, whatever plan or scheduler it has at the moment of a call.

    folder: where the parts are kept, one folder for the weights and the device. batch: pictures at once.
    """

    pipe: Any
    folder: Path
    guidance: float
    batch: int

    def __call__(self, captions: list[str], steps: int, name: str = "", guidance: float | None = None) -> torch.Tensor:
        """uint8 [N, 3, 64, 64]. name: of what the pipeline was changed to, so that its pictures are told from others.
        guidance: another than usual."""
        guidance = self.guidance if guidance is None else guidance
        words = "-".join([f"{guidance:g}", str(steps), *name.replace("/", "-").replace(",", "").split()])
        parts: list[torch.Tensor] = []
        began, made = time.monotonic(), 0
        for start in range(0, len(captions), PART):
            part = captions[start : start + PART]
            key = hashlib.sha256("\n".join(part).encode()).hexdigest()[:12]
            path = self.folder / words / f"{start}-{key}.safetensors"
            if not path.exists():
                drawn = generate(
                    self.pipe, part, seed=SEED + start, steps=steps, guidance=guidance, batch_size=self.batch
                )
                save_tensors({"pictures": drawn}, path)
                made += len(part)
                left = (time.monotonic() - began) / made * (len(captions) - start - len(part)) / 60
                print(f"{words}: {start + len(part)} of {len(captions)} pictures, {left:.1f} min left", flush=True)
            parts.append(load_tensors(path)["pictures"])
        return torch.cat(parts)
