"""Captured steps: what cannot be captured says so; on a GPU, pictures are those without a capture."""

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

from explorer import CompileError, InheritancePlan, ModelError, PlanError, inherit
from explorer.compile_modes import COMPILE_MODES, check_compiler, check_mode, compile_mode
from explorer.errors import DeviceError, ExplorerError
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import evaluations_of
from explorer.runtime.graphs import StaticSteps, capture_graph, why_not
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from explorer.unet.module_walk import ModuleWalk
from explorer.unet.program import Program
from tests.conftest import make_pipeline, make_unet
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.runtime.carried import CARRIED
from tests.explorer.runtime.small_runs import latents, plan_for
from tests.explorer.runtime.static_runs import CPU, over_buffers, static_steps
from tests.explorer.unet.test_program import call


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
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
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
