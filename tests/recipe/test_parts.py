"""The parts that the stages are made of, each against what it promises."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.data import lists
from recipe.data.concepts import CORE, formal_name, generator_names, pick
from recipe.data.fetch import archive_name, wanted
from recipe.data.items import Item
from recipe.data.prompts import FULL, OPEN, choose_prompts
from recipe.data.tokens import LENGTH, encode, train_tokenizer
from recipe.evaluation.judge import ranks, top
from recipe.networks.unet import alphas_bar, stratified
from training.loop import Average, Budget, step_generator, trapezoid
from training.muon import Muon, orthogonal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("emoji-datasource-google@16.0.0", "emoji-datasource-google-16.0.0.tgz"),
        ("@lobehub/fluent-emoji-3d@1.1.0", "lobehub-fluent-emoji-3d-1.1.0.tgz"),
    ],
)
def test_archive_name(package: str, name: str) -> None:
    assert archive_name(package) == name


@pytest.mark.parametrize(
    ("source", "member", "name"),
    [
        ("google", "package/img/google/64/1f600.png", "1f600.png"),
        ("google", "package/emoji.json", "emoji.json"),
        ("twitter", "package/emoji.json", None),
        ("google", "package/img/google/32/1f600.png", None),
        ("fluent", "package/assets/1f600.webp", "1f600.webp"),
        ("fluent", "package/package.json", None),
        ("google", "package/img/google/64/../../../../x.png", None),
    ],
)
def test_only_what_is_needed_is_unpacked(source: str, member: str, name: str | None) -> None:
    assert wanted(source, member) == name


def test_names_are_unique_and_the_core_is_listed() -> None:
    names = generator_names()
    assert len(set(names.values())) == len(names) == len(lists.GENERATOR.split(","))
    assert set(CORE) <= set(names) and len(set(CORE)) == len(CORE)


def test_formal_name() -> None:
    assert formal_name("RESCUE WORKER’S HELMET") == "rescue workers helmet"


@given(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=40), st.integers(0, 9))
def test_a_pick_does_not_depend_on_the_order(keys: list[str], seed: int) -> None:
    assert pick(keys, 0.1, seed) == pick(keys[::-1], 0.1, seed)
    assert len(pick(keys, 0.1, seed)) == round(0.1 * len(keys))


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_orthogonal(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    made = orthogonal([matrix, matrix.T])
    assert torch.allclose(made[0], made[1].T, atol=1e-3)
    assert torch.linalg.matrix_norm(made[0], 2) < 1.3
    # the polynomial keeps the singular vectors
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ made[0] @ right.T
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=2e-2)


def test_muon_finds_a_least_squares_solution() -> None:
    torch.manual_seed(0)
    target, x = torch.randn(6, 4), torch.randn(64, 4)
    layer = torch.nn.Linear(4, 6)
    optimizer = Muon(layer.parameters(), 0.1)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        loss = (layer(x) - x @ target.T).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-2


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [trapezoid(step / 100, step, warm_up=10) for step in range(101)]
    assert max(rates) == pytest.approx(rates[9], rel=0.03) and rates[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("budget", "progress"), [(Budget(steps=10), 0.5), (Budget(minutes=1), 0.25), (Budget(10, 1), 0.5)]
)
def test_budget(budget: Budget, progress: float) -> None:
    assert budget.progress(5, 15.0) == progress


def test_the_average_forgets_the_start_and_swaps_back() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    average = Average({"p": p}, 0.9)
    with torch.no_grad():
        p.fill_(1.0)
    for step in range(200):
        average.update(step)
    average.swap()
    assert torch.allclose(p, torch.ones(2), atol=1e-3)
    average.swap()
    assert torch.equal(p.data, torch.ones(2))


def test_a_step_draws_the_same_numbers_again() -> None:
    assert torch.equal(torch.rand(3, generator=step_generator(2, 9)), torch.rand(3, generator=step_generator(2, 9)))


def test_timesteps_are_stratified() -> None:
    steps = stratified(64, torch.Generator().manual_seed(0))
    middles = (torch.arange(64) + 0.5) / 64 * 1000
    assert ((steps - middles).abs() <= 1000 / 64 / 2 + 1).all()


def test_the_schedule_is_that_of_the_scheduler() -> None:
    from diffusers import PNDMScheduler

    from recipe.networks.unet import BETAS

    assert torch.allclose(alphas_bar(), PNDMScheduler(**BETAS).alphas_cumprod, atol=1e-5)


def test_tokenizer_round_trip() -> None:
    texts = ["cat face, flat style", "red heart, 3d style", "dog, noto style"]
    tokenizer = train_tokenizer(texts, merges=60)
    ids = encode(tokenizer, [*texts, "", "Ünknown wörds! 12", "a " * 40])
    assert ids.shape == (6, LENGTH) and int(ids.max()) == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.decode(ids[0], skip_special_tokens=True).replace(" ,", ",").strip() == texts[0]
    assert (ids[:, 0] == tokenizer.bos_token_id).all() and ids[3, 1] == tokenizer.eos_token_id


# Runs in processes of their own: the trainer's hash tables are seeded once a process.
NUMBERED = """
from recipe.data.concepts import STYLES, generator_names
from recipe.data.tokens import numbering, train_tokenizer
captions = [f"{name}, {style}" for name in generator_names().values() for style in STYLES.values()]
print(numbering(train_tokenizer(captions)))
"""


def test_every_process_numbers_the_tokens_alike() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", NUMBERED], check=True, capture_output=True, text=True, cwd=ROOT).stdout
        for _ in range(3)
    ]
    assert len(set(runs)) == 1 and runs[0].strip()


def test_pictures_over_the_last_block_are_ranked_once(count: int = 250) -> None:
    chance = np.random.default_rng(0)
    pictures = np.eye(count)
    captions = pictures.copy()
    wrong = chance.permutation(count)[:60]
    captions[wrong] = -captions[wrong]
    found = top(pictures, captions, 1)
    assert found["n"] == count and found["among"] == 100
    assert found["value"] == pytest.approx(1 - 60 / count)


def test_ranks_and_top() -> None:
    captions = np.eye(4)
    pictures = np.eye(4)[[0, 1, 3, 2]]
    assert ranks(pictures, captions).tolist()[:2] == [0, 0]
    assert top(pictures, captions, 1)["value"] == 0.5
    assert math.isclose(top(pictures, captions, 4)["value"], 1.0)


def test_prompt_sets_have_their_sizes() -> None:
    items = [
        Item(f"c{i}", f"s{i % 30}", f"k{i % 7}", style, f"c{i}", "train", "train")
        for i in range(200)
        for style in ("a", "b", "c")
    ]
    sets = choose_prompts(items)
    assert [len(rows) for rows in sets] == [64, 256]
    for rows in sets:
        assert sum(row.kind == FULL for row in rows) * 2 == len(rows) == len({row.text for row in rows})
        full = {item.caption for item in items}
        assert all((row.text in full) == (row.kind == FULL) for row in rows)
        assert {row.text[-3:] for row in rows if row.kind == FULL} == {", a", ", b", ", c"}
        # a prefix holds both kinds
        assert 8 <= sum(row.kind == OPEN for row in rows[:32]) <= 24
    named = [{row.text.split(",")[0] for row in rows} for rows in sets]
    assert not named[0] & named[1]
