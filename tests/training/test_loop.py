"""Trainings that are killed, resumed, and shared by several processes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer.errors import TrainingError
from training.loop import Average, Budget, Training, step_generator
from training.muon import Muon
from training.tensors import load_tensors


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(
    folder: Path, steps: int, *, saved: int | None = None, stop: int | None = None, workers: int = 1
) -> dict[str, torch.Tensor]:
    """Fit a small network for `steps`, as if killed after `stop`, with the checkpoint of `saved` (none: 0); it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))
    scale = nn.Parameter(torch.tensor(1.0))  # without a dimension, as CLIP's
    parameters = {**dict(model.named_parameters()), "scale": scale}
    training = Training(folder, parameters, Muon(parameters.values(), 0.05), Average(parameters, 0.9), Budget(steps))
    training.log_every = 2
    training.resume()

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        x = torch.randn(8, 4, generator=step_generator(0, step))
        return {"loss": (scale * model(x[share]) - x[share, :3].sin()).square().sum() / 24}

    for step in training.run(loss_of, 0.05, 3, workers):
        if step == (stop if saved is None else saved):
            training.save()
        if step == stop:
            break
    return load_tensors(folder / "checkpoint.safetensors") if training.path.exists() else {}


def test_a_killed_training_goes_on_as_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "a", 9)
    train(tmp_path / "b", 9, stop=4)
    resumed = train(tmp_path / "b", 9)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)


@pytest.mark.parametrize("saved", [None, 3, 0], ids=["as it was killed", "earlier", "never"])
def test_the_log_has_every_row_once_and_the_last_step(tmp_path: Path, saved: int | None) -> None:
    train(tmp_path, 7, saved=saved, stop=4)
    train(tmp_path, 7)
    with (tmp_path / "losses.csv").open(encoding="utf-8") as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [2, 4, 6, 7]


@pytest.mark.parametrize("torn", ["", "step,seconds,rate,loss\n", "step,seconds,rate,loss\n2,0.0,0.05,0.1\n4,0.0,0.0"])
def test_a_log_that_a_kill_cut_short_is_mended(tmp_path: Path, torn: str) -> None:
    (tmp_path / "losses.csv").write_text(torn, encoding="utf-8")
    train(tmp_path, 4)
    with (tmp_path / "losses.csv").open(encoding="utf-8") as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [2, 4]


def test_a_team_that_lost_a_member_says_so(tmp_path: Path) -> None:
    """As by a kill for want of memory; the checkpoint of before stands."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert "has ended; the same command" in pool.submit(lose_a_member, tmp_path).result(timeout=120)


def lose_a_member(folder: Path) -> str:
    model = nn.Linear(4, 3)
    scale = nn.Parameter(torch.tensor(1.0))  # without a dimension, as CLIP's
    parameters = {**dict(model.named_parameters()), "scale": scale}
    training = Training(folder, parameters, Muon(parameters.values(), 0.05), Average(parameters, 0.9), Budget(50))
    parent = os.getpid()

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        if step == 3 and os.getpid() != parent:
            raise KeyboardInterrupt
        return {"loss": model(torch.ones(2, 4)).square().sum()}

    try:
        list(training.run(loss_of, 0.05, 3, workers=2))
    except TrainingError as error:
        return str(error)
    return "nothing"


def test_an_interrupt_within_a_step_ends_the_whole_team_at_once(tmp_path: Path) -> None:
    """Of the first process alone, while the others are on their way to the next meeting."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert pool.submit(interrupt_within_a_step, tmp_path).result(timeout=120) < 30


def interrupt_within_a_step(folder: Path) -> float:
    """Seconds from the interrupt to the end of the training."""
    model = nn.Linear(4, 3)
    scale = nn.Parameter(torch.tensor(1.0))  # without a dimension, as CLIP's
    parameters = {**dict(model.named_parameters()), "scale": scale}
    training = Training(folder, parameters, Muon(parameters.values(), 0.05), Average(parameters, 0.9), Budget(50))
    parent, moments = os.getpid(), []

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        if step == 3 and os.getpid() == parent:
            moments.append(time.monotonic())
            raise KeyboardInterrupt
        return {"loss": model(torch.ones(2, 4)).square().sum()}

    try:
        list(training.run(loss_of, 0.05, 3, workers=2))
    except KeyboardInterrupt:
        return time.monotonic() - moments[0]
    return float("inf")


def test_a_team_of_two_trains_what_one_does(tmp_path: Path) -> None:
    # In a process of its own: helpers are forked, which a process whose autograd has threads already does not survive.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        together = pool.submit(train, tmp_path / "b", 6, workers=2).result()
    alone = train(tmp_path / "a", 6)
    assert all(torch.allclose(alone[key], together[key], atol=1e-5) for key in alone)


def test_a_team_needs_single_threads(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    with pytest.raises(TrainingError, match="one thread"):
        train(tmp_path, 2, workers=2)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(tmp_path, 60)
    with (tmp_path / "losses.csv").open(encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert losses[-1] < losses[0] / 3
