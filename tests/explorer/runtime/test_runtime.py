"""The rules of the runtime, each with the failure it prevents."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from explorer import CompileError, InheritancePlan, ModelError, PlanError, inherit, strategy
from explorer.plans.schedule import Segments, parse_mode
from explorer.plans.schedulers import SCHEDULERS
from explorer.runtime.combining import Combining
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.test_program import call, two_step

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def latents(pipe: Any, steps: int = 10, batch: int = 1, **kwargs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    kwargs = {**embeds(batch), "output_type": "latent", "num_inference_steps": steps, **kwargs}
    return pipe(generator=generator, **kwargs).images


def small_pipeline(scheduler: Any = None) -> Any:
    """With two levels of one layer: soon run, and soon compiled."""
    return make_pipeline(
        scheduler, block_out_channels=(16, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def plan_for(pipe: Any, name: str = "DC0", mode: str = "P5", steps: int = 10, rule: str = "copy") -> InheritancePlan:
    return strategy(name, mode=mode, steps=steps, unet=pipe.unet, rule=rule)


def ran_units(pipe: Any) -> list[int]:
    """Append, at each evaluation, how many ResUnits ran: read by the caller after the run."""
    counts: list[int] = []
    for module in pipe.unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            module.conv1.register_forward_hook(lambda *_: counts.__setitem__(-1, counts[-1] + 1))
    pipe.unet.conv_in.register_forward_hook(lambda *_: counts.append(0))
    return counts


def test_deepcache_to_the_bit(pipeline_of: Any) -> None:
    from DeepCache import DeepCacheSDHelper

    pipe = pipeline_of()
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=5, cache_branch_id=0)
    helper.enable()
    theirs = latents(pipe, 20)
    helper.disable()
    with inherit(pipe, plan_for(pipe, "DC0", "P5", 20)):
        ours = latents(pipe, 20)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, latents(pipe, 20))


@pytest.mark.parametrize("branch", [1, 2])
def test_deeper_deepcache_branches_to_the_bit(branch: int) -> None:
    from DeepCache import DeepCacheSDHelper

    pipe = make_pipeline()
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=3, cache_branch_id=branch)
    helper.enable()
    theirs = latents(pipe)
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, f"DC{branch}", "P3")):
        assert torch.equal(latents(pipe), theirs)


@pytest.mark.parametrize(
    ("scheduler", "evaluations"),
    [
        (diffusers.DDIMScheduler(**BETAS), 10),
        (diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True), 11),
        (diffusers.HeunDiscreteScheduler(**BETAS), 19),
        (diffusers.DPMSolverMultistepScheduler(**BETAS), 10),
        (diffusers.EulerAncestralDiscreteScheduler(**BETAS), 10),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, int) else str(v),
)
def test_schedule_counts_evaluations(scheduler: Any, evaluations: int) -> None:
    """PNDM repeats a timestep and Heun evaluates twice: a run is counted, never guessed from timestep values."""
    pipe = make_pipeline(scheduler)
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, "DC0", "P5")):
        latents(pipe)
    assert len(counts) == evaluations
    assert [i for i, units in enumerate(counts) if units == 22] == list(range(0, evaluations, 5))
    assert set(counts) == {22, 1}


def test_every_run_starts_anew() -> None:
    """DeepCache's quality decays over repeated calls: here the third run gives the first one's picture."""
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, mode="P4")) as handle:
        runs = [latents(pipe) for _ in range(3)]
        assert handle.cache_bytes == 0
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_an_interrupted_run_leaves_nothing_behind() -> None:
    pipe = make_pipeline()

    def stop(_: Any, step: int, __: Any, ___: Any) -> dict[str, Any]:
        if step == 3:
            raise RuntimeError("stopped")
        return {}

    with inherit(pipe, plan_for(pipe)):
        first = latents(pipe)
        with pytest.raises(RuntimeError, match="stopped"):
            latents(pipe, callback_on_step_end=stop)
        assert torch.equal(latents(pipe), first)


def test_batch_changes_between_runs() -> None:
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe)):
        alone = latents(pipe)
        latents(pipe, batch=3)
        assert torch.equal(latents(pipe), alone)


@pytest.mark.parametrize("rule", ["copy", "forecast2"])
def test_a_change_inside_a_run_extracts(rule: str) -> None:
    """Guidance that ends half way halves the batch: the step extracts instead of crashing, then inheritance goes on."""
    pipe = make_pipeline()
    counts = ran_units(pipe)

    def end_guidance(pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 6:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    with inherit(pipe, plan_for(pipe, mode="P5", rule=rule)):
        result = latents(pipe, callback_on_step_end=end_guidance, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert torch.isfinite(result).all()
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5, 7]


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_img2img_runs_the_tail(strength: float) -> None:
    pipe = make_pipeline(kind="StableDiffusionImg2ImgPipeline")
    counts = ran_units(pipe)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with inherit(pipe, plan_for(pipe, mode="P5", steps=20)):
        pipe(image=image, strength=strength, num_inference_steps=20, generator=torch.Generator().manual_seed(0),
             output_type="latent", **embeds())  # fmt: skip
    start = 20 - int(20 * strength)
    expected = sorted({start, *(i for i in range(start, 20) if i % 5 == 0)})
    assert [start + i for i, units in enumerate(counts) if units == 22] == expected


def test_a_mode_is_refit_to_another_step_count() -> None:
    pipe = make_pipeline()
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, mode="P5", steps=50)):
        latents(pipe, 15)
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5, 10]


def test_a_written_schedule_is_not_refit() -> None:
    pipe = make_pipeline()
    architecture = Architecture.of(pipe.unet)
    plan = InheritancePlan(architecture, 10, (Mask.of(["mid.attn"]),), Segments.of([0, 1] * 5))
    with inherit(pipe, plan):
        latents(pipe, 10)
        with pytest.raises(PlanError, match="10 UNet evaluations and the run has 12"):
            latents(pipe, 12)


def test_applying_twice_is_an_error() -> None:
    pipe = make_pipeline()
    plan = plan_for(pipe)
    with inherit(pipe, plan), pytest.raises(PlanError, match="applied to this UNet already"):
        inherit(pipe, plan)
    inherit(pipe, plan).remove()


def test_another_architecture_is_refused_naming_both() -> None:
    pipe = make_pipeline()
    other = strategy("CO6", unet=make_unet("sdxl"), steps=10)
    with pytest.raises(PlanError) as error:
        inherit(pipe, other)
    assert other.architecture.describe() in str(error.value)
    assert Architecture.of(pipe.unet).describe() in str(error.value)


def test_removing_restores_exactly() -> None:
    pipe = make_pipeline()
    before = [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)]
    plain = latents(pipe)
    after_run = [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)]
    handle = inherit(pipe, plan_for(pipe))
    latents(pipe)
    handle.remove()
    handle.remove()
    assert [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)] == after_run
    assert all(b <= a for b, a in zip(before, after_run, strict=True))
    assert type(pipe.unet).forward.__get__(pipe.unet) == pipe.unet.forward
    assert torch.equal(latents(pipe), plain)


def test_scheduler_exchanged_after_applying() -> None:
    pipe = make_pipeline()
    first = pipe.scheduler
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, mode="P5")):
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS)
        latents(pipe)
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5]
    assert "set_timesteps" not in first.__dict__ and "set_timesteps" not in pipe.scheduler.__dict__


def test_a_bare_unet_needs_a_beginning() -> None:
    unet = make_unet()
    plan = two_step(Architecture.of(unet), Mask.of(["mid.attn"]))
    with inherit(unet, plan) as handle:
        with pytest.raises(PlanError, match="before a run began"):
            call(unet)
        handle.begin(2)
        call(unet)
    scheduler = diffusers.DDIMScheduler(**BETAS)
    with inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(2)
        call(unet)
        call(unet)
        with pytest.raises(PlanError, match="more often than its 2 timesteps"):
            call(unet)


def test_only_features_that_are_read_are_held() -> None:
    unet = make_unet()
    architecture = Architecture.of(unet)
    plan = InheritancePlan(
        architecture, 6, (Mask.of(["mid.attn"]), Mask.of(["mid.res1"])), Segments.of([0, 1, 0, 2, 0, 0])
    )
    held = []
    with inherit(unet, plan) as handle:
        handle.begin(6)
        for _ in range(6):
            call(unet)
            held.append(handle.cache_bytes)
    one = 2 * 32 * 2 * 2 * 4
    assert held == [one, 0, one, 0, 0, 0]


@pytest.mark.parametrize("rule", ["copy", "forecast1", "forecast2"])
def test_rules_combine_extracted_features(rule: str) -> None:
    """A feature that moves as a polynomial of the evaluation is forecast exactly by the order that it has."""
    from explorer.plans.rules import Rule
    from explorer.runtime.combining import combine

    at, sources, order = 9, (0, 3, 6), {"copy": 0, "forecast1": 1, "forecast2": 2}[rule]
    chosen = Rule.parse(rule)
    features = [torch.full((2, 2), float(s) ** order) for s in sources]
    found = combine(features[-chosen.history :], chosen.coefficients(at, sources))
    torch.testing.assert_close(found, torch.full((2, 2), float(at) ** order))


def test_forecast_follows_extract_steps_in_a_run() -> None:
    """With output inheritance of the last ResUnit's input the forecast can be made by hand from two stock runs."""
    unet = make_unet()
    architecture = Architecture.of(unet)
    mask = Mask.of(["up3.l2.attn"])
    plan = InheritancePlan(
        architecture, 5, (mask,), Segments.of([0, 0, 1]), strategy("DC0", unet=unet, rule="forecast1").rule
    )
    seen: list[torch.Tensor] = []
    module = unet.up_blocks[3].attentions[2]
    module.register_forward_hook(lambda _, inputs, output: seen.append(output[0] - inputs[0]))
    for seed in (0, 1):
        call(unet, seed)
    module._forward_hooks.clear()
    forecast = 2 * seen[1] - seen[0]
    module.register_forward_hook(lambda _, inputs, output: (forecast + inputs[0],))
    expected = call(unet, 2)
    module._forward_hooks.clear()
    with inherit(unet, plan) as handle:
        handle.begin(3)
        call(unet, 0)
        call(unet, 1)
        found = call(unet, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


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
        with inherit(pipe, plan_for(pipe, "DC0", "P3", rule="forecast2"), compile=True):
            latents(pipe, 10)
            after_one = graphs()
            for steps in (10, 13, 7):
                latents(pipe, steps)
            # An extract step, and inherit steps with one, two or three extract steps behind them: one variant each.
            assert graphs() == after_one == 2
        with inherit(pipe, plan_for(pipe, "CO6", "P2"), compile="default"):
            latents(pipe, 4)
            latents(pipe, 6)
        assert graphs() == 4
    assert not counters["graph_break"]


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
    from tests.explorer.test_buffers import over_buffers

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


# What a pipeline may carry -------------------------------------------------------------------------------------------


def residuals(unet: Any, scale: float = 0.1) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    controlnet = diffusers.ControlNetModel.from_unet(unet)
    torch.manual_seed(5)
    for block in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(block.weight, std=scale)
    with torch.no_grad():
        down, mid = controlnet(torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 7, 16),
                               torch.rand(2, 3, 128, 128), return_dict=False)  # fmt: skip
    return tuple(down), mid


