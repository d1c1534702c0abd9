"""The program against the stock UNet: bit-identity without a mask, and what each form of inheritance computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from explorer import InheritancePlan, ModelError, inherit
from explorer.plans.schedule import Segments
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from tests.conftest import SHAPES, make_unet
from tests.explorer.dispatched import Dispatched


def call(unet: Any, seed: int = 0, size: tuple[int, int] = (16, 16), **kwargs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, 4, *size, generator=generator)
    context = torch.randn(2, 7, 16, generator=generator)
    if unet.config.addition_embed_type == "text_time":
        kwargs.setdefault("added_cond_kwargs", {"text_embeds": torch.ones(2, 16), "time_ids": torch.ones(2, 6)})
    with torch.no_grad():
        return unet(sample, torch.tensor(500 - seed), context, **kwargs).sample


def two_step(architecture: Architecture, mask: Mask) -> InheritancePlan:
    return InheritancePlan(architecture, 2, (mask,), Segments.of([0, 1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(16, 16), (8, 24), (13, 18)])
def test_empty_mask_is_bit_identical(shape: str, size: tuple[int, int]) -> None:
    unet = make_unet(shape)
    expected = call(unet, size=size)
    with inherit(unet, InheritancePlan(Architecture.of(unet), 3)) as handle:
        handle.begin(3)
        assert all(torch.equal(call(unet, size=size), expected) for _ in range(3))
    assert torch.equal(call(unet, size=size), expected)


def test_extract_step_of_a_plan_is_bit_identical_too() -> None:
    unet = make_unet()
    expected = call(unet)
    architecture = Architecture.of(unet)
    with inherit(unet, two_step(architecture, Mask.of(architecture.units))) as handle:
        handle.begin(2)
        assert torch.equal(call(unet), expected)


@pytest.mark.parametrize(("scale", "divided"), [(1, 0), (1.5, 2)])
def test_only_a_scale_that_changes_something_is_divided_by(scale: float, divided: int) -> None:
    """The stock forward divides every ResUnit by its output scale, which is 1 nearly always; the bits are the same."""
    unet = make_unet(mid_block_scale_factor=scale)
    stock = call(unet)
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        with Dispatched() as dispatched:
            found = call(unet)
    with Dispatched() as usual:
        call(unet)
    plain = usual.names.count("div") - len([unit for unit in Architecture.of(unet).units if "res" in unit])
    assert dispatched.names.count("div") - plain == divided
    assert torch.equal(found, stock)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unit", ["res", "attn", "up_res"])
def test_residual_inheritance_is_equation_4(shape: str, unit: str) -> None:
    """out = F_previous + identity(x), checked against a forward hook on the stock module alone."""
    unet = make_unet(shape)
    architecture = Architecture.of(unet)
    block = {
        "res": unet.down_blocks[1].resnets[0],
        "attn": unet.down_blocks[1].attentions[0],
        "up_res": unet.up_blocks[1].resnets[1],
    }
    name = {"res": "dn1.l0.res", "attn": "dn1.l0.attn", "up_res": "up1.l1.res"}[unit]
    module: Any = block[unit]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def identity(x: torch.Tensor) -> torch.Tensor:
        shortcut = getattr(module, "conv_shortcut", None)
        return x if shortcut is None else shortcut(x)

    def record(_: Any, inputs: Any, output: Any) -> None:
        seen.append(
            (
                inputs[0],
                output[0] if isinstance(output, tuple) else output.sample if hasattr(output, "sample") else output,
            )
        )

    hook = module.register_forward_hook(record)
    call(unet, 0)
    hook.remove()
    branch = seen[0][1] - identity(seen[0][0])

    def inherit_by_hook(_: Any, inputs: Any, output: Any) -> Any:
        value = branch + identity(inputs[0])
        return (value,) if isinstance(output, tuple) else value

    hook = module.register_forward_hook(inherit_by_hook)
    expected = call(unet, 1)
    hook.remove()
    with inherit(unet, two_step(architecture, Mask.of([name]))) as handle:
        handle.begin(2)
        call(unet, 0)
        found = call(unet, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, call(unet, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_output_inheritance_runs_only_what_is_live(shape: str) -> None:
    unet = make_unet(shape)
    architecture = Architecture.of(unet)
    cut = [node.inputs[0] for node in architecture.nodes if node.kind == "cat"][-1]
    mask = Mask.of([cut], "output")
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in unet.named_modules()
        if name.endswith(("conv1", "proj_in"))
    ]
    with inherit(unet, two_step(architecture, mask)) as handle:
        handle.begin(2)
        call(unet, 0)
        full, ran[:] = len(ran), []
        call(unet, 1)
    for hook in hooks:
        hook.remove()
    live_units = [name for name in liveness(architecture, mask).run if architecture.by_name[name].is_unit]
    assert full == len(architecture.units)
    assert len(ran) == len(live_units) < full
    assert all(name.startswith(f"up_blocks.{len(architecture.up) - 1}") for name in ran)


def test_one_unit_in_two_forms_in_one_plan() -> None:
    unet = make_unet()
    architecture = Architecture.of(unet)
    residual, output = Mask.of(["up1.l1.attn"]), Mask.of(["up1.l1.attn"], "output")
    alone = []
    for mask in (residual, output):
        with inherit(unet, two_step(architecture, mask)) as handle:
            handle.begin(2)
            call(unet, 0)
            alone.append(call(unet, 1))
    both = InheritancePlan(architecture, 3, (residual, output), Segments.of([0, 1, 2]))
    with inherit(unet, both) as handle:
        handle.begin(3)
        call(unet, 0)
        assert torch.equal(call(unet, 1), alone[0])
        assert torch.equal(call(unet, 1), alone[1])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"down_block_types": ("SimpleCrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)}, "SimpleCrossAttnDownBlock2D"),
        ({"up_block_types": ("AttnUpBlock2D", *("CrossAttnUpBlock2D",) * 3)}, "AttnUpBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "UNetMidBlock2DSimpleCrossAttn"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
    ],
)
def test_other_block_types_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    config = {**make_unet().config, **change}
    with pytest.raises(ModelError, match=named):
        Architecture.of_config(config)
