"""Shared beginnings of runs: replayed to the bit, whatever the scheduler and the rule, bounded, shared by processes."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from explorer import InheritancePlan, inherit, strategy
from explorer.plans.coefficients import Coefficients
from explorer.plans.plan import resolve_run
from explorer.plans.rules import Rule
from explorer.plans.schedule import Segments
from explorer.runtime import replay
from explorer.runtime.replay import Recording, beginnings, shared
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.any_rule import ALL_RULES, under

STEPS = 8
SCHEDULERS = ("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler")
ARCHITECTURE = Architecture.of(make_unet())


def pipeline(scheduler: str) -> Any:
    options = {"skip_prk_steps": True} if scheduler == "PNDMScheduler" else {}
    return make_pipeline(getattr(diffusers, scheduler)(**options))


def latents(pipe: Any, plan: InheritancePlan, recording: Recording | None, seed: int = 0, batch: int = 1) -> Any:
    with inherit(pipe, plan) as handle:
        handle.recording = recording
        return pipe(
            **embeds(batch), num_inference_steps=plan.steps, output_type="latent",
            generator=torch.Generator().manual_seed(seed),
        ).images  # fmt: skip


def written(choices: list[int], rule: str = "copy", name: str = "DC0") -> InheritancePlan:
    plan = strategy(name, mode="P2", steps=STEPS, unet=ARCHITECTURE, rule=rule)
    return replace(plan, schedule=Segments.of(choices), name=None)


def padded(choices: list[int], count: int) -> list[int]:
    return [*choices, *[1] * count][:count]


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_replayed_beginning_gives_the_same_latents_to_the_bit(scheduler: str, rule: str) -> None:
    pipe = pipeline(scheduler)
    pipe.scheduler.set_timesteps(STEPS)
    count = len(pipe.scheduler.timesteps)
    first, other = (under(written(padded([0, 0, 1, 0, 1, 1, last], count)), rule, count) for last in (1, 0))
    recording = Recording(2**26)
    alone = [latents(pipe, plan, None) for plan in (first, other)]
    assert torch.equal(latents(pipe, first, recording), alone[0])
    assert (recording.computed, recording.replayed) == (count, 0)
    assert torch.equal(latents(pipe, other, recording), alone[1])
    kept = first.rule.history - 1  # extract steps whose features a later step reads
    later = count > 7
    assert recording.replayed == 6 - (kept if later else 0)
    assert recording.computed == 2 * count - recording.replayed
    assert torch.equal(latents(pipe, first, recording), alone[0])  # and from the beginning to the end
    assert recording.replayed == 6 - (kept if later else 0) + count


def test_other_fitted_weights_end_the_shared_beginning() -> None:
    """Two plans of one mask and schedule whose weights part at the fourth evaluation share what is before it."""
    pipe = pipeline("DDIMScheduler")
    one = under(written([0, 0, 1, 1, 1, 1, 1, 1]), "fitted", STEPS)
    weights = one.rule.weights
    assert weights is not None
    rows = {
        feature: {
            i: tuple(w + 0.5 * (i >= 4) for w in row) for (i, _), row in zip(weights.steps, each, strict=True) if row
        }
        for feature, each in weights.weights
    }
    other = one.with_rule(Rule("fitted", 1, Coefficients.of(STEPS, dict(weights.steps), rows)))
    recording = Recording(2**26)
    first, second = (latents(pipe, plan, recording) for plan in (one, other))
    assert not torch.equal(first, second) and torch.equal(second, latents(pipe, other, None))
    assert recording.replayed == 2  # the inherit steps 2 and 3; both extract steps are read after they part


def test_the_unaccelerated_beginning_is_shared_by_every_mask() -> None:
    pipe = pipeline("DDIMScheduler")
    recording = Recording(2**26)
    latents(pipe, strategy(f"plain@{STEPS}", unet=ARCHITECTURE), recording)
    for name in ("DC0", "CO6"):
        plan = written([0, 0, 0, 0, 1, 1, 1, 1], name=name)
        before = recording.replayed
        assert torch.equal(latents(pipe, plan, recording), latents(pipe, plan, None))
        assert recording.replayed - before == 3  # the fourth is computed again, as its features are inherited


def test_other_inputs_never_meet() -> None:
    pipe = pipeline("DDIMScheduler")
    plan = written([0, 1, 1, 1, 1, 1, 1, 1])
    recording = Recording(2**26)
    latents(pipe, plan, recording)
    for change in ({"seed": 1}, {"batch": 2}):
        assert torch.equal(latents(pipe, plan, recording, **change), latents(pipe, plan, None, **change))
    assert recording.replayed == 0
    fewer = replace(plan, steps=4, schedule=Segments.of([0, 1, 1, 1]))
    assert torch.equal(latents(pipe, fewer, recording), latents(pipe, fewer, None)) and recording.replayed == 0


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first() -> None:
    pipe = pipeline("DDIMScheduler")
    plans = [written([0, 0, *tail]) for tail in ([1] * 6, [1, 0] * 3, [1, 1, 0] * 2)]
    one = Recording(2**26)
    latents(pipe, plans[0], one)
    small = Recording(one.size * 3 // 2)
    for plan in (*plans, *plans):
        assert torch.equal(latents(pipe, plan, small), latents(pipe, plan, None))
        assert 0 < small.size <= small.limit
    assert small.replayed > 0
    none = Recording(1)
    for _ in range(2):
        latents(pipe, plans[0], none)
    assert none.size == 0 and none.replayed == 0 and none.computed == 2 * STEPS


@pytest.mark.parametrize("free", [0, 5 * 2**20])
def test_a_disk_that_fills_up_takes_its_room_back(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, recording = pipeline("DDIMScheduler"), Recording(2**30, tmp_path)
    latents(pipe, written([0, 0, *[1] * 6]), recording)
    assert recording.size > 0
    monkeypatch.setattr(replay.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    plan = written([0, 0, *[1, 0] * 3])
    assert torch.equal(latents(pipe, plan, recording), latents(pipe, plan, None))
    assert recording.size == 0


def test_names_of_dropped_files_are_forgotten(tmp_path: Path) -> None:
    pipe, recording = pipeline("DDIMScheduler"), Recording(2**30, tmp_path)
    for tail in ([1] * 6, [1, 0] * 3):
        latents(pipe, written([0, 0, *tail]), recording)
        for path in tmp_path.glob("*.safetensors"):
            path.unlink()
    latents(pipe, written([0, 0, *[1, 1, 0] * 2]), recording)
    assert len(recording._names) <= 1


def test_processes_that_share_a_folder_share_what_they_recorded(tmp_path: Path) -> None:
    """Also one that began before, and one that begins after all others have ended."""
    pipe = pipeline("DDIMScheduler")
    one, other = (written([0, 0, 1, 0, *tail]) for tail in ([1] * 4, [0, 1] * 2))
    alone = [latents(pipe, plan, None) for plan in (one, other)]
    early, first = Recording(2**26, tmp_path / "kept"), Recording(2**26, tmp_path / "kept")
    assert torch.equal(latents(pipe, one, first), alone[0])
    assert torch.equal(latents(pipe, other, early), alone[1])
    assert early.replayed == 4  # where they part the other extracts anew, so it reads nothing of the beginning
    late = Recording(2**26, tmp_path / "kept")
    for plan, expected in zip((one, other), alone, strict=True):
        assert torch.equal(latents(pipe, plan, late), expected)
    assert (late.computed, late.replayed) == (0, 2 * STEPS)


@pytest.mark.parametrize("harm", ["cut off", "not a file of tensors", "gone", "others in its place"])
def test_what_is_damaged_or_gone_is_computed_again(tmp_path: Path, harm: str) -> None:
    pipe = pipeline("DDIMScheduler")
    plan = written([0, 1] * 4)
    expected = latents(pipe, plan, None)
    recording = Recording(2**26, tmp_path)
    latents(pipe, plan, recording)
    (file,) = tmp_path.glob("*.safetensors")
    if harm == "gone":
        file.unlink()
    elif harm == "others in its place":
        save_file({"00": torch.zeros(1)}, file)
    else:
        file.write_bytes(file.read_bytes()[:-100] if harm == "cut off" else b"no tensors")
    for now in (recording, Recording(2**26, tmp_path)):
        assert torch.equal(latents(pipe, plan, now), expected)
    assert (recording.computed, recording.replayed) == (2 * STEPS, 0)
    assert torch.equal(latents(pipe, plan, recording), expected) and recording.replayed == STEPS


def test_a_temporary_folder_is_made_when_it_is_needed_and_goes_with_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    recording = Recording(2**26)
    assert not list(tmp_path.iterdir())
    latents(pipeline("DDIMScheduler"), written([0, 1] * 4), recording)
    assert len(list(tmp_path.iterdir())) == 1 and recording.size > 0
    del recording
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pipe, plan = pipeline("DDIMScheduler"), written([0, 1] * 4)
    recording = Recording(2**26, tmp_path / "file" / "kept")
    for _ in range(2):
        assert torch.equal(latents(pipe, plan, recording), latents(pipe, plan, None))
    assert recording.replayed == recording.size == 0


def test_inputs_that_are_not_looked_at_are_not_replayed() -> None:
    unet = make_unet()
    recording = Recording(2**26)
    sample, context = torch.randn(1, 4, 16, 16), torch.randn(1, 7, 16)
    with torch.no_grad(), inherit(unet, strategy("DC0", mode="P2", steps=2, unet=unet)) as handle:
        handle.recording = recording
        for _ in range(2):
            handle.begin(2)
            for i in range(2):
                unet(sample, torch.tensor(i), context, cross_attention_kwargs={"scale": 1.0})
    assert recording.replayed == recording.size == 0


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.lists(st.integers(0, 2), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_beginnings_are_equal_as_long_as_the_choices_are(one: list[int], other: list[int]) -> None:
    masks = (Mask.of(["up3.l2.attn"]), Mask.of(["mid.attn"]))
    size = max(len(one), len(other)) + 1
    runs, hashes = [], []
    for choices in (one, other):
        whole = [0, *choices, *[0] * size][:size]
        plan = InheritancePlan(ARCHITECTURE, size, masks, Segments.of(whole))
        runs.append(resolve_run(plan, size))
        hashes.append(beginnings(plan, runs[-1]))
    length, computed = shared(set(hashes[0]), hashes[1], runs[1])
    pairs = list(zip(runs[0].choices, runs[1].choices, strict=True))
    assert length == next((i for i, (a, b) in enumerate(pairs) if a != b), size)
    assert all(i < length and runs[1].choices[i] == 0 for i in computed)
    reads = [(s, last) for (s, _), last in runs[1].last_read.items()]
    assert computed == {s for s, last in reads if s < length <= last}


def test_plans_under_other_schedulers_never_begin_alike() -> None:
    plan = written(padded([0, 0, 1], STEPS))
    first, other = (
        beginnings(each, resolve_run(each, STEPS)) for each in (plan, replace(plan, scheduler="DDIMScheduler"))
    )
    assert not set(first) & set(other)
