"""What a step costs beside its arithmetic: operations that are launched, and the host's time to call them.

At batch 1 a GPU waits for both. The counts depend on the topology alone, here SD1.5's; a number that falls may be
lowered, one that grows is a step that got slower.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, inherit
from explorer.unet.architecture import Architecture
from explorer.unet.conditions import read_conditions
from explorer.unet.mask import Mask
from explorer.unet.program import Conditions, Program
from explorer.unet.variant import Variant
from tests.conftest import make_unet
from tests.explorer.dispatched import Dispatched
from tests.explorer.runtime.small_runs import plan_for

FULL, DC0, CONDITIONS = 691, 43, 15
"""A full step: 22 ResUnits of 10 and 14 shortcuts, 16 AttnUnits of 27, 25 further. DC0: a layer, conv_in, cat, out."""


def evaluation(unet: Any) -> tuple[torch.Tensor, Conditions]:
    sample, context = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 16)
    return read_conditions(unet, Architecture.of(unet), sample, torch.tensor(500), context)


def kernels_of(unet: Any, mask: Mask) -> int:
    """Of a step under the mask, its features given, without what comes before its first node."""
    program = Program(unet)
    variant = Variant(program, mask)
    with torch.no_grad():
        sample, at = evaluation(unet)
        full = Variant(program, Mask(), frozenset(variant.reads))
        stored = full(sample, at, {})[1]
        with Dispatched() as dispatched:
            variant(sample, at, stored)
    return len(dispatched.kernels)


def test_a_full_step_launches_no_more() -> None:
    assert kernels_of(make_unet(), Mask()) <= FULL


def test_a_step_of_dc0_launches_no_more() -> None:
    unet = make_unet()
    assert kernels_of(unet, plan_for(SimpleNamespace(unet=unet)).masks[0]) <= DC0


def test_conditions_launch_no_more() -> None:
    unet = make_unet()
    with torch.no_grad(), Dispatched() as dispatched:
        evaluation(unet)
    assert len([name for name in dispatched.kernels if name != "randn"]) <= CONDITIONS


def host_seconds(unet: Any, calls: int) -> list[float]:
    """This thread's processor time for each call; on the meta device nothing is computed."""
    sample, context = torch.empty(2, 4, 16, 16, device="meta"), torch.empty(2, 7, 16, device="meta")
    found = []
    for _ in range(calls):
        timestep = torch.empty((), dtype=torch.long, device="meta")
        began = time.thread_time()
        unet(sample, timestep, context)
        found.append(time.thread_time() - began)
    return found


@pytest.mark.parametrize(("name", "most"), [("plain", 1.1), ("DC0", 0.2)])
def test_the_host_s_time_of_a_step(name: str, most: float) -> None:
    """Over that of a stock call: of a step that computes everything, and of DC0's. The least of some calls of each."""
    unet = make_unet().to("meta")
    with torch.no_grad():
        stock = min(host_seconds(unet, 7)[2:])
        architecture = Architecture.of(unet)
        plan = (
            plan_for(SimpleNamespace(unet=unet), name, "P7", 7) if name == "DC0" else InheritancePlan(architecture, 7)
        )
        with inherit(unet, plan) as handle:
            handle.begin(7)
            ours = min(host_seconds(unet, 7)[2:])
    assert ours < most * stock