def adapter_features(unet: Any) -> list[torch.Tensor]:
    torch.manual_seed(6)
    channels = unet.config.block_out_channels
    sizes = [16, 8, 4, 2]
    return [torch.randn(2, c, s, s) * 0.3 for c, s in zip(channels, sizes, strict=True)]


def with_controlnet(unet: Any) -> dict[str, Any]:
    down, mid = residuals(unet)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


def with_lora(unet: Any) -> dict[str, Any]:
    from peft import LoraConfig

    torch.manual_seed(7)
    unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=["to_q", "to_v", "conv1"])
    )
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return {"cross_attention_kwargs": {"scale": 0.5}}


def with_ip_adapter(unet: Any) -> dict[str, Any]:
    width = unet.config.cross_attention_dim
    torch.manual_seed(8)
    keys: dict[str, torch.Tensor] = {}
    index = 1
    for name in unet.attn_processors:
        if "attn2" in name:
            block = unet.get_submodule(name.removesuffix(".processor"))
            keys[f"{index}.to_k_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            keys[f"{index}.to_v_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            index += 2
    projection = {"proj.weight": torch.randn(4 * width, 10), "proj.bias": torch.zeros(4 * width),
                  "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}  # fmt: skip
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys}], low_cpu_mem_usage=False)
    return {"added_cond_kwargs": {"image_embeds": [torch.randn(2, 1, 10)]}}


