"""Stage `evaluate`: everything that the model card says of the shipped model, measured, printed and kept as JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from explorer import load_pipeline
from explorer.pictures import generate
from explorer.quality import Reference, frechet, kid, load_clip, load_extractor
from recipe import judge, machine, tradeoff
from recipe.export import EMBEDDED
from recipe.grids import save_grid
from recipe.prepare import Dataset, Item, load_dataset
from recipe.statistics import EXTRACTORS

SEED = 6
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "embedded-model.json"
GRID = 24
BATCH = 16


def blocks(items: list[Item], count: int, seed: int = SEED) -> list[Item]:
    """`count` items in blocks of a hundred (or all, where there are fewer), each block without repeats."""
    chosen: list[Item] = []
    shuffler = random.Random(seed)
    while len(chosen) < count:
        chosen += shuffler.sample(items, min(judge.AMONG, len(items), count - len(chosen)))
    return chosen


def distances(pictures: torch.Tensor, references: dict[str, tuple[Any, Reference]]) -> dict[str, Any]:
    """Frechet distance and KID with intervals, and what two halves of the real pictures stand apart."""
    found: dict[str, Any] = {}
    for name, (extractor, reference) in references.items():
        values = extractor(pictures).values
        found[f"fd_{name}"] = frechet.estimate(values, reference.mean, reference.cov).to_json()
        found[f"kid_{name}"] = kid.estimate(values, reference.features).to_json()
        found[f"fd_{name}_real_halves"] = reference.floor().to_json()
        found[f"real_{name}"] = reference.count
    return found


def grids(data: Dataset, pipe: Any, guidance: float, folder: Path, steps: int) -> dict[str, list[str]]:
    """A grid of 24 training and 24 held-out prompts beside the card; the prompts in reading order."""
    found = {}
    for name, split in (("training", "train"), ("held-out", "held")):
        rows = [item for item in data.items if item.split == split]
        captions = [i.caption for i in random.Random(SEED).sample(rows, min(GRID, len(rows)))]
        made = generate(pipe, captions, seed=0, steps=steps, guidance=guidance, batch_size=12)
        save_grid(made, folder / f"samples-{name}.png")
        found[name] = captions
    return found


def evaluate(
    work: Path,
    *,
    embedded: Path = EMBEDDED,
    results: Path = RESULTS,
    model: str = "emoji",
    guidance: float = 3.0,
    count: int = 1000,
    paired_count: int = 256,
    steps: int = 50,
    extractors: tuple[str, ...] = EXTRACTORS,
    repeats: int = 3,
    machine_only: bool = False,
) -> dict[str, Any]:
    """Measure, print, and write `results` (JSON) and the card's grids.

    `repeats`: fresh processes in which loading is timed. `machine_only`: measure what depends on the machine again (on
    a quiet one, say), and keep the rest of `results`.
    """
    data, device = load_dataset(work), torch.device("cpu")
    pipe = load_pipeline(model)
    clip = load_clip("emojiclip", device)
    references = {
        name: (load_extractor(name, device), Reference.load(embedded / "statistics" / f"{name}.safetensors"))
        for name in extractors
    }
    found: dict[str, Any] = {"model": model, "guidance": guidance, "steps": steps}
    if machine_only:
        found = json.loads(results.read_text(encoding="utf-8"))

    def note(name: str, value: Any) -> None:
        found[name] = value
        print(f"{name}: {json.dumps(value, indent=1)}", flush=True)
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    caption = data.items[data.where(split="train")[0]].caption
    for name, value in machine.measure(pipe, embedded, caption, guidance, repeats).items():
        note(name, value)
    if machine_only:
        return found
    note("retrieval", judge.retrieval(data, clip))
    note("grids", grids(data, pipe, guidance, embedded / "card", steps))
    items = blocks([item for item in data.items if item.split == "train"], count)
    captions = [item.caption for item in items]
    made = generate(pipe, captions, seed=SEED, steps=steps, guidance=guidance, batch_size=BATCH, progress=show)
    note("alignment", judge.alignment(data, clip, items, made))
    note("distance", {"n": len(made), **distances(made, references)})
    few, first = captions[:paired_count], made[:paired_count]
    note("tradeoff", tradeoff.measure(pipe, few, clip, references, first, guidance, steps, SEED, BATCH))
    held = blocks([item for item in data.items if item.split == "held"], min(count, 2 * judge.AMONG))
    unseen = generate(pipe, [i.caption for i in held], seed=1, steps=steps, guidance=guidance, batch_size=BATCH)
    note("alignment_held_out", judge.alignment(data, clip, held, unseen))
    return found


def show(done: int, count: int) -> None:
    """Progress of the long generation."""
    if done % (10 * BATCH) == 0:
        print(f"{done} of {count} pictures", flush=True)
