"""The race against DeepCache: same evaluations, a race between pictures that differ is marked, and what was measured is
kept."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from benchmarks import deepcache_race
from benchmarks.deepcache_race import (
    Contender,
    check_pictures,
    contenders,
    deepcache_choices,
    race,
    same_plan,
)
from benchmarks.shared.gpu_state import FACTS, state_of
from benchmarks.shared.race_result import RaceResult, RaceSamples, chart, figures_of, unfair
from explorer.errors import ScoreError
from studies.results import charts
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
    assert check_pictures(racers) == {"ours": 0.0, "DeepCache, host timesteps": 0.0}
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
        "plain, default",
        "ours, cudagraphs",
        "plain, cudagraphs",
        "DeepCache",
        "DeepCache, host timesteps",
    ]
    assert set(check_pictures(racers)) == {
        "ours", "ours, default", "ours, cudagraphs", "DeepCache, host timesteps"
    }  # fmt: skip
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
def test_pictures_that_differ_make_a_race_unfair(name: str, device: torch.device, change: float, fair: bool) -> None:
    latents = torch.linspace(-1, 1, 8)
    made = {"DeepCache": latents, "ours": latents, "ours, default": latents, "ours, cudagraphs": latents}
    made[name] = latents + change
    racers = [Contender(each, lambda value=value: value) for each, value in made.items()]
    differences = check_pictures(racers)
    reasons = unfair(differences, device)
    if fair:
        assert reasons == [] and differences[name] == pytest.approx(change, rel=0.01)
    else:
        assert len(reasons) == 1 and f"'{name}' and DeepCache's differ" in reasons[0]


def test_no_race_without_an_eager_run() -> None:
    racers = [Contender(name, lambda: torch.ones(2)) for name in ("DeepCache", "ours, default")]
    with pytest.raises(ScoreError, match="no eager run"):
        check_pictures(racers)


def result_of(tmp_path: Path, resume: bool = False) -> RaceResult:
    return RaceResult(arguments_of(out=tmp_path / "race.json", dtype="float32", quick=True, resume=resume))


class KilledError(Exception):
    """In place of a signal."""


def test_a_race_that_is_ended_midway_keeps_its_rounds(tmp_path: Path) -> None:
    """Killed within the third round: what it holds are two whole rounds, the pictures' differences and the mark."""
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KilledError

    result = result_of(tmp_path)
    result.check("batch 1", {"ours": 0.3}, CPU)
    early = json.loads((tmp_path / "race.json").read_text())
    assert early["figures"]["differences"] == {"batch 1": {"ours": 0.3}} and early["figures"]["unfair"]["batch 1"]
    racers = [Contender(name, run) for name in ("stock", "ours", "DeepCache")]
    with pytest.raises(KilledError):
        race(racers, 5, CPU, lambda samples: result.keep("batch 1", samples))
    kept = json.loads((tmp_path / "race.json").read_text())
    assert {len(each) for each in kept["samples"]["batch 1"]["seconds"].values()} == {2}
    assert kept["figures"]["batch 1"]["ours"]["rounds"] == 2 and kept["figures"]["unfair"] == early["figures"]["unfair"]
    drawn = chart(kept["figures"])
    assert list(drawn.data[0].x) == ["stock", "ours", "DeepCache"] and "not fair" in drawn.layout.title.text
    again = result_of(tmp_path, resume=True)
    assert again.so_far("batch 1", ["stock", "ours"]) is None  # of other contenders
    standing = again.so_far("batch 1", [racer.name for racer in racers])
    whole = race(racers, 5, CPU, lambda samples: again.keep("batch 1", samples), standing)
    assert {name: seconds[:2] for name, seconds in whole.seconds.items()} == kept["samples"]["batch 1"]["seconds"]
    assert again.figures["batch 1"]["ours"]["rounds"] == 5 and again.figures["unfair"] == early["figures"]["unfair"]


def test_the_picture_is_drawn_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was measured elsewhere: nothing is loaded or measured, and the chart lies beside it."""
    result = result_of(tmp_path)
    result.keep("batch 1", RaceSamples({"stock": [2.0, 2.1], "ours": [1.0, 1.1], "DeepCache": [1.5, 1.4]}))
    drawn: list[Any] = []
    monkeypatch.setattr(charts, "write_png", lambda figure, path: drawn.append((figure, path)))
    monkeypatch.setattr(deepcache_race, "load", lambda _: pytest.fail("a model was loaded"))
    monkeypatch.setattr("sys.argv", ["deepcache_race", "--draw", str(tmp_path / "race.json")])
    deepcache_race.main()
    ((figure, path),) = drawn
    assert path == tmp_path / "race.png" and list(figure.data[0].y) == pytest.approx([1.0, 1.954545, 1.416667])
    assert list(figure.data[0].error_y.array) != list(figure.data[0].error_y.arrayminus)


def test_nobody_follows_the_same_contender_in_every_round() -> None:
    ran: list[str] = []
    racers = [Contender(name, lambda name=name: ran.append(name)) for name in "abcd"]
    samples = race(racers, 8, CPU)
    assert all(sorted(ran[i : i + 4]) == list("abcd") for i in range(0, 32, 4))
    assert len({ran[ran.index("a", i) - 1] for i in range(0, 32, 4) if ran[i] != "a"}) > 1
    assert {len(each) for each in samples.seconds.values()} == {8} and samples.states == []


def test_intervals_hold_their_medians() -> None:
    figures = figures_of({"stock": [2.0, 2.1, 2.2], "ours": [1.0, 1.0, 1.1], "DeepCache": [1.5, 1.4, 1.6]})
    low, high = figures["ours"]["interval over stock"]
    assert low < figures["ours"]["speedup over stock"] < high and figures["stock"]["speedup over stock"] == 1
    single = figures_of({"stock": [2.0], "ours": [1.0], "DeepCache": [1.5]})
    assert single["ours"]["speedup over stock"] == 2 and "interval over stock" not in single["ours"]


def test_what_a_gpu_tells_of_its_state() -> None:
    assert state_of("1980 MHz, 3201 MHz, 45, 210.12 W, 0x0000000000000000\n")["clocks.sm"] == "1980 MHz"
    assert len(state_of("1, 2, 3, 4, 5")) == len(FACTS) and state_of("") == {} == state_of("No devices were found")


def test_weights_laid_out_for_the_compiler_are_a_copy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock pipeline and DeepCache compute by weights as they were loaded."""
    pytest.importorskip("DeepCache")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = make_pipeline()
    strides = [parameter.stride() for parameter in pipe.unet.parameters()]
    handles = contenders(pipe, arguments_of(modes="default/channels-last"), 1)[1]
    assert [parameter.stride() for parameter in pipe.unet.parameters()] == strides
    assert any(handle.unet.conv_in.weight.stride() != pipe.unet.conv_in.weight.stride() for handle in handles)
    for handle in handles:
        handle.remove()
