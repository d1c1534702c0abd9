"""Static buffers on the CPU: the pictures of the eager path to the bit, from tensors that keep their places."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import CompileError, Inheritance, InheritancePlan, ModelError, PlanError, inherit
from explorer.compile_modes import COMPILE_MODES, check_compiler, check_mode, compile_mode
from explorer.errors import DeviceError, ExplorerError
from explorer.plans.rules import FITTED_RULES, RULES, Rule
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import evaluations_of
from explorer.runtime.buffers import FeatureBuffers, StaticInputs, form_of
from explorer.runtime.combining import combine
from explorer.runtime.graphs import StaticSteps, capture_graph, why_not
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from explorer.unet.module_walk import ModuleWalk
from explorer.unet.program import Program
from tests.conftest import make_pipeline, make_unet
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.test_program import call
from tests.explorer.test_runtime import CARRIED, latents, plan_for

CPU = torch.device("cpu")


def direct(step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
    """In place of a CUDA graph: the step itself, over the same buffers."""
    return step


def static_steps(unet: Any, plan: InheritancePlan) -> StaticSteps:
    return StaticSteps(Program(unet), plan, compile=False, capture=direct)


def over_buffers(handle: Any, monkeypatch: pytest.MonkeyPatch) -> StaticSteps:
    """Let `handle` run as `cudagraphs-eager` does, with `direct` in place of the capture."""
    steps = static_steps(handle.unet, handle.plan)
    monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs-eager")
    handle._idle.append(steps)
    return steps


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("name", ["DC0", "CO6"])
def test_the_picture_of_the_eager_path_to_the_bit(rule: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline()
    plan = under(plan_for(pipe, name, "P3", 10), rule, evaluations_of(pipe.scheduler, 10))
    fewer = 10 if rule in FITTED_RULES else 7  # fitted weights are for one number of steps
    with inherit(pipe, plan):
        eager = [latents(pipe), latents(pipe, batch=2), latents(pipe, fewer)]
    with inherit(pipe, plan) as handle:
        steps = over_buffers(handle, monkeypatch)
        found = [latents(pipe), latents(pipe, batch=2), latents(pipe, fewer)]
        again = latents(pipe)
    assert all(torch.equal(a, b) for a, b in zip(eager, found, strict=True))
    assert torch.equal(again, eager[0])
    assert steps.captures == 4  # extract and inherit, for two batch sizes: neither steps nor runs capture again


@pytest.mark.parametrize("what", [w for w in CARRIED if "offload" not in w])
def test_what_a_pipeline_carries_goes_through_the_buffers(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = make_unet()
    kwargs = CARRIED[what](unet)

    def fresh() -> dict[str, Any]:
        return {key: list(value) if isinstance(value, list) else value for key, value in kwargs.items()}

    plan = InheritancePlan(Architecture.of(unet), 3, (Mask.of(["mid.attn", "dn1.l0.res"]),), Segments.of([0, 1, 1]))
    found = []
    for static in (False, True):
        with inherit(unet, plan) as handle:
            if static:
                over_buffers(handle, monkeypatch)
            handle.begin(3)
            found.append([call(unet, seed, **fresh()) for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[tuple[str, ...], ...], list[int], str]:
    units = Architecture.of(make_unet()).units
    masks = draw(
        st.lists(st.lists(st.sampled_from(units), min_size=1, max_size=6, unique=True), min_size=1, max_size=2)
    )
    choices = [0, *draw(st.lists(st.integers(0, len(masks)), min_size=1, max_size=6))]
    return tuple(tuple(mask) for mask in masks), choices, draw(st.sampled_from(ALL_RULES))


@settings(max_examples=12, deadline=None)
@given(plans())
def test_any_plan_over_buffers(drawn: tuple[tuple[tuple[str, ...], ...], list[int], str]) -> None:
    masks, choices, rule = drawn
    unet = make_unet()
    architecture = Architecture.of(unet)
    plan = InheritancePlan(architecture, len(choices), tuple(Mask.of(m) for m in masks), Segments.of(choices))
    plan = under(plan, rule, len(choices))
    with inherit(unet, plan) as handle:
        handle.begin(len(choices))
        eager = [call(unet, seed) for seed in range(len(choices))]
    with pytest.MonkeyPatch.context() as patch, inherit(unet, plan) as handle:
        steps = over_buffers(handle, patch)
        for _ in range(2):
            handle.begin(len(choices))
            found = [call(unet, seed) for seed in range(len(choices))]
            assert all(torch.equal(a, b) for a, b in zip(eager, found, strict=True))
        assert steps.captures <= 1 + len(masks)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RULES), st.lists(st.booleans(), min_size=1, max_size=12))
def test_feature_buffers_hold_the_last_extract_steps(rule: str, extracts: list[bool]) -> None:
    chosen = Rule.parse(rule)
    buffers = FeatureBuffers(chosen, CPU)
    feature = ("mid.attn", "residual")
    kept: list[tuple[int, torch.Tensor]] = []
    places: set[int] = set()
    for evaluation, extract in enumerate([True, *extracts]):
        if extract:
            value = torch.randn(1, 2, 3, 3).to(memory_format=torch.channels_last)
            kept = [*kept, (evaluation, value)][-chosen.history :]
            buffers.extract(evaluation)
            buffers.write({feature: value})
        else:
            buffers.combine([feature], evaluation)
            read = buffers.read([feature])[feature]
            weights = chosen.coefficients(evaluation, buffers.sources)
            assert torch.equal(read, combine([value for _, value in kept], weights))
            assert read.stride() == kept[0][1].stride()
            places.add(read.data_ptr())
        assert buffers.sources == tuple(at for at, _ in kept)
    assert len(places) <= 1
    slots = chosen.history + (chosen.history > 1)
    assert buffers.bytes == slots * 18 * 4


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FITTED_RULES), st.lists(st.booleans(), min_size=2, max_size=10))
def test_fitted_weights_are_each_feature_s_own_in_the_buffers(rule: str, extracts: list[bool]) -> None:
    choices = [0, *(0 if extract else 1 for extract in extracts)]
    mask = Mask.of(["mid.attn", "dn1.l0.res", "up3.l2.attn"])
    plan = under(
        InheritancePlan(Architecture.of(make_unet()), len(choices), (mask,), Segments.of(choices)), rule, len(choices)
    )
    buffers = FeatureBuffers(plan.rule, CPU)
    kept: list[tuple[int, dict[Any, torch.Tensor]]] = []
    for evaluation, choice in enumerate(choices):
        if not choice:
            stored = {feature: torch.randn(1, 2, 3, 3) for feature in mask.entries}
            kept = [*kept, (evaluation, stored)][-plan.rule.history :]
            buffers.extract(evaluation)
            buffers.write(stored)
            continue
        buffers.combine(mask.entries, evaluation)
        rows = {feature: plan.rule.coefficients(evaluation, buffers.sources, feature) for feature in mask.entries}
        assert len(set(rows.values())) == 3
        for feature, read in buffers.read(mask.entries).items():
            assert torch.equal(read, combine([each[feature] for _, each in kept], rows[feature]))


def test_static_inputs_keep_their_places() -> None:
    arguments = {"a": torch.zeros(2, 3), "b": [torch.ones(1), None], "c": 4}
    inputs = StaticInputs(arguments, CPU)
    places = [inputs.arguments["a"].data_ptr(), inputs.arguments["b"][0].data_ptr()]
    inputs.fill({"a": torch.full((2, 3), 7.0), "b": [torch.full((1,), 8.0), None], "c": 4})
    assert [inputs.arguments["a"].data_ptr(), inputs.arguments["b"][0].data_ptr()] == places
    assert inputs.arguments["a"].eq(7).all() and inputs.arguments["b"][0].item() == 8
    assert inputs.arguments["c"] == 4 and inputs.arguments["a"].data_ptr() != arguments["a"].data_ptr()


def test_forms_differ_where_a_graph_would() -> None:
    base = {"sample": torch.zeros(2, 4, 8, 8), "scale": 1.0, "residuals": None}
    assert form_of(base) == form_of({**base, "sample": torch.ones(2, 4, 8, 8)})
    for change in (
        {"sample": torch.zeros(1, 4, 8, 8)},
        {"sample": torch.zeros(2, 4, 8, 8).to(memory_format=torch.channels_last)},
        {"sample": torch.zeros(2, 4, 8, 8, dtype=torch.float16)},
        {"scale": 0.5},
        {"residuals": (torch.zeros(1),)},
    ):
        assert form_of(base) != form_of({**base, **change})


def test_exchanged_weights_and_processors_capture_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    with inherit(unet, plan) as handle:
        steps = over_buffers(handle, monkeypatch)
        for change in (lambda: None, lambda: None, lambda: unet.set_attn_processor(AttnProcessor()), unet.double):
            change()
            handle.begin(2)
            dtype = next(unet.parameters()).dtype
            with torch.no_grad():
                for seed in range(2):
                    torch.manual_seed(seed)
                    unet(torch.randn(2, 4, 16, 16, dtype=dtype), 500 - seed, torch.randn(2, 7, 16, dtype=dtype))
    assert steps.captures == 2 * 3


@pytest.mark.parametrize("rule", RULES)
def test_the_cache_of_a_run_is_that_of_its_own_form(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers of other batches are kept for their next run, and are no part of what this one needs."""
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, "CO6", "P2", 4, rule)) as handle:
        steps = over_buffers(handle, monkeypatch)
        peaks = []
        for batch in (1, 3, 1):
            latents(pipe, 4, batch)
            peaks.append(handle.peak_cache_bytes)
            assert handle.cache_bytes == steps.bytes == peaks[-1]
        handle.begin(4)
        assert handle.peak_cache_bytes == 0 and handle.cache_bytes == 0
    assert 0 < peaks[0] == peaks[2] and peaks[1] == 3 * peaks[0]


