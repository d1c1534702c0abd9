"""Compiled steps, what a step reads on the host, and what it holds."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from explorer import CompileError, InheritancePlan, inherit
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import SCHEDULERS
from explorer.runtime.combining import Combining
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import make_pipeline, make_unet
from tests.explorer.runtime.small_runs import BETAS, latents, plan_for, small_pipeline
from tests.explorer.unet.test_program import call, two_step


def test_variants_compile_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph break in any variant. The compiler's front half alone: generating code takes minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = make_pipeline()
    plan = plan_for(pipe, mode="P5", steps=4)
    with inherit(pipe, plan):
        eager = latents(pipe, 4)
    with inherit(pipe, plan, compile=True):
        compiled = latents(pipe, 4)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-4)


GUARDS = (1000, 11_000)
"""Conditions that compiled code checks on the host at every call: of DC0's step and an extract step (torch 2.14)."""


def guards_of(compiled: Any) -> int:
    """Those of a compiled variant that was called in one form."""
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    (call,) = compiled._calls.values()
    (entry,) = _debug_get_cache_entry_list(call._torchdynamo_orig_callable.__func__.__code__)
    lines = str(entry.guard_manager).splitlines()
    return sum("+- " in line and "Manager" not in line for line in lines)


def test_one_graph_a_variant_and_no_recompilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither steps, timesteps, forecast coefficients, runs, nor a second plan make the compiler compile again."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = make_pipeline()
    torch._dynamo.reset()
    counters.clear()

    def graphs() -> int:
        return counters["stats"]["unique_graphs"]

    with torch._dynamo.config.patch(error_on_recompile=True):
        with inherit(pipe, plan_for(pipe, "DC0", "P3", rule="forecast2"), compile=True) as handle:
            latents(pipe, 10)
            after_one = graphs()
            for steps in (10, 13, 7):
                latents(pipe, steps)
            # An extract step, and inherit steps with one, two or three extract steps behind them: one variant each.
            assert graphs() == after_one == 2
            found = [guards_of(compiled) for compiled in handle._eager._variants.values()]
            assert all(0 < each <= most for each, most in zip(sorted(found), GUARDS, strict=True)), sorted(found)
        with inherit(pipe, plan_for(pipe, "CO6", "P2"), compile="default"):
            latents(pipe, 4)
            latents(pipe, 6)
        assert graphs() == 4
    assert not counters["graph_break"]


def test_captured_steps_compile_their_embedding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the mode cudagraphs: a graph for it a form of input, beside one a variant, none of which breaks."""
    from torch._dynamo.utils import counters

    from explorer.runtime.graphs import StaticSteps
    from explorer.unet.program import Program
    from tests.explorer.runtime.static_runs import direct

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = small_pipeline()
    plan = plan_for(pipe, "DC0", "P2", 4)
    with inherit(pipe, plan):
        expected = [latents(pipe, 4), latents(pipe, 4, 2)]
    torch._dynamo.reset()
    counters.clear()
    with inherit(pipe, plan) as handle, torch._dynamo.config.patch(error_on_recompile=True):
        handle._idle.append(StaticSteps(Program(pipe.unet), plan, compile=True, capture=direct))
        monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs")
        found = [latents(pipe, 4), latents(pipe, 4, 2)]
        latents(pipe, 4)
    assert counters["stats"]["unique_graphs"] == 2 * 3 and not counters["graph_break"]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", ["sd1", "sdxl"])
def test_a_compiled_embedding_is_the_embedding(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.runtime.compiling import compiled_function
    from explorer.unet.conditions import embedding

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    unet = make_unet(shape)
    added = {"text_embeds": torch.randn(2, 16), "time_ids": torch.rand(2, 6)} if shape == "sdxl" else None
    given = (unet, torch.randn(2, 4, 16, 16), torch.tensor(500), None, None, torch.randn(2, 7, 16), added)
    with torch.no_grad():
        assert torch.equal(compiled_function(embedding, "embedding_1")(*given), embedding(*given))


class Ran:
    """A compiler's backend that runs a graph as it stands and notes which one ran; `symbols` of each one's sizes."""

    def __init__(self) -> None:
        self.graphs: list[int] = []
        self.symbols: list[int] = []

    def __call__(self, graph: Any, _: Any) -> Any:
        number = len(self.symbols)
        given = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
        sizes = [size for value in given for size in (value.shape if isinstance(value, torch.Tensor) else [value])]
        self.symbols.append(sum(isinstance(size, torch.SymInt) for size in sizes))

        def run(*inputs: Any) -> Any:
            self.graphs.append(number)
            return graph(*inputs)

        return run


def test_each_batch_size_has_graphs_of_its_own_and_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed at one batch does not depend on the batches that ran before: no graph is for any size."""
    ran = Ran()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=ran))
    torch._dynamo.reset()
    pipe = small_pipeline()
    with torch._dynamo.config.patch(error_on_recompile=True), inherit(pipe, plan_for(pipe, steps=2), compile=True):
        for batch in (1, 4, 1):
            latents(pipe, 2, batch)
    assert ran.graphs == [0, 1, 2, 3, 0, 1]
    assert ran.symbols == [0] * 4


