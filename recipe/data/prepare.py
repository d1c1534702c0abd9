"""Stage `prepare`: pictures of 64x64 on white, captions, the splits, and the tokenizer, under the work folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from explorer.errors import TrainingError
from recipe.commands import stage_command
from recipe.data.captions import captions_of
from recipe.data.concepts import CORE, HELD_OUT_SHARE, SPLIT_SEED, STYLES, Concept, generator_names, pick, read_concepts
from recipe.data.items import Dataset, Item
from recipe.data.tokens import FOLDER, train_tokenizer
from training.folders import replace_folder
from training.tensors import load_tensors, save_tensors

SIZE = 64

CONCEPTS = ("core", "listed", "all")
"""What the generator learns: a list drawn well in an hour of two cores, all that look distinct at 64 pixels, or all but
what it and the judge hold out."""


def read_picture(path: Path) -> np.ndarray:
    """uint8 [64, 64, 3]: the picture on white, then reduced (Lanczos): in this order no dark rims appear."""
    with Image.open(path) as opened:
        rgba = opened.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    flat = white.convert("RGB")
    if flat.size != (SIZE, SIZE):
        flat = flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(flat)


def split_items(concepts: list[Concept], learns: str = "core") -> list[Item]:
    """Items of all concepts and styles with both splits.

    The generator's held-out concepts are a tenth of its list; of the others it learns what `learns` names. The
    judge has held-out concepts of its own, drawn from what the generator does not use, and a held-out style for every
    tenth of the others.
    """
    listed = set(generator_names())
    generator = [c.key for c in concepts if c.key in listed]
    held = pick(generator, HELD_OUT_SHARE, SPLIT_SEED)
    judge_held = pick([c.key for c in concepts if c.key not in listed], HELD_OUT_SHARE, SPLIT_SEED + 1)
    rest = sorted(c.key for c in concepts if c.key not in judge_held)
    judge_style = {key: i % len(STYLES) for i, key in enumerate(sorted(pick(rest, HELD_OUT_SHARE, SPLIT_SEED + 2)))}
    items = []
    for concept in concepts:
        known = {
            "core": concept.key in listed and concept.key in CORE,
            "listed": concept.key in listed,
            "all": concept.key not in judge_held,
        }[learns]
        split = "held" if concept.key in held else "train" if known else "extra"
        for s, style in enumerate(STYLES.values()):
            judge = "held" if concept.key in judge_held else "train"
            if judge_style.get(concept.key) == s:
                judge = "held-style"
            items.append(Item(concept.name, concept.subcategory, concept.category, style, concept.key, split, judge))
    return items


def prepare(work: Path, learns: str = "core") -> None:
    """Write `work/data/pictures.safetensors`, `work/data/items.json` (see `split_items`) and `work/data/tokenizer`, all
    of them at once.

    Raises:
        TrainingError: when the pictures were not fetched.
    """
    if not (work / "pictures" / "google" / "emoji.json").is_file():
        raise TrainingError(f"{work / 'pictures'} holds no pictures; run `{stage_command('fetch', work)}`.")
    concepts = read_concepts(work / "pictures")
    files = [work / "pictures" / source / c.files[source] for c in concepts for source in STYLES]
    pictures = np.stack([read_picture(path) for path in files])
    items = split_items(concepts, learns)

    def write(folder: Path) -> None:
        save_tensors({"pictures": torch.from_numpy(pictures).permute(0, 3, 1, 2)}, folder / "pictures.safetensors")
        rows = [vars(item) for item in items]
        (folder / "items.json").write_text(json.dumps(rows, indent=0), encoding="utf-8")
        texts = [text for item in items for text in captions_of(item)]
        train_tokenizer(texts).save_pretrained(folder / Path(FOLDER).name)

    replace_folder(work / "data", write)
    counts = {s: sum(i.split == s for i in items) for s in ("train", "held", "extra")}
    judged = {s: sum(i.judge == s for i in items) for s in ("train", "held-style", "held")}
    print(f"{len(concepts)} concepts, {len(items)} pictures; generator {counts}; judge {judged}", flush=True)


def check_prepared(work: Path) -> None:
    """Raises TrainingError where `prepare` has not run."""
    if not (work / "data" / "items.json").is_file():
        raise TrainingError(f"{work / 'data'} holds no data; run `{stage_command('prepare', work)}`.")


def load_dataset(work: Path) -> Dataset:
    """What `prepare` wrote. Raises TrainingError where it has not run."""
    check_prepared(work)
    rows = json.loads((work / "data" / "items.json").read_text(encoding="utf-8"))
    return Dataset(load_tensors(work / "data" / "pictures.safetensors")["pictures"], [Item(**row) for row in rows])