def with_processor(unet: Any) -> dict[str, Any]:
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())
    return {}


def with_sliced_attention(unet: Any) -> dict[str, Any]:
    unet.set_attention_slice(1)
    return {}


def with_sequential_offload(unet: Any) -> dict[str, Any]:
    from accelerate import cpu_offload

    cpu_offload(unet, execution_device=torch.device("cpu"))
    return {}


def with_model_offload(unet: Any) -> dict[str, Any]:
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(unet, execution_device=torch.device("cpu"))
    return {}


CARRIED = {
    "controlnet": with_controlnet,
    "t2i-adapter": lambda unet: {"down_intrablock_additional_residuals": adapter_features(unet)},
    "t2i-adapter, older form": lambda unet: {"down_block_additional_residuals": adapter_features(unet)},
    "lora": with_lora,
    "ip-adapter": with_ip_adapter,
    "attention processor": with_processor,
    "sliced attention": with_sliced_attention,
    "sequential offload": with_sequential_offload,
    "model offload": with_model_offload,
    "attention masks": lambda _: {"encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])},
}


@pytest.mark.parametrize("what", CARRIED)
def test_what_a_pipeline_carries_keeps_working(what: str) -> None:
    """Stock and an extract step agree to the bit, the thing changes the picture, and an inherit step feels it too."""
    unet = make_unet()
    plain = call(unet, 1)

    def fresh(kwargs: dict[str, Any]) -> dict[str, Any]:
        # diffusers pops T2I-Adapter's features off the caller's list.
        return {key: list(value) if isinstance(value, list) else value for key, value in kwargs.items()}

    kwargs = CARRIED[what](unet)
    expected = call(unet, 1, **fresh(kwargs))
    if "offload" not in what and "processor" not in what and "sliced" not in what:
        assert not torch.allclose(expected, plain, atol=1e-4)
    plan = two_step(Architecture.of(unet), strategy("DC2", unet=unet).masks[0])
    with inherit(unet, plan) as handle:
        handle.begin(2)
        assert torch.equal(call(unet, 1, **fresh(kwargs)), expected)
        inherited = call(unet, 1, **fresh(kwargs))
    torch.testing.assert_close(inherited, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(call(unet, 1, **fresh(kwargs)), expected)


def test_t2i_adapter_of_xl_reaches_the_mid_block() -> None:
    unet = make_unet("sdxl")
    torch.manual_seed(9)
    shapes = [(16, 8), (32, 8), (32, 4), (32, 4)]
    features = [torch.randn(2, c, s, s) for c, s in shapes]
    expected = call(unet, down_intrablock_additional_residuals=list(features))
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        assert torch.equal(call(unet, down_intrablock_additional_residuals=list(features)), expected)


def test_an_empty_mask_among_others_extracts() -> None:
    unet = make_unet()
    mask = Mask.of(["dn1.l0.attn"])
    architecture = Architecture.of(unet)
    found = []
    for choices, masks in (([0, 1, 2], (Mask(), mask)), ([0, 0, 1], (mask,))):
        with inherit(unet, InheritancePlan(architecture, 3, masks, Segments.of(choices))) as handle:
            handle.begin(3)
            found.append([call(unet, seed) for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_many_compiled_plans_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search compiles plan after plan, each at two batch sizes: no recompilation limit is shared between them."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    pipe = make_pipeline()
    for name in ("DC0", "DC1", "CO6"):
        with inherit(pipe, plan_for(pipe, name, "P2", 2), compile=True):
            for batch in (1, 2):
                assert torch.isfinite(latents(pipe, 2, batch)).all()


def test_offloading_hooks_that_go_before_the_plan_does() -> None:
    from accelerate.hooks import remove_hook_from_module

    unet = make_unet()
    expected = call(unet)
    with_model_offload(unet)
    handle = inherit(unet, InheritancePlan(Architecture.of(unet), 1))
    remove_hook_from_module(unet, recurse=True)
    handle.remove()
    assert torch.equal(call(unet), expected)
    inherit(unet, InheritancePlan(Architecture.of(unet), 1)).remove()


def test_offloading_that_starts_after_a_plan() -> None:
    unet = make_unet()
    expected = call(unet)
    handle = inherit(unet, InheritancePlan(Architecture.of(unet), 1))
    with_model_offload(unet)
    handle.begin(1)
    assert torch.equal(call(unet), expected)
    handle.remove()
    assert torch.equal(call(unet), expected)


def test_what_cannot_work_is_refused_with_its_reason() -> None:
    pipe = make_pipeline()
    plan = plan_for(pipe)
    pipe.enable_freeu(0.9, 0.2, 1.2, 1.4)
    with pytest.raises(ModelError, match="FreeU"):
        inherit(pipe, plan)
    pipe.disable_freeu()
    hook = pipe.unet.down_blocks[0].attentions[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="forward hooks"):
        inherit(pipe, plan)
    hook.remove()
    pipe.unet.down_blocks[0].resnets[0].forward = lambda *_: None
    with pytest.raises(ModelError, match="another tool"):
        inherit(pipe, plan)
    with pytest.raises(ModelError, match="no UNet"):
        inherit(object(), plan)


PUT_IN = {
    "a ResUnit": lambda unet: unet.down_blocks[0].resnets[0],
    "an AttnUnit": lambda unet: unet.up_blocks[1].attentions[0],
    "a block": lambda unet: unet.down_blocks[1],
    "the UNet": lambda unet: unet,
}


@pytest.mark.parametrize("place", PUT_IN)
def test_a_subclass_with_a_forward_of_its_own_is_refused(place: str) -> None:
    pipe = make_pipeline()
    plan, module = plan_for(pipe), PUT_IN[place](pipe.unet)
    stock = type(module)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return stock.forward(self, *args, **kwargs)

    # as a patch may: with the names of what it replaces
    module.__class__ = type(stock.__name__, (stock,), {"forward": functools.wraps(stock.forward)(forward)})
    with pytest.raises(ModelError, match="another tool has replaced the forward of"):
        inherit(pipe, plan)
    module.__class__ = type("Extended", (stock,), {})  # whose forward is diffusers' own
    inherit(pipe, plan).remove()


def test_a_forward_patched_on_its_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline()
    plan, stock = plan_for(pipe), type(pipe.unet.down_blocks[0].resnets[0])
    monkeypatch.setattr(stock, "forward", lambda self, *args, **kwargs: args[0])
    with pytest.raises(ModelError, match="another tool has replaced the forward of"):
        inherit(pipe, plan)


def test_a_hook_of_accelerate_that_is_another_tools_is_refused() -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Doubles(ModelHook):
        def post_forward(self, module: Any, output: Any) -> Any:
            return 2 * output

    pipe = make_pipeline()
    plan = plan_for(pipe)
    add_hook_to_module(pipe.unet.down_blocks[0].resnets[0], Doubles())
    with pytest.raises(ModelError, match="another tool has replaced the forward of"):
        inherit(pipe, plan)


def test_a_mode_of_the_paper_in_words() -> None:
    assert parse_mode("P5d") == parse_mode("P5†")