def test_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = make_unet()
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        over_buffers(handle, monkeypatch)
        handle.begin(1)
        with pytest.raises(ModelError, match="no_grad"):
            unet(torch.zeros(2, 4, 16, 16), 1, torch.zeros(2, 7, 16))


@pytest.mark.parametrize("mode", ["cudagraphs", "cudagraphs-eager"])
def test_what_cannot_be_captured_says_so(mode: str) -> None:
    pipe = make_pipeline()
    plan = plan_for(pipe)
    with pytest.raises(ModelError, match="need the UNet on a CUDA GPU, and it is on cpu"):
        inherit(pipe, plan, compile=mode)
    with inherit(pipe, plan):
        expected = latents(pipe)
    with pytest.warns(UserWarning, match="runs eager"):
        handle = inherit(pipe, plan, compile=mode, fallback=True)
    with handle, warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said
        assert torch.equal(latents(pipe), expected)


@pytest.mark.parametrize("fails", [0, 1])
def test_a_capture_that_fails(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step is the extract step or the inherit step: one sentence, or eager from there on."""
    count = 0

    def capture(step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
        nonlocal count
        count += 1
        if count == fails + 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return step

    unet = make_unet()
    architecture, mask = Architecture.of(unet), Mask.of(["mid.attn", "up2.l0.res"])
    plan = InheritancePlan(architecture, 3, (mask,), Segments.of([0, 1, 1]))
    extracts = InheritancePlan(architecture, 3, (mask,), Segments.of([0, 0, 1] if fails else [0, 1, 1]))
    with inherit(unet, extracts) as handle:
        handle.begin(3)
        expected = [call(unet, seed) for seed in range(3)]
    usable = Inheritance._usable_mode
    for fallback in (False, True):
        count = 0
        with inherit(unet, plan, fallback=fallback) as handle, monkeypatch.context() as patch:
            handle._idle.append(StaticSteps(Program(unet), plan, compile=False, capture=capture))
            asked = "cudagraphs-eager"  # as if the device were a GPU
            patch.setattr(Inheritance, "_usable_mode", lambda self: usable(self) if self._failed else asked)  # noqa: B023
            handle.begin(3)
            if not fallback:
                with pytest.raises(CompileError, match="mode cudagraphs-eager cannot be had: a step could not be capt"):
                    [call(unet, seed) for seed in range(3)]
                continue
            with pytest.warns(UserWarning, match="not permitted when stream is capturing.*runs eager"):
                found = [call(unet, seed) for seed in range(3)]
            handle.begin(3)
            assert handle._mode == "off" and not handle._idle
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.cuda
def test_a_step_that_waits_for_the_gpu_cannot_be_captured() -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0

    class Waiting(AttnProcessor2_0):
        def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            assert hidden_states.isfinite().all().item()
            return super().__call__(attn, hidden_states, *args, **kwargs)

    pipe = make_pipeline().to("cuda")
    pipe.unet.set_attn_processor(Waiting())
    plan = plan_for(pipe)
    with inherit(pipe, plan):
        expected = latents(pipe)
    mode = "cudagraphs-eager"
    with inherit(pipe, plan, compile=mode), pytest.raises(CompileError, match="could not be captured"):
        latents(pipe)
    with inherit(pipe, plan, compile=mode, fallback=True), pytest.warns(UserWarning, match="runs eager"):
        assert torch.equal(latents(pipe), expected)


@pytest.mark.parametrize(("what", "why"), [("lora", "LoRA"), ("sequential offload", "offloading")])
def test_reasons_name_what_is_in_the_way(what: str, why: str) -> None:
    unet = make_unet()
    CARRIED[what](unet)
    assert why in str(why_not(ModuleWalk(unet), torch.device("cuda")))
    assert why_not(ModuleWalk(make_unet()), torch.device("cuda")) is None
    assert "eval" in str(why_not(ModuleWalk(make_unet().train()), torch.device("cuda")))


def test_modes_by_name() -> None:
    assert [compile_mode(value) for value in (False, True, "no", None)] == ["off", "default", "off", "off"]
    assert all(compile_mode(mode) == mode for mode in COMPILE_MODES)
    for wrong in ("fast", 3, 1, [], ""):
        with pytest.raises(PlanError, match="unknown compile mode"):
            compile_mode(wrong)
    with pytest.raises(PlanError, match="unknown compile mode"):
        inherit(make_unet(), None, compile="max")  # type: ignore[arg-type]


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(DeviceError, match=r"needs a C\+\+ compiler"):
        check_compiler(CPU)
    pipe = make_pipeline()
    with pytest.raises(ExplorerError, match=r"needs a C\+\+ compiler"):
        inherit(pipe, plan_for(pipe), compile=True)
    assert not hasattr(pipe.unet, "_inheritance")


def test_missing_triton_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import _triton

    monkeypatch.setattr(_triton, "has_triton", lambda: False)
    cuda = torch.device("cuda", 0)
    for mode in ("default", "cudagraphs"):
        with pytest.raises(DeviceError, match=r"compiling for cuda:0 needs Triton .* mode off or cudagraphs-eager"):
            check_mode(compile_mode(mode), cuda)
    check_mode("cudagraphs-eager", cuda)
    check_mode("off", cuda)


def test_an_extract_step_serves_every_mask() -> None:
    unet = make_unet()
    architecture = Architecture.of(unet)
    masks = (Mask.of(["mid.attn"]), Mask.of(["mid.res1"]))
    plan = InheritancePlan(architecture, 4, masks, Segments.of([0, 1, 0, 2]))
    steps = static_steps(unet, plan)
    assert {feature for mask in masks for feature in liveness(architecture, mask).reads} == steps._stores


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["cudagraphs-eager", "cudagraphs"])
@pytest.mark.parametrize("rule", ALL_RULES)
def test_captured_pictures_are_those_without_a_capture(mode: str, rule: str) -> None:
    pipe = make_pipeline().to("cuda")
    plan = under(plan_for(pipe, "CO6", "P3", 10), rule, evaluations_of(pipe.scheduler, 10))
    with inherit(pipe, plan):
        eager = [latents(pipe), latents(pipe, batch=2)]
    with inherit(pipe, plan, compile=mode) as handle:
        found = [latents(pipe), latents(pipe, batch=2)]
        again = latents(pipe)
        assert [steps.captures for steps in handle._idle] == [4]
    assert torch.equal(again, found[0])
    for a, b in zip(eager, found, strict=True):
        if mode == "cudagraphs" or rule != "copy":  # other kernels, or sums of features in other calls
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
        else:
            assert torch.equal(a, b)


@pytest.mark.cuda
def test_captured_steps_under_autocast_read_no_freed_casts() -> None:
    pipe = make_pipeline().to("cuda")
    plan = plan_for(pipe, "CO6", "P3", 10)
    with torch.autocast("cuda", torch.float16), inherit(pipe, plan):
        eager = latents(pipe)
    with inherit(pipe, plan, compile="cudagraphs-eager"):
        found = []
        for _ in range(2):
            with torch.autocast("cuda", torch.float16):
                found.append(latents(pipe))
            torch.full((2**24,), torch.nan, device="cuda")  # over whatever the region's end has freed
    for each in found:
        torch.testing.assert_close(each, eager, rtol=1e-3, atol=1e-3)


@pytest.mark.cuda
def test_a_replay_sees_weights_that_were_changed_in_place_and_follows_exchanged_ones() -> None:
    pipe = make_pipeline().to("cuda")
    plan = plan_for(pipe, "CO6", "P3", 6)
    with inherit(pipe, plan, compile="cudagraphs-eager") as handle:
        latents(pipe)
        with torch.no_grad():
            pipe.unet.conv_out.weight.mul_(1.5)
        changed = latents(pipe)
        pipe.unet.conv_out.weight.data = pipe.unet.conv_out.weight.data * 0.5
        exchanged = latents(pipe)
        assert [steps.captures for steps in handle._idle] == [4]
        handle.remove()
    with inherit(pipe, plan):
        assert torch.equal(latents(pipe), exchanged) and not torch.equal(changed, exchanged)


@pytest.mark.cuda
@pytest.mark.parametrize("dropped", [0, 1])
def test_a_graph_outlives_one_that_was_captured_beside_it(dropped: int) -> None:
    """A graph's products are summed up in memory of its own: not in what goes with another one, nor in anyone's."""
    torch._C._cuda_clearCublasWorkspaces()
    torch.manual_seed(0)
    long = torch.randn(2, 2, 64, 2**16, device="cuda", dtype=torch.float16)  # few sums of many parts: in a workspace
    graphs = [capture_graph(partial(torch.matmul, a, b.T), torch.cuda.graph_pool_handle) for a, b in long]
    expected = [graph() for graph in graphs]
    del graphs[dropped], expected[dropped]
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    filled = [torch.full((2**22,), torch.nan, device="cuda") for _ in range(64)]  # 1 GiB, over all that was freed
    for _ in range(3):
        assert torch.equal(graphs[0](), expected[0])
    assert all(each.isnan().all() for each in filled)


def test_graphs_take_their_workspaces_from_their_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuBLAS keeps is dropped between the warm-ups, which may lie on the capture's own stream, and the capture,
    and behind it, also when it fails. Without a GPU: the order of the calls alone."""
    log: list[str] = []

    class Region:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            log.append(self.name)

        def __exit__(self, *_: Any) -> None:
            log.append(f"end of {self.name}")

    def step() -> torch.Tensor:
        log.append("step")
        if fails and log[-2] == "capture":
            raise RuntimeError("no capture")
        return torch.zeros(1)

    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: log.append("clear"), raising=False)
    for name in ("current_stream", "Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: Region("side stream"))
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: Region("capture"))
    warm = ["clear", "step", "side stream", "step", "step", "end of side stream", "clear"]
    for fails in (False, True):
        log.clear()
        with pytest.raises(RuntimeError, match="no capture") if fails else contextlib.nullcontext():
            capture_graph(step, lambda: (0, 0))
        assert log == [*warm, "capture", "step", "end of capture", "clear", "clear"]


def test_a_pool_whose_graphs_are_gone_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's allocator forgets a pool with its last graph: weights that were exchanged take a new one."""
    handles = iter(range(100))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    pools: list[int] = []

    def capture(step: Callable[[], torch.Tensor], pool: Callable[[], Any]) -> Callable[[], torch.Tensor]:
        pools.append(pool())
        if len(pools) == 5:
            raise RuntimeError("no capture")
        return step

    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    with inherit(unet, plan) as handle:
        handle._idle.append(StaticSteps(Program(unet), plan, compile=False, capture=capture))
        monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs-eager")
        for change in (lambda: None, lambda: None, lambda: unet.conv_out.double().float()):
            change()
            handle.begin(2)
            for seed in range(2):
                call(unet, seed)
        assert pools == [0, 0, 1, 1]  # not in the second run, whose graphs stand
        unet.conv_out.double().float()
        handle.begin(2)
        with pytest.raises(CompileError, match="no capture"):
            call(unet)
        handle.begin(2)
        call(unet)
    assert pools[4:] == [2, 3]  # nothing was left of the pool of the capture that failed
