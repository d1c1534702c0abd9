"""A plan comes off in any order: whatever other tools have put on the UNet since, it ends at the stock picture."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from explorer import ModelError, inherit
from tests.explorer.runtime.carried import with_model_offload
from tests.explorer.runtime.small_runs import latents, plan_for, small_pipeline


class Timer:
    """A tool that wraps the UNet's forward and puts back what it found."""

    def __init__(self, pipe: Any) -> None:
        self.unet = pipe.unet

    def enable(self) -> None:
        self.found = found = self.unet.forward
        self.unet.forward = lambda *args, **kwargs: found(*args, **kwargs)

    def disable(self) -> None:
        self.unet.forward = self.found


def deepcache(pipe: Any) -> Any:
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    return helper


TOOLS: dict[str, Callable[[Any], Any]] = {"a timer": Timer, "DeepCache": deepcache}
ORDERS = [order for order in set(itertools.permutations("ared")) if order.index("a") < order.index("r")
          and order.index("e") < order.index("d")]  # fmt: skip
"""apply and remove a plan, enable and disable the tool."""


def draw(pipe: Any) -> torch.Tensor:
    return latents(pipe, 4)


@pytest.mark.parametrize("order", sorted(map("".join, ORDERS)))
@pytest.mark.parametrize("tool", TOOLS)
def test_any_order_of_applying_and_removing_ends_at_the_stock_picture(tool: str, order: str) -> None:
    pipe = small_pipeline()
    plan, stock = plan_for(pipe, "DC0", "P2", 4), draw(pipe)
    with inherit(pipe, plan):
        expected = draw(pipe)
    other, handle = TOOLS[tool](pipe), None
    for _ in range(2):
        for act in order:
            if act == "a" and order.index("e") < order.index("a") < order.index("d"):  # the tool is at work
                with pytest.raises(ModelError, match="another tool has replaced the forward of"):
                    inherit(pipe, plan)
            elif act == "a":
                handle = inherit(pipe, plan)
            elif act == "r" and handle is not None:
                handle.remove()
                if tool == "a timer":
                    assert torch.equal(draw(pipe), stock)
            elif act == "e":
                other.enable()
            elif act == "d":
                other.disable()
        assert torch.equal(draw(pipe), stock)
        with inherit(pipe, plan):
            assert torch.equal(draw(pipe), expected)
        assert "forward" not in pipe.unet.__dict__ and torch.equal(draw(pipe), stock)


def test_offloading_hooks_around_a_tool_around_a_plan() -> None:
    from accelerate.hooks import remove_hook_from_module

    pipe = small_pipeline()
    plan, stock = plan_for(pipe, "DC0", "P2", 4), draw(pipe)
    handle, tool = inherit(pipe, plan), Timer(pipe)
    tool.enable()
    with_model_offload(pipe.unet)
    handle.remove()
    assert torch.equal(draw(pipe), stock)
    remove_hook_from_module(pipe.unet, recurse=True)
    tool.disable()
    assert torch.equal(draw(pipe), stock)
    inherit(pipe, plan).remove()
    assert torch.equal(draw(pipe), stock)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_a_copy_runs_its_own_weights_where_a_tool_put_a_plan_back_that_was_off(make: Callable[[Any], Any]) -> None:
    pipe = small_pipeline()
    handle, tool = inherit(pipe, plan_for(pipe, "DC0", "P2", 4)), Timer(pipe)
    tool.enable()
    handle.remove()
    tool.disable()
    stock, copied = draw(pipe), make(pipe.unet)
    torch.nn.init.zeros_(pipe.unet.conv_out.weight)
    assert not torch.equal(draw(pipe), stock)
    pipe.unet = copied
    assert torch.equal(draw(pipe), stock)


COMPILES: dict[str, Callable[[Any], Any]] = {
    "torch.compile(pipe.unet)": lambda pipe: setattr(pipe, "unet", torch.compile(pipe.unet, backend="eager")),
    "unet.compile()": lambda pipe: pipe.unet.compile(backend="eager"),
    "torch.compile(unet.forward)": lambda pipe: setattr(
        pipe.unet, "forward", torch.compile(pipe.unet.forward, backend="eager")
    ),
}


@pytest.mark.parametrize("what", COMPILES)
def test_a_unet_that_is_compiled_after_the_plan_is_refused_in_one_sentence(what: str) -> None:
    pipe = small_pipeline()
    torch._dynamo.reset()
    with inherit(pipe, plan_for(pipe, "DC0", "P2", 4)):
        draw(pipe)
        COMPILES[what](pipe)
        with pytest.raises(ModelError, match=r"torch\.compile.* was put on a UNet that has a plan"):
            draw(pipe)


def test_a_compiled_unet_that_gets_a_plan_within_is_refused_and_is_stock_after_it() -> None:
    pipe = small_pipeline()
    unet, plan = pipe.unet, plan_for(pipe, "DC0", "P2", 4)
    torch._dynamo.reset()
    pipe.unet = torch.compile(unet, backend="eager")
    stock = draw(pipe)
    with inherit(unet, plan, scheduler=pipe.scheduler), pytest.raises(ModelError, match="was put on a UNet"):
        draw(pipe)
    assert torch.equal(draw(pipe), stock)


def test_a_trace_of_a_unet_with_a_plan_is_refused() -> None:
    pipe = small_pipeline()
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor(5), torch.randn(1, 7, 16))
    with inherit(pipe, plan_for(pipe)), pytest.raises(ModelError, match=r"torch\.jit\.trace"):
        torch.jit.trace(lambda *args: pipe.unet(*args).sample, inputs)
