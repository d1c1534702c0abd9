"""The race against DeepCache: same evaluations, and no race between pictures that differ, in any mode."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from benchmarks import deepcache_race
from benchmarks.deepcache_race import Contender, check_pictures, contenders, deepcache_choices, same_plan
from explorer.errors import ScoreError
from tests.conftest import make_pipeline

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def pndm() -> Any:
    return PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True)


def arguments_of(**changes: Any) -> argparse.Namespace:
    given = {"device": "cpu", "model": "arch:tiny", "resolution": None, "modes": "off", "steps": 6, "period": 2}
    return argparse.Namespace(**given | {"branch": 0} | changes)


@pytest.mark.parametrize(("period", "third"), [(2, 1), (3, 1), (5, 1)])
def test_the_repeated_timestep_is_found_where_it_came_first(period: int, third: int) -> None:
    choices = deepcache_choices(pndm(), 10, period)
    assert len(choices) == 11 and choices[:3] == [0, 1, third]
    assert choices[3:] == [int(i % period != 0) for i in range(3, 11)]
    assert deepcache_choices(DDIMScheduler(), 10, period) == [int(i % period != 0) for i in range(10)]


@pytest.mark.parametrize("scheduler", [None, pndm()], ids=["ddim", "pndm"])
@pytest.mark.parametrize("period", [2, 3])
@pytest.mark.parametrize("branch", [0, 2])
def test_ours_and_deepcache_make_the_same_latents(scheduler: Any, period: int, branch: int) -> None:
    pytest.importorskip("DeepCache")
    pipe = make_pipeline(scheduler)
    racers, handles = contenders(pipe, arguments_of(period=period, branch=branch), 1)
    assert check_pictures(racers, CPU) == {"ours": 0.0}
    for handle in handles:
        handle.remove()


def test_a_mode_is_spelled_out_only_where_deepcache_leaves_it() -> None:
    pipe = make_pipeline(pndm())
    assert same_plan(pipe, arguments_of(period=3)).describe() == "DC0/P3"
    assert same_plan(pipe, arguments_of(period=2)).resolve(7) == (0, 1, 1, 1, 0, 1, 0)


def test_an_eager_run_is_compared_where_none_races(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("DeepCache")
    applied = deepcache_race.inherit
    monkeypatch.setattr(deepcache_race, "inherit", lambda pipe, plan, compile: applied(pipe, plan))
    racers, handles = contenders(make_pipeline(), arguments_of(modes="default,cudagraphs"), 1)
    assert [racer.name for racer in racers if racer.timed] == [
        "stock",
        "ours, default",
        "ours, cudagraphs",
        "DeepCache",
    ]
    assert set(check_pictures(racers, CPU)) == {"ours", "ours, default", "ours, cudagraphs"}
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("name", "device", "change", "fair"),
    [
        ("ours", CPU, 1e-4, False),
        ("ours", GPU, 1e-4, True),
        ("ours", GPU, 0.5, False),
        ("ours, default", CPU, 1e-4, True),
        ("ours, default", CPU, 0.5, False),
        ("ours, cudagraphs", GPU, float("nan"), False),
    ],
)
def test_pictures_that_differ_do_not_race(name: str, device: torch.device, change: float, fair: bool) -> None:
    latents = torch.linspace(-1, 1, 8)
    made = {"DeepCache": latents, "ours": latents, "ours, default": latents, "ours, cudagraphs": latents}
    made[name] = latents + change
    racers = [Contender(each, lambda value=value: value) for each, value in made.items()]
    if fair:
        assert check_pictures(racers, device)[name] == pytest.approx(change, rel=0.01)
    else:
        with pytest.raises(ScoreError, match=f"'{name}' and DeepCache's differ"):
            check_pictures(racers, device)


def test_no_race_without_an_eager_run() -> None:
    racers = [Contender(name, lambda: torch.ones(2)) for name in ("DeepCache", "ours, default")]
    with pytest.raises(ScoreError, match="no eager run"):
        check_pictures(racers, CPU)