@pytest.mark.parametrize("fails", [0, 1])
def test_a_compiler_that_fails_at_a_step(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step is the extract step or the inherit step: one sentence, or eager from there on."""

    def backend(graph: Any, inputs: Any) -> Any:
        if len(ran.symbols) == fails:
            raise OSError("Python.h is missing")
        return ran(graph, inputs)

    pipe = small_pipeline()
    plan = plan_for(pipe, "DC0", "P3", 6)
    with inherit(pipe, plan):
        expected = latents(pipe, 6)
    choices = [0, 1, 1, 0, 1, 1]
    choices[fails] = 0  # where features of a failed run would have been read
    with inherit(pipe, InheritancePlan(plan.architecture, 6, plan.masks, Segments.of(choices))):
        first = latents(pipe, 6)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    ran = Ran()
    with inherit(pipe, plan, compile=True):
        with pytest.raises(CompileError, match=r"mode default cannot be had: the compiler failed .*Python\.h is miss"):
            latents(pipe, 6)
        with pytest.raises(CompileError, match="use the compile mode off"):
            latents(pipe, 6)
    torch._dynamo.reset()
    ran = Ran()
    with inherit(pipe, plan, compile=True, fallback=True) as handle:
        with pytest.warns(UserWarning, match=r"Python\.h is missing.*runs eager") as warned:
            found = latents(pipe, 6)
            again = latents(pipe, 6)
        assert len(warned) == 1 and handle.cache_bytes == 0
    torch.testing.assert_close(found, first, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, expected)


def test_a_lack_of_memory_is_no_failure_of_the_compiler() -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    from explorer.runtime.compiling import explained

    full = torch.OutOfMemoryError("full")
    for error in (full, BackendCompilerFailed(None, full, None)):
        with pytest.raises(torch.OutOfMemoryError, match="full"), explained("it failed", "off"):
            raise error


def test_more_forms_than_the_compiler_recompiles_for() -> None:
    from explorer.runtime.compiling import Compiled
    from explorer.unet.program import Conditions

    class Doubled:
        def __call__(self, sample: torch.Tensor, at: Conditions, inherited: Any) -> torch.Tensor:
            return sample * 2 + at.emb

    ran = Ran()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", functools.partial(torch.compile, backend=ran))
        call = Compiled(Doubled(), 0)
        sizes = range(1, torch._dynamo.config.recompile_limit + 4)
        for size in (*sizes, *sizes):
            at = Conditions(torch.ones(1), None, (size, size))
            assert torch.equal(call(torch.ones(size, size), at, {}), torch.full((size, size), 3.0))
    assert ran.graphs == [*range(len(sizes))] * 2 and set(ran.symbols) == {0}


class Reads(TorchDispatchMode):
    """Counts within it the reads of a tensor's value on the host. Those made in C++ (an index, a comparison, a number
    that a tensor is multiplied by) are seen where they are dispatched; those that pass by the dispatcher on a CPU, in
    Python."""

    DISPATCHED = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "unique")
    PYTHON = ("tolist", "cpu", "numpy", "__array__")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Reads:
        for name in self.PYTHON:
            self._patch.setattr(torch.Tensor, name, self._counting(getattr(torch.Tensor, name)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patch.undo()

    def _counting(self, original: Any) -> Any:
        def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(tensor, *args, **kwargs)

        return counted

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket.__name__.startswith(self.DISPATCHED)
        return function(*args, **(kwargs or {}))


def reads_of(pipe: Any, steps: int) -> int:
    with Reads() as reads:
        latents(pipe, steps)
    return reads.count


READS_A_STEP = {
    "DDIMScheduler": 6, "PNDMScheduler": 3, "EulerDiscreteScheduler": 2, "EulerAncestralDiscreteScheduler": 0,
    "HeunDiscreteScheduler": 0, "DPMSolverMultistepScheduler": 0, "UniPCMultistepScheduler": 0, "DDPMScheduler": 13,
    "KDPM2DiscreteScheduler": 11, "DEISMultistepScheduler": 32, "LMSDiscreteScheduler": 116,
}  # fmt: skip
"""Of the stock loop, as docs/how-it-works.md tells them."""


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_plan_reads_no_tensor_on_the_host(name: str) -> None:
    """Every such read stalls a GPU's queue: a loop has those of the stock pipeline and none of ours."""
    pipe = small_pipeline(getattr(diffusers, name)(**BETAS))
    stock = reads_of(pipe, 8)
    if name in READS_A_STEP:
        assert reads_of(pipe, 12) - stock == 4 * READS_A_STEP[name]
    with inherit(pipe, plan_for(pipe, "RI", "P3", 8, rule="forecast2")):
        assert reads_of(pipe, 8) == stock


