"""Stage `evaluate`: everything that the model card says of the shipped model, measured, printed and kept as JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from explorer import default_guidance, load_pipeline
from explorer.devices import describe
from explorer.errors import TrainingError
from explorer.files import write_whole
from explorer.models.pictures import generate
from explorer.networks.found import BESIDE
from explorer.quality import Reference, frechet, kid, load_clip, load_extractor
from recipe.data.captions import captions_of
from recipe.data.items import Dataset, Item
from recipe.data.placing import real_pictures
from recipe.data.prepare import load_dataset
from recipe.evaluation import judge, machine, tradeoff
from recipe.evaluation.drawing import SEED, Drawer
from recipe.evaluation.grids import save_grid
from recipe.evaluation.statistics import EXTRACTORS
from recipe.networks.autoencoder import psnr
from recipe.packing.export import EMBEDDED
from training.folders import digest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "embedded-model.json"
GRID = 24
SEEDS = 8
"""Pictures of one caption in the grid of placings."""
BATCH = 64
GUIDANCE = default_guidance("emoji")
GUIDED = 64
"""Prompts on which guidance scales are compared."""


def blocks(items: list[Item], count: int, seed: int = SEED) -> list[Item]:
    """`count` items in blocks of a hundred (or all, where there are fewer), each block without repeats."""
    chosen: list[Item] = []
    shuffler = random.Random(seed)
    while len(chosen) < count:
        chosen += shuffler.sample(items, min(judge.AMONG, len(items), count - len(chosen)))
    return chosen


def distances(pictures: torch.Tensor, references: dict[str, tuple[Any, Reference]]) -> dict[str, Any]:
    """Frechet distance and KID with intervals, what two halves of the real pictures stand apart, and what as many of
    these stand from such a half."""
    found: dict[str, Any] = {}
    for name, (extractor, reference) in references.items():
        values = extractor(pictures).values
        found[f"fd_{name}"] = frechet.estimate(values, reference.mean, reference.cov).to_json()
        found[f"kid_{name}"] = kid.estimate(values, reference.features).to_json()
        found[f"fd_{name}_real_halves"] = reference.floor().to_json()
        if len(values) >= reference.count // 2:
            found[f"fd_{name}_as_many"] = reference.beside_floor(values).to_json()
        found[f"real_{name}"] = reference.count
    return found


def grids(data: Dataset, pipe: Any, guidance: float, folder: Path, steps: int) -> dict[str, list[str]]:
    """Grids beside the card, and their prompts in reading order: 24 training, 24 held-out and 24 open captions, and
    three training captions from `SEEDS` seeds each."""
    found = {}
    known = [item for item in data.items if item.split == "train"]
    for name, split in (("training", "train"), ("held-out", "held")):
        rows = [item for item in data.items if item.split == split]
        found[name] = [i.caption for i in random.Random(SEED).sample(rows, min(GRID, len(rows)))]
    several = sorted({text for item in known for text in captions_of(item)[1:]})
    found["open"] = random.Random(SEED).sample(several, min(GRID, len(several)))
    found["placings"] = [caption for caption in found["training"][: GRID // SEEDS] for _ in range(SEEDS)]
    for name, captions in found.items():
        made = generate(pipe, captions, seed=0, steps=steps, guidance=guidance, batch_size=12)
        save_grid(made, folder / f"samples-{name}.png", columns=SEEDS if name == "placings" else 12)
    return found


def boxes(pictures: torch.Tensor, paper: int = 235) -> list[list[int]]:
    """Top, left, bottom and right of what is darker than `paper` in each picture of uint8 [N, 3, H, W]."""
    found = []
    for picture in pictures:
        inside = (picture.min(0).values < paper).nonzero()
        empty = not len(inside)
        found.append([0, 0, 0, 0] if empty else [*inside.min(0).values.tolist(), *inside.max(0).values.tolist()])
    return found


def evaluate(
    work: Path,
    *,
    embedded: Path = EMBEDDED,
    results: Path = RESULTS,
    model: str = "emoji",
    guidance: float = GUIDANCE,
    count: int = 1000,
    paired_count: int = 256,
    steps: int = 50,
    extractors: tuple[str, ...] = EXTRACTORS,
    repeats: int = 3,
    machine_only: bool = False,
    placed: bool = False,
    device: str = "cpu",
    batch: int = BATCH,
    machine_too: bool = True,
) -> dict[str, Any]:
    """Measure, print, and write `results` (JSON) and the card's grids.

    placed: the real pictures are taken as the generator learned to draw them, see `recipe.data.placing`. machine_too:
    time this machine's processor as well.
    `repeats`: fresh processes in which loading is timed. `machine_only`: measure what depends on the machine again (on
    a quiet one, say), and keep the rest of `results`.

    Raises:
        TrainingError: without data; or with `machine_only`, where `results` are of other weights or options.
        ScoreError: when a statistics file or an extractor cannot be had.
    """
    data, where = load_dataset(work), torch.device(device)
    pipe = load_pipeline(model, device=device)
    clip = load_clip("emojiclip", where)
    references = {
        name: (load_extractor(name, where), Reference.load(embedded / "statistics" / f"{name}.safetensors"))
        for name in extractors
    }
    weights = digest(Path(model) if model != "emoji" else EMBEDDED / "emoji", BESIDE)
    found: dict[str, Any] = {"model": Path(model).name, "weights": weights, "guidance": guidance, "steps": steps}
    found |= {"judge": digest(EMBEDDED / "emojiclip"), "statistics": digest(embedded / "statistics")}
    found |= {"count": count, "paired_count": paired_count, "placed": placed}
    found["device"] = describe(where).name if where.type != "cpu" else "cpu"
    before = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    if found.items() <= before.items():
        found = before  # of the same weights in the same way: a killed evaluation goes on where it was
    elif machine_only:
        raise TrainingError(f"{results} is of other weights or options; run `evaluate` without --machine-only first.")

    def note(name: str, measure: Callable[[], Any], again: bool = False) -> None:
        if name not in found or again:
            found[name] = measure()
        print(f"{name}: {json.dumps(found[name], indent=1)}", flush=True)
        results.parent.mkdir(parents=True, exist_ok=True)
        write_whole(results, (json.dumps(found, indent=1) + "\n").encode())

    prompts = [
        json.loads(line) for line in (embedded / "prompts" / "certificate.jsonl").read_text("utf-8").splitlines()
    ]
    chosen = prompts[:paired_count]
    few, kinds = [row["prompt"] for row in chosen], [row["category"] for row in chosen]
    draw = Drawer(pipe, work / "evaluation" / f"{weights}-{where.type}", guidance, batch)

    def made(items: list[Item]) -> torch.Tensor:
        return draw([item.caption for item in items], steps)

    caption = data.items[data.where(split="train")[0]].caption
    if machine_too:
        own = pipe if where.type == "cpu" else load_pipeline(model)
        note("machine", lambda: machine.measure(own, caption, guidance, repeats), again=machine_only)
    if machine_only:
        return found
    drawn = real_pictures(data, data.where(split="held"), placed)
    note("autoencoder_psnr_held_out", lambda: psnr(pipe.vae, drawn.to(where)))
    note("retrieval", lambda: judge.retrieval(data, clip, placed=placed))
    note("grids", lambda: grids(data, pipe, guidance, embedded / "card", steps))
    items = blocks([item for item in data.items if item.split == "train"], count)
    held = blocks([item for item in data.items if item.split == "held"], min(count, 2 * judge.AMONG))
    note("alignment", lambda: judge.alignment(data, clip, items, made(items), placed))
    note("alignment_held_out", lambda: judge.alignment(data, clip, held, made(held), placed))
    note("distance", lambda: {"n": count, **distances(made(items), references)})

    note("alignment_open", lambda: judge.open_alignment(data, clip, few, kinds, draw(few, steps)))
    note("placings", lambda: boxes(draw([caption] * SEEDS, steps)))
    note("tradeoff", lambda: tradeoff.measure(draw, few, kinds, clip, references, steps))
    note(
        "guidances",
        lambda: tradeoff.guidances(draw, few[:GUIDED], kinds[:GUIDED], clip, references, steps),
    )
    return found
