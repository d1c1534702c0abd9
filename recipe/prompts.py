"""The prompt sets that ship, from the generator's training concepts, disjoint by concept."""

from __future__ import annotations

import json
import random
from pathlib import Path

from recipe.prepare import Item, load_dataset

SEED = 4
SEARCH, CERTIFICATE = 64, 256


def choose_prompts(items: list[Item], counts: tuple[int, int] = (SEARCH, CERTIFICATE)) -> tuple[list[Item], list[Item]]:
    """Items for search and for certificates: concepts in every style (but for the last one of a set, which may lack
    some), no concept in both sets."""
    concepts = sorted({item.concept for item in items if item.split == "train"})
    random.Random(SEED).shuffle(concepts)
    chosen: list[list[Item]] = []
    # of a small data set, a fifth of the concepts is for search
    for count, spared in zip(counts, (len(concepts) * 4 // 5, 0), strict=True):
        rows: list[Item] = []
        while len(rows) < count and len(concepts) > spared:
            concept = concepts.pop()
            rows += [item for item in items if item.concept == concept and item.split == "train"]
        # what is over is taken off the last concept, which then lacks a style
        chosen.append(rows[:count])
    return chosen[0], chosen[1]


def write_prompts(work: Path, folder: Path) -> None:
    """`search.jsonl` and `certificate.jsonl`, in an order that mixes concepts and styles, so that a prefix is fair."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("search", "certificate"), choose_prompts(load_dataset(work).items), strict=True):
        random.Random(SEED).shuffle(rows)
        lines = [json.dumps({"prompt": i.caption, "concept": i.concept, "style": i.style}) for i in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(rows)} prompts of {len({i.concept for i in rows})} concepts", flush=True)
