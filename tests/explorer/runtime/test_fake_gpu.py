"""Steps as they are captured, on a GPU that is not there: tensors without data that say they are on `cuda`.

What a graph could not hold shows: a value that is read on the host, a result on the CPU, an operation over two devices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer import InheritancePlan
from explorer.plans.cast import TEACHER
from explorer.plans.plan import resolve_run
from explorer.plans.schedule import Segments
from explorer.runtime.eager import EagerSteps
from explorer.runtime.graphs import StaticSteps
from explorer.runtime.networks import Network
from explorer.runtime.runs import Running
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask
from explorer.unet.program import Program
from tests.conftest import make_unet
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.runtime.carried import with_ip_adapter
from tests.explorer.runtime.static_runs import direct

HOST_READS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "unique")
FORMS: dict[str, dict[str, Form]] = {
    "residual": {"mid.attn": "residual", "up2.l0.res": "residual"},
    "output": {"up2.l0.res": "output"},
    "zero": {"mid.attn": "zero", "up2.l0.res": "residual"},
    "bypass": {"mid.attn": "bypass", "up2.l0.res": "residual"},
}
WIDTHS = {"sd1": 4, "sdxl": 3}


class Captured(TorchDispatchMode):
    """Refuses within it what a CUDA graph cannot hold, or does not read again when it is replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        assert not name.startswith(HOST_READS), f"{name} reads a value on the host"
        result = function(*args, **(kwargs or {}))
        devices = {each.device.type for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        assert devices <= {"cuda"}, f"{name} reads from {devices}"
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                assert each.device.type in ("cuda", "meta"), f"{name} gives a tensor on {each.device}"
                self.dtypes.add(each.dtype)
        return result


def checked(modes: list[Captured]) -> Callable[..., Any]:
    """In place of a capture: the second run of a step, as the first allocates buffers, is held to what a graph can."""

    def capture(step: Callable[[], torch.Tensor], pool: Any) -> Callable[[], torch.Tensor]:
        step()
        with Captured() as mode:
            step()
        modes.append(mode)
        return direct(step, pool)

    return capture


def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **_: Any) -> torch.Tensor:
    """In place of the choice of a kernel, which asks the driver."""
    found: torch.Tensor = torch.ops.aten._scaled_dot_product_attention_math(query, key, value, attn_mask)[0]
    return found


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    with FakeTensorMode() as mode:
        yield mode


def on_gpu(shape: str, change: Callable[[Any], object] = lambda _: None, **changes: Any) -> Any:
    """A UNet in half precision on the GPU that is not there. change: puts something on it."""
    # Made in half precision: a module of tensors without data cannot be cast afterwards.
    with torch.device("cuda"):
        torch.set_default_dtype(torch.float16)
        try:
            unet = make_unet(shape, **changes)
            change(unet)
            return unet
        finally:
            torch.set_default_dtype(torch.float32)


