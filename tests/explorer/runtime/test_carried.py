"""What a pipeline carries keeps working under a plan, or is refused with its reason."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, ModelError, inherit, strategy
from explorer.unet.architecture import Architecture
from tests.conftest import make_pipeline, make_unet
from tests.explorer.runtime.carried import CARRIED, with_model_offload
from tests.explorer.runtime.small_runs import plan_for
from tests.explorer.tiny_pipelines import CASES, picture
from tests.explorer.unet.test_program import call, two_step


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


@pytest.mark.parametrize(("name", "first", "others"), [("EP", True, True), ("EX2", True, True), ("DC0", True, False)])
def test_residuals_of_a_control_network_are_live_where_a_live_node_reads_them(
    name: str, first: bool, others: bool
) -> None:
    """At an inherit step the residuals of that step count, also on an inherited skip and an inherited mid block. Where
    the region that reads them is inherited they go with it: DC0's inherit step reads the first skip alone."""
    pipe = CASES["ControlNet"].build()
    unet = pipe.unet
    sample, context = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 16)
    plan = strategy(name, mode="P2", steps=2, unet=unet)
    with torch.no_grad():
        down, mid = pipe.controlnet(sample, 500, context, picture().expand(2, -1, -1, -1), return_dict=False)

    def second(of_first: float, of_others: float) -> torch.Tensor:
        with torch.no_grad(), inherit(unet, plan) as handle:
            handle.begin(2)
            for one, other in ((1.0, 1.0), (of_first, of_others)):
                residuals = (down[0] * one, *(d * other for d in down[1:]))
                out = unet(
                    sample, 500, context, down_block_additional_residuals=residuals,
                    mid_block_additional_residual=mid * other,
                ).sample  # fmt: skip
        return out

    assert torch.equal(second(3.0, 1.0), second(1.0, 1.0)) != first
    assert torch.equal(second(1.0, 3.0), second(1.0, 1.0)) != others
