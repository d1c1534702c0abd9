"""Stage `repeat`: the recipe run once more, in a work folder of its own, beside what ships.

What it trained does not ship. Its logs give the card curves where those of the weights that ship were not kept, and its
figures say how far two runs of the recipe are apart.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from explorer.files import write_whole
from explorer.quality import load_clip
from recipe import judge
from recipe.evaluate import BATCH, digest, evaluate
from recipe.export import EMBEDDED, export, keep_logs
from recipe.prepare import load_dataset
from recipe.statistics import EXTRACTORS

REPEATED = Path(__file__).parent.parent / "benchmarks" / "results" / "embedded-model-repeated.json"
LOGS = "repeated"
"""Folder beside the card."""


def repeat(
    work: Path,
    *,
    embedded: Path = EMBEDDED,
    results: Path = REPEATED,
    channels: tuple[int, ...] = (48, 96, 128, 128),
    guidance: float = 3.0,
    count: int = 300,
    paired_count: int = 128,
    steps: int = 50,
    extractors: tuple[str, ...] = EXTRACTORS,
    placed: bool = False,
    device: str = "cpu",
    batch: int = BATCH,
) -> dict[str, Any]:
    """Measure what was trained in `work` as the weights that ship were, with the CLIP model and the statistics that
    ship, on fewer pictures; write `results` (JSON), and keep the logs beside the card. The model is left in
    `work/repeated`."""
    made = work / LOGS
    export(work, made, channels)
    shutil.copytree(embedded / "statistics", made / "statistics", dirs_exist_ok=True)
    found = evaluate(
        work, embedded=made, results=results, model=str(made / "emoji"), guidance=guidance, count=count,
        paired_count=paired_count, steps=steps, extractors=extractors, placed=placed, device=device, batch=batch,
        machine_too=False,
    )  # fmt: skip
    clip = load_clip(str(made / "emojiclip"), torch.device(device))
    found["own_retrieval"] = judge.retrieval(load_dataset(work), clip, placed=placed)
    found["beside"] = digest(embedded / "emoji")
    write_whole(results, (json.dumps(found, indent=1) + "\n").encode())
    keep_logs(work, embedded / "card" / LOGS)
    return found
