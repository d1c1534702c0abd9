"""One run of the whole recipe on drawn pictures, a few steps a stage, shared by the tests of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recipe.data.fetch import fetch
from recipe.data.prepare import prepare
from recipe.evaluation.evaluate import evaluate
from recipe.evaluation.statistics import write_statistics
from recipe.networks.autoencoder import LEGS, train_autoencoder
from recipe.networks.clip import train_clip
from recipe.networks.unet import train_unet
from recipe.packing.export import export
from tests.recipe.drawn import write_archives
from training.loop import Budget

CHANNELS = (8, 16, 16, 16)


@dataclass(frozen=True)
class Made:
    """Where the run left its work folder and what would ship, and what the evaluation found."""

    work: Path
    embedded: Path
    results: Path
    found: dict[str, Any]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after `fetch` and `prepare`."""
    work = tmp_path_factory.mktemp("recipe")
    write_archives(work)
    fetch(work)
    prepare(work)
    return work


@pytest.fixture(scope="session")
def trained(prepared: Path) -> Path:
    """The work folder after every training."""
    start = None
    for leg in LEGS:
        start = train_autoencoder(prepared, Budget(steps=2), channels=(8, 8, 8, 8), latents=4, leg=leg, start=start)
    train_unet(prepared, Budget(steps=3), channels=CHANNELS, batch=4)
    train_clip(prepared, Budget(steps=2), width=8, layers=(1, 1, 1, 1), batch=8)
    return prepared


@pytest.fixture(scope="session")
def made(trained: Path) -> Made:
    """Every stage after the trainings."""
    work, embedded = trained, trained / "embedded"
    export(work, embedded, CHANNELS)
    write_statistics(work, embedded / "statistics", ("emojiclip",))
    results = work / "results.json"
    found = evaluate(
        work,
        embedded=embedded,
        results=results,
        model=str(embedded / "emoji"),
        count=8,
        paired_count=6,
        steps=6,
        extractors=("emojiclip",),
        repeats=1,
    )
    return Made(work, embedded, results, found)
