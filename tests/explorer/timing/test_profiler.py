"""A whole profile of a tiny pipeline: complete, kept by rounds, gone on with, and honest about what it is fitted to."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
import torch

from explorer import DeviceError, ModelError, ScoreError, strategy
from explorer.compile_modes import CompileMode, check_mode
from explorer.devices import describe
from explorer.models.workload import Workload, unet_inputs, vae_factor
from explorer.plans.strategies import STRATEGIES
from explorer.timing.profile import FITTED_LOOPS, Profile
from explorer.timing.profiling import ProfileProgress, profile_pipeline, workload_of
from explorer.unet.architecture import Architecture
from explorer.unet.mask import liveness
from tests.conftest import make_pipeline, pruned_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured() -> tuple[Any, Profile, list[ProfileProgress], list[int]]:
    """A profile that was interrupted in its second round of steps and again in its loops, and gone on with."""
    pipe = make_pipeline()
    work = workload_of(pipe, device="cpu")
    kept: dict[str, Any] = {}
    standings: list[ProfileProgress] = []
    rounds: list[int] = []

    class Stop(Exception):
        pass

    def keep(profile: Profile) -> None:
        kept["document"] = json.dumps(profile.to_json())
        samples = (profile.step_samples, profile.rule_samples, profile.loop_samples)
        rounds.append(sum(each.rounds for each in samples))
        if sum(each.rounds for each in samples) in (2, 7) and len(rounds) < 9:
            raise Stop

    started = None
    for _ in range(3):
        try:
            profile = profile_pipeline(
                pipe, "tiny", work, steps=6, rounds=3, started=started, on_progress=standings.append, on_round=keep
            )
            break
        except Stop:
            started = Profile.from_json(json.loads(kept["document"]))
            assert not started.complete
            with pytest.raises(ScoreError, match="not complete"):
                _ = started.cost_model
    assert "forward" not in pipe.unet.__dict__
    return pipe, profile, standings, rounds


def test_an_interrupted_profile_goes_on_and_completes(
    measured: tuple[Any, Profile, list[ProfileProgress], list[int]],
) -> None:
    _, profile, standings, rounds = measured
    assert profile.complete and rounds == list(range(1, 10))
    assert profile.step_samples.rounds == profile.rule_samples.rounds == profile.loop_samples.rounds == 3
    assert len(profile.step_samples.pairs) == len(profile.masks) == 64
    assert profile.nodes.rounds == 6
    assert standings[-1].done == standings[-1].total and standings[-1].seconds_left == 0
    assert [each.stage for each in standings if each.stage == "loops"]


def test_nothing_that_tells_the_error_was_fitted_to(
    measured: tuple[Any, Profile, list[ProfileProgress], list[int]],
) -> None:
    """Changing the samples of what is tested changes the errors and leaves the cost model as it is."""
    _, profile, _, _ = measured
    tested = len(profile.tested)
    fitted = profile.cost_model
    changed = Profile.from_json(json.loads(json.dumps(profile.to_json())))
    used = {*profile.ruled, profile.inside_loops}
    for k, name in enumerate(changed.tested):
        if name not in used:
            changed.step_samples.pairs[k] = [(2 * step, extract) for step, extract in changed.step_samples.pairs[k]]
    for k in range(FITTED_LOOPS, len(changed.loops)):
        changed.loop_samples.pairs[k] = [(2 * loop, extract) for loop, extract in changed.loop_samples.pairs[k]]
    assert changed.cost_model == fitted
    assert changed.loop_errors.median != profile.loop_errors.median
    assert not {mask.effective(profile.architecture) for mask in profile.tested.values()} & set(profile.designed)
    assert len(profile.strategies) == profile.step_errors.count == tested == len(STRATEGIES)


def test_what_follows_from_the_samples(measured: tuple[Any, Profile, list[ProfileProgress], list[int]]) -> None:
    pipe, profile, _, _ = measured
    model = profile.cost_model
    assert (
        model.step_seconds(profile.tested["CO6"])
        < model.step_seconds(profile.tested["LI3"])
        < model.step_seconds(type(profile.tested["CO6"])())
    )
    plan = strategy("DC0", mode="P5", steps=10, unet=pipe.unet)
    plain = strategy("plain@10", unet=pipe.unet)
    fast, whole = (profile.predicted_latency(each, 10) for each in (plan, plain))
    assert fast.value < whole.value and fast.low <= fast.value <= fast.high
    assert fast.value == pytest.approx(model.loop_seconds(plan, 10))
    assert profile.over_nodes("DC0") > 0 and profile.noise >= 0
    live = liveness(profile.architecture, profile.tested["DC0"])
    nodes = sum(median(profile.nodes.whole[name]) for name in live.run)  # inherits by output: no identity path runs
    step = profile.step_samples.relative(list(profile.tested).index("DC0")) * profile.extract_seconds
    assert profile.over_sampled_nodes("DC0") == pytest.approx(step / nodes)
    assert [timed.name for timed in profile.timed_loops] == ["DC0/P5", "CO6/P5†", "LI1/P2†"]
    # what was held is what was predicted, of each strategy and in each loop
    assert set(profile.held_bytes) == set(STRATEGIES) and len(profile.loop_bytes) == len(profile.loops)
    for name, held in profile.held_bytes.items():
        assert held == profile.cache_bytes(strategy(name, mode="P5", steps=10, unet=pipe.unet), 10) > 0
    assert all(measured == predicted for predicted, measured in profile.loop_caches)
    assert len(profile.loop_caches) == len(profile.timed_loops)
    old = {key: value for key, value in profile.to_json().items() if key not in ("held_bytes", "loop_bytes")}
    assert {measured for _, measured in Profile.from_json(old).loop_caches} == {None}
    assert profile.cache_bytes(plan, 10) == profile.feature_bytes[plan.masks[0].entries[0][0]] > 0


@pytest.mark.parametrize("change", [{"schema": 99}, {"nodes": None}, {"workload": {"batch": 1}}])
def test_a_document_that_is_no_profile_is_refused(
    measured: tuple[Any, Profile, list[ProfileProgress], list[int]], change: dict[str, Any]
) -> None:
    with pytest.raises(ScoreError, match="cannot be read"):
        Profile.from_json(measured[1].to_json() | change)


def test_too_little_memory_says_how_much_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.timing import profiling

    pipe = make_pipeline()
    monkeypatch.setattr(profiling, "free_memory", lambda _: 1000)
    with pytest.raises(DeviceError, match=r"needs about .* GiB .* lower --batch or --resolution"):
        profile_pipeline(pipe, "tiny", workload_of(pipe, device="cpu"), steps=4)


def test_memory_that_runs_out_on_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.timing import profiling

    def out(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    pipe = make_pipeline()
    monkeypatch.setattr(profiling, "time_steps", out)
    with pytest.raises(DeviceError, match=r"ran out of memory on cpu.* lower --batch"):
        profile_pipeline(pipe, "tiny", workload_of(pipe, device="cpu"), steps=4, rounds=3)


@pytest.mark.parametrize("side", [7, 33, -2, 0, 100_000_000])
def test_a_resolution_fits_the_model_s_own_factor(side: int) -> None:
    pipe = make_pipeline()
    assert vae_factor(pipe) == 2
    with pytest.raises(ModelError, match="positive multiple of 2 pixels"):
        workload_of(pipe, device="cpu", resolution=side or -1)


def test_workloads_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="at least 1"):
        Workload(0, (8, 8), "cpu", "float32")
    with pytest.raises(DeviceError, match="need a CUDA GPU"):
        check_mode("cudagraphs", CPU)
    work = Workload(2, (8, 16), "cpu", "float32")
    assert Workload.from_json(json.loads(json.dumps(work.to_json()))) == work


def test_a_missing_compiler_is_said() -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(DeviceError, match=r"needs a C\+\+ compiler"):
        check_mode("default", CPU)


def test_inputs_are_what_a_pipeline_gives_its_unet() -> None:
    """Caught at the UNet of a real run: the same shapes and dtypes, both halves of guidance in one batch."""
    pipe = make_pipeline()
    seen: dict[str, Any] = {}
    forward = pipe.unet.forward

    def spy(sample: Any, timestep: Any, **kwargs: Any) -> Any:
        seen.update(sample=sample, **kwargs)
        return forward(sample, timestep, **kwargs)

    work = Workload(3, (32, 48), "cpu", "float32")
    inputs = unet_inputs(pipe, work, CPU)
    pipe.unet.forward = spy
    states = inputs["encoder_hidden_states"]
    pipe(
        prompt_embeds=states[:3], negative_prompt_embeds=states[3:], num_inference_steps=1, output_type="latent",
        height=32, width=48,
    )  # fmt: skip
    assert seen["sample"].shape == inputs["sample"].shape == (6, 4, 16, 24)
    assert seen["encoder_hidden_states"].shape == states.shape


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["off", "cudagraphs-eager"])  # a compiler would be at 64 variants for long
def test_a_profile_on_a_gpu(mode: CompileMode) -> None:
    pipe = make_pipeline().to("cuda")
    work = workload_of(pipe, device="cuda", dtype="float32", compile=mode)
    profile = profile_pipeline(pipe, "tiny", work, steps=6, rounds=3)
    assert profile.complete and profile.extract_seconds > 0
    assert describe(torch.device("cuda", 0)) == replace(profile.device)


def test_a_pruned_pipeline_is_profiled_and_its_plans_are_predicted() -> None:
    """BK-SDM-Tiny: no mid block, three levels; the first up layer reads one tensor twice."""
    pipe = make_pipeline(**pruned_config("bk-sdm-tiny"))
    profile = profile_pipeline(pipe, "tiny", workload_of(pipe, device="cpu"), steps=4, rounds=1)
    assert profile.complete and profile.nodes.whole.keys() == Architecture.of(pipe.unet).by_name.keys()
    plan = strategy("DC0/P2", steps=4, unet=pipe.unet)
    full = strategy("plain@4", unet=pipe.unet)
    assert 0 < profile.cost_model.loop_seconds(plan, 4) < profile.cost_model.loop_seconds(full, 4)
