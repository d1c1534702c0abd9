"""What the compiler makes of a variant, read and not run: generating code for a CPU takes seconds, building it more."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from explorer import CompileError, Inheritance, InheritancePlan
from explorer.runtime.compiling import ChannelsLast, Compiled
from explorer.unet.architecture import Architecture
from explorer.unet.conditions import read_conditions
from explorer.unet.program import Conditions, Program
from tests.explorer.runtime.small_runs import small_pipeline
from tests.explorer.unet.test_program import call

WEIGHT = re.compile(r"empty_strided_\w+\(\(\d+, \d+, 3, 3\)")
"""A buffer of the shape of a 3x3 weight, which is what it would be copied to."""


class OneUnit:
    """A variant of a single ResUnit: two 3x3 convolutions."""

    def __init__(self, program: Program) -> None:
        self.program, self.node = program, program.architecture.by_name["up0.l0.res"]

    def __call__(self, sample: Any, at: Conditions, inherited: Any) -> Any:
        return self.program.branch(self.node, sample, at)


class ReadError(Exception):
    """Ends the compiler once its code was read."""


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The code that Inductor generates, of which nothing is built."""
    from torch._functorch import config as functorch_config
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering

    found: list[str] = []

    def read(text: str) -> None:
        found.append(text)
        raise ReadError

    monkeypatch.setattr(GraphLowering, "save_output_code", staticmethod(read))
    torch._dynamo.reset()
    with config.patch(fx_graph_cache=False), functorch_config.patch(enable_autograd_cache=False):
        yield found
    torch._dynamo.reset()


@pytest.mark.parametrize(("channels_last", "copies"), [(False, 2), (True, 0)])
def test_weights_that_are_laid_out_for_the_compiler_are_not_copied(
    channels_last: bool, copies: int, code: list[str]
) -> None:
    unet = small_pipeline().unet
    program = Program(unet)
    ChannelsLast(unet if channels_last else None)
    sample, context = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 16)
    with torch.no_grad(), pytest.raises(CompileError, match="ReadError"):
        _, at = read_conditions(unet, program.architecture, sample, torch.tensor(500), context)
        wide = torch.randn(2, program.modules["up0.l0.res"].conv1.in_channels, 8, 8)
        Compiled(OneUnit(program), 0)(wide, at, {})
    assert len(code) == 1 and "convolution" in code[0]
    assert len(WEIGHT.findall(code[0])) == copies


def test_the_layout_of_weights_goes_with_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values stay, and taking the plan off restores every stride; where nothing is compiled nothing is moved."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    unet = small_pipeline().unet
    before = {name: (p.clone(), p.stride()) for name, p in unet.named_parameters()}
    stock = call(unet)
    plan = InheritancePlan(Architecture.of(unet), 1)
    for mode, moves in (("off", False), ("default", True)):
        options: dict[str, Any] = {"scheduler": None, "fallback": False, "channels_last": True}
        with Inheritance(unet, plan, compile=mode, **options) as handle:  # type: ignore[arg-type]
            moved = {name for name, p in unet.named_parameters() if p.stride() != before[name][1]}
            assert ("conv_in.weight" in moved) == moves and all("conv" in name for name in moved)
            handle.begin(1)
            torch.testing.assert_close(call(unet), stock, rtol=1e-4, atol=1e-5)
        for name, parameter in unet.named_parameters():
            assert torch.equal(parameter, before[name][0]) and parameter.stride() == before[name][1]
        assert torch.equal(call(unet), stock)
