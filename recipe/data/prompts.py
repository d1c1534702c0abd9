"""The prompt sets that ship: full and open captions of the generator's training concepts, half and half."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recipe.data.captions import LEVELS
from recipe.data.items import Item
from recipe.data.prepare import load_dataset

SEED = 4
SEARCH, CERTIFICATE = 64, 256
FULL, OPEN = "full", "open"


@dataclass(frozen=True)
class Written:
    """A prompt as it ships. `kind`: `FULL` names one concept in one style, `OPEN` leaves a part to the model."""

    text: str
    kind: str


def shares(names: Iterable[str], seed: int) -> tuple[list[str], list[str]]:
    """Names for search and for certificates: a fifth and the rest, at least one each, by seed."""
    ordered = sorted(set(names))
    random.Random(seed).shuffle(ordered)
    first = max(1, len(ordered) // 5)
    return ordered[:first], ordered[first:] or ordered


def open_captions(items: list[Item], concepts: list[str], number: int) -> list[str]:
    """Open captions in turn from every open level, without repeats.

    Args:
        items: The generator's training pictures.
        concepts: Whose names may be used.
        number: 0 for search, 1 for certificates, which share no subcategory and no category.
    """
    several = [s for s in {i.subcategory for i in items} if len({i.concept for i in items if i.subcategory == s}) > 1]
    allowed = {
        "subcategory": set(shares(several or [i.subcategory for i in items], SEED)[number]),
        "category": set(shares((i.category for i in items), SEED)[number]),
        "name": set(concepts),
    }
    pools = []
    for level in LEVELS[1:]:
        names = {"subcategory": "subcategory", "category": "category", "name": "concept"}[level.name.split()[0]]
        within = allowed[level.name.split()[0]]
        pool = sorted({level.words(item) for item in items if getattr(item, names) in within})
        random.Random(SEED).shuffle(pool)
        pools.append(pool)
    longest = max(map(len, pools))
    turns = [pool[i] for i in range(longest) for pool in pools if i < len(pool)]
    return list(dict.fromkeys(turns))


def choose_prompts(items: list[Item], counts: tuple[int, int] = (SEARCH, CERTIFICATE)) -> tuple[list[Written], ...]:
    """Prompts for search and for certificates, half of each full and half open, in an order that mixes them, so that
    any prefix is fair.

    Full captions of one concept are in every style (the last concept of a set may lack some). The sets share no
    concept, and of their open captions no subcategory and no category.
    """
    known = [item for item in items if item.split == "train"]
    chosen = []
    for number, (count, concepts) in enumerate(zip(counts, shares((i.concept for i in known), SEED), strict=True)):
        full = [item.caption for concept in concepts for item in known if item.concept == concept][: count // 2]
        used = [concept for concept in concepts if any(text.startswith(f"{concept}, ") for text in full)]
        left_open = open_captions(known, used, number)[: count - len(full)]
        rows = [Written(text, FULL) for text in full] + [Written(text, OPEN) for text in left_open]
        random.Random(SEED).shuffle(rows)
        chosen.append(rows)
    return tuple(chosen)


def write_prompts(work: Path, folder: Path) -> None:
    """`search.jsonl` and `certificate.jsonl`; a prompt's kind is its `category`, by which scores can be told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("search", "certificate"), choose_prompts(load_dataset(work).items), strict=True):
        lines = [json.dumps({"prompt": row.text, "category": row.kind}) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(rows)} prompts, {sum(row.kind == FULL for row in rows)} of them full", flush=True)