def arguments_of(unet: Any, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Of one call, on the GPU and in the UNet's dtype."""
    made = {"sample": (2, 4, 16, 16), "context": (2, 7, unet.config.cross_attention_dim)}
    arguments: dict[str, Any] = {
        name: torch.zeros(size, dtype=torch.float16, device="cuda") for name, size in made.items()
    }
    arguments["timestep"] = torch.tensor(500 - seed, device="cuda")
    if unet.config.addition_embed_type == "text_time":
        arguments["added"] = {
            "text_embeds": torch.zeros(2, 16, dtype=torch.float16, device="cuda"),
            "time_ids": torch.zeros(2, 6, dtype=torch.float16, device="cuda"),
        }
    return arguments | more


def captures(unet: Any, plan: InheritancePlan, **more: Any) -> list[Captured]:
    """Every step of the plan's run, held to what a graph can; its noise is on the GPU in the UNet's dtype."""
    modes: list[Captured] = []
    steps = StaticSteps(Program(unet), plan, compile=False, capture=checked(modes))
    with torch.no_grad():
        for evaluation, choice in enumerate(plan.resolve(plan.steps)):
            noise = steps.step(evaluation, choice, arguments_of(unet, evaluation, **more))
            assert noise.device.type == "cuda" and noise.dtype == torch.float16 and noise.shape == (2, 4, 16, 16)
    return modes


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("shape", WIDTHS)
def test_every_step_can_be_captured_under_every_rule(shape: str, rule: str, gpu: FakeTensorMode) -> None:
    unet = on_gpu(shape)
    choices = [0, 1, 0, 1, 0, 0, 1]
    units = Architecture.of(unet).units
    plan = InheritancePlan(
        Architecture.of(unet), len(choices), (Mask.of([units[3], units[-2], "mid.attn"]),), Segments.of(choices)
    )
    modes = captures(unet, under(plan, rule, len(choices)))
    assert len(modes) == 2  # an extract step and an inherit step
    # the time embedding is computed in single precision, as diffusers does; nothing is in double
    assert all(mode.dtypes <= {torch.float16, torch.float32, torch.int64, torch.bool} for mode in modes)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_captured(form: str, gpu: FakeTensorMode) -> None:
    unet = on_gpu("sd1")
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(FORMS[form]),), Segments.of([0, 1]))
    assert len(captures(unet, plan)) == 2


def test_a_control_network_s_residuals_are_captured(gpu: FakeTensorMode) -> None:
    unet = on_gpu("sd1")
    widths = Architecture.of(unet).skip_channels
    sizes = [16] * 3 + [8] * 3 + [4] * 3 + [2] * 3
    down = tuple(
        torch.zeros(2, width, size, size, dtype=torch.float16, device="cuda")
        for width, size in zip(widths, sizes, strict=True)
    )
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    assert len(captures(unet, plan, down_residuals=down, mid_residual=down[-1])) == 2


def test_an_ip_adapter_s_image_states_are_captured(gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    # Everything is where it belongs, and a module of tensors without data cannot be moved.
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    unet = on_gpu("sd1", with_ip_adapter)
    added = {"image_embeds": [torch.zeros(2, 1, 10, dtype=torch.float16, device="cuda")]}
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    modes = captures(unet, plan, added=added)
    assert len(modes) == 2 and all(torch.float64 not in mode.dtypes for mode in modes)


def test_every_step_of_a_cast_of_two_networks_stays_on_the_gpu(gpu: FakeTensorMode) -> None:
    """Such steps are not captured yet (`cudagraphs` refuses them); what runs is held to what a graph could, the step
    after the networks change as well."""
    teacher, student = on_gpu("sd1"), on_gpu("sd1", attention_head_dim=4)
    mask = Mask.of(["mid.attn", "up2.l0.res"])
    plan = InheritancePlan(Architecture.of(teacher), 7, (mask,), Segments.of([0, 1, 1, 0, 1, 0, 1]))
    plan = plan.with_cast("m2@0.4")
    networks = {TEACHER: Network(Program(teacher), (Mask(), mask)), "m2": Network(Program(student), (Mask(), mask))}
    run = Running(resolve_run(plan, 7), 0, "off")
    steps = EagerSteps(networks, plan)
    assert list(run.resolved.networks) == ["m2"] * 3 + [TEACHER] * 4
    with torch.no_grad():
        for evaluation in range(7):
            given = arguments_of(teacher, evaluation)
            with Captured() as mode:
                noise = steps.step(run, given)
            assert noise.device.type == "cuda" and noise.dtype == torch.float16
            assert mode.dtypes <= {torch.float16, torch.float32, torch.int64, torch.bool}
    assert run.bytes > 0 or run.evaluation == 7


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x * float(x.sum()), lambda x: x[x > 0], lambda x: x + torch.ones(1), lambda x: x.cpu(),
        lambda x: torch.zeros(2),
    ],
)  # fmt: skip
def test_what_a_graph_cannot_hold_is_found(wrong: Callable[[Any], Any], gpu: FakeTensorMode) -> None:
    x = torch.ones(2, device="cuda")
    with pytest.raises(Exception), Captured():  # noqa: B017
        wrong(x)
