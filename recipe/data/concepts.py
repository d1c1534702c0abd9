"""Which emoji the recipe uses, what it calls them, and how they are split: by code and seed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

from recipe.data import lists

STYLES: dict[str, str] = {"google": "noto style", "twitter": "flat style", "fluent": "3d style"}
HELD_OUT_SHARE = 0.1
SPLIT_SEED = 20260

CORE = lists.CORE.split()

# Left out of the judge's concepts: symbols, flags, clocks, and people that differ by gender, family or direction alone.
LEFT_OUT_CATEGORIES = {"Flags", "Symbols", "Component"}
LEFT_OUT_SUBCATEGORIES = {"family", "person-gesture", "person-activity", "skin-tone"}
LEFT_OUT_WORDS = ("clock face", "facing right", "facing left", "man ", "woman ", "men ", "women ", "family")


@dataclass(frozen=True)
class Concept:
    """One thing with a picture in every style. `name`, `subcategory` and `category` are words of its captions; `files`
    maps a source to a file name."""

    key: str
    name: str
    subcategory: str
    category: str
    files: dict[str, str]


def generator_names() -> dict[str, str]:
    """`short_name -> words` of the concepts in the generator's list."""
    names: dict[str, str] = {}
    for item in lists.GENERATOR.split(","):
        key, _, words = " ".join(item.split()).partition("=")
        names[key] = words or key.replace("_", " ").replace("-", " ")
    return names


def formal_name(name: str) -> str:
    """Unicode's name in caption form: lower case, letters, digits and single spaces."""
    cleaned = "".join(c if c.isalnum() else " " for c in name.lower().replace("’", "").replace("sign", ""))
    return " ".join(cleaned.split())


def suitable(entry: dict[str, str], name: str) -> bool:
    """Whether an entry of emoji.json is distinct from all others by more than gender, family or direction."""
    if entry["category"] in LEFT_OUT_CATEGORIES or entry["subcategory"] in LEFT_OUT_SUBCATEGORIES:
        return False
    return not any(name.startswith(w) or f" {w}" in f" {name} " for w in LEFT_OUT_WORDS)


def fluent_file(unified: str, folder: Path) -> str | None:
    """The file of the same codepoints in the fluent set, which writes some of them without the variation selector."""
    code = unified.lower()
    for name in (code, code.replace("-fe0f", ""), code.lstrip("0"), code.lstrip("0").replace("-fe0f", "")):
        if (folder / f"{name}.webp").exists():
            return f"{name}.webp"
    return None


def read_concepts(pictures: Path) -> list[Concept]:
    """Every suitable concept with a picture in all three styles, in Unicode's order, names unique."""
    chosen, concepts, seen = generator_names(), [], set()
    entries = json.loads((pictures / "google" / "emoji.json").read_text(encoding="utf-8"))
    for entry in sorted(entries, key=lambda e: e["sort_order"]):
        key = entry["short_name"]
        name = chosen.get(key) or formal_name(entry["name"])
        files = dict.fromkeys(("google", "twitter"), entry["image"])
        fluent = fluent_file(entry["unified"], pictures / "fluent")
        complete = fluent is not None and all((pictures / s / f).exists() for s, f in files.items())
        if name in seen or not complete or not (key in chosen or suitable(entry, name)):
            continue
        seen.add(name)
        subcategory, category = (formal_name(entry[kind].replace("-", " ")) for kind in ("subcategory", "category"))
        concepts.append(Concept(key, name, subcategory, category, {**files, "fluent": str(fluent)}))
    # a caption must not mean a concept and a subcategory at once: lock, locks
    return [replace(c, subcategory=f"{c.subcategory}s") if c.subcategory in seen else c for c in concepts]


def pick(keys: list[str], share: float, seed: int) -> set[str]:
    """A share of `keys`, by seed and by nothing else than the sorted keys."""
    return set(random.Random(seed).sample(sorted(keys), round(share * len(keys))))