@pytest.mark.parametrize("rule", ["copy", "forecast1", "forecast2"])
def test_no_rule_reads_a_tensor_between_steps(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do captured steps: here over the same buffers, without a capture."""
    from tests.explorer.runtime.static_runs import over_buffers

    unet = make_unet()
    plan = plan_for(SimpleNamespace(unet=unet), "CO6", "P3", 8, rule)
    for captured in (False, True):
        with inherit(unet, plan) as handle:
            if captured:
                over_buffers(handle, monkeypatch)
            handle.begin(8)
            with Reads() as reads:
                for seed in range(8):
                    call(unet, seed)
        assert reads.count == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.item(), lambda t: bool(t), lambda t: int(t), lambda t: [0, 1][t], lambda t: torch.ones(2)[t.bool()],
        lambda t: t.tolist(), lambda t: t.cpu(), lambda t: t.numpy(), lambda t: np.asarray(t), lambda t: t == t or None,
        lambda t: torch.equal(t, t), lambda t: torch.add(t, t, alpha=t), lambda t: torch.ones(2).nonzero(),
    ],
)  # fmt: skip
def test_the_counter_counts(read: Any) -> None:
    with Reads() as reads:
        torch.ones(1) + 1
        assert reads.count == 0
        read(torch.tensor(1))
    assert reads.count > 0


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["off", "default", "cudagraphs-eager"])
def test_the_loop_never_waits_for_the_gpu(mode: str) -> None:
    pipe = make_pipeline().to("cuda")
    with torch.no_grad(), inherit(pipe.unet, plan_for(pipe, "CO6", "P3", rule="forecast2"), compile=mode) as handle:
        sample, context = torch.randn(2, 4, 16, 16, device="cuda"), torch.randn(2, 7, 16, device="cuda")
        timesteps = torch.arange(900, 800, -10, device="cuda")
        for warm in (True, False):
            handle.begin(10)
            torch.cuda.set_sync_debug_mode("default" if warm else "error")
            try:
                for timestep in timesteps:
                    pipe.unet(sample, timestep, context)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_features_are_references_not_copies() -> None:
    """What an extract step keeps is the very tensor that it computed, and what a copy inherits is that tensor."""
    unet = make_unet()
    kept: list[int] = []
    unet.down_blocks[0].attentions[0].proj_out.register_forward_hook(lambda *a: kept.append(a[2].data_ptr()))
    mask = Mask.of(["dn0.l0.attn"])
    with inherit(unet, two_step(Architecture.of(unet), mask)) as handle:
        handle.begin(2)
        call(unet)
        cache = handle._runs.latest.cache
        held = cache["dn0.l0.attn", "residual"][0]
        assert [held.data_ptr()] == kept
        inherited = Combining(handle.plan.rule, cache, mask, 1)
        assert inherited["dn0.l0.attn", "residual"] is held and inherited.peak == 0
        call(unet)
        assert handle.cache_bytes == 0 and len(kept) == 1


def test_a_compiled_plan_holds_no_more_than_an_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled extract steps give every feature back, and what nobody reads later is let go at once."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    unet = make_unet()
    plan = InheritancePlan(
        Architecture.of(unet), 6, (Mask.of(["mid.attn"]), Mask.of(["mid.res1"])), Segments.of([0, 1, 0, 2, 0, 0])
    )
    held: dict[bool, list[int]] = {}
    for compile in (False, True):
        with inherit(unet, plan, compile=compile) as handle:
            handle.begin(6)
            held[compile] = [(call(unet, seed), handle.cache_bytes)[1] for seed in range(6)]
    assert held[True] == held[False]


def test_many_compiled_plans_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search compiles plan after plan, each at two batch sizes: no recompilation limit is shared between them."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = make_pipeline()
    for name in ("DC0", "DC1", "CO6"):
        with inherit(pipe, plan_for(pipe, name, "P2", 2), compile=True):
            for batch in (1, 2):
                assert torch.isfinite(latents(pipe, 2, batch)).all()
