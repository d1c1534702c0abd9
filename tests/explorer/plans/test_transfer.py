"""Plans on other models: what is carried over by name, what is dropped with a warning, what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.plans.schedule import Periodic
from explorer.plans.strategies import STRATEGIES
from explorer.plans.transfer import TransferWarning, transfer
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.architectures import SD15, SD15_CONFIG, SDXL, TINY
from tests.conftest import make_unet
from tests.explorer.tiny_pipelines import CASES, Case, sd, sdxl

SD21 = Architecture.of_config({**SD15_CONFIG, "cross_attention_dim": 1024, "use_linear_projection": True})
INPAINT = Architecture.of_config({**SD15_CONFIG, "in_channels": 9})


@pytest.fixture(autouse=True)
def loud() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", TransferWarning)
        yield


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("other", [SD21, INPAINT], ids=["sd21", "inpainting"])
def test_between_unets_of_the_same_nodes_nothing_is_lost(name: str, other: Architecture) -> None:
    plan = InheritancePlan(SD15, 50, (STRATEGIES[name].mask(SD15),), Periodic(5), name=name)
    moved = plan.transfer(other)
    assert moved.architecture == other and moved.masks == plan.masks and moved.schedule == plan.schedule
    assert moved.transfer(SD15) == plan and transfer(plan, SD15) is plan


def test_what_the_other_architecture_lacks_is_dropped_and_named() -> None:
    plan = InheritancePlan(
        SD15, 50, (STRATEGIES["CO6"].mask(SD15), Mask.of(["up3.l0.res"])), Periodic(5, switches=(0.5,))
    )
    with pytest.warns(TransferWarning) as caught:
        moved = plan.transfer(SDXL)
    text = str(caught[0].message)
    assert SD15.describe() in text and SDXL.describe() in text and "dn0.l0.attn" in text and "measure it again" in text
    names = set(moved.masks[0].forms)
    assert names == {unit for unit in plan.masks[0].forms if unit in SDXL.by_name} and "mid.attn" in names
    assert len(moved.masks) == 2 and not moved.masks[1]  # its steps extract


def test_kinds_must_agree_too() -> None:
    with pytest.warns(TransferWarning):
        moved = InheritancePlan(SD15, 50, (STRATEGIES["AI"].mask(SD15),), Periodic(5)).transfer(TINY)
    assert set(moved.masks[0].forms) <= {name for name, node in TINY.by_name.items() if node.kind == "attn"}


def test_a_plan_of_which_nothing_is_left_is_refused_naming_both() -> None:
    plan = InheritancePlan(SD15, 50, (STRATEGIES["DC0"].mask(SD15),), Periodic(5))
    with pytest.raises(PlanError, match="nothing that it inherits exists there") as error:
        plan.transfer(SDXL)
    assert SD15.describe() in str(error.value) and SDXL.describe() in str(error.value)


def test_plain_plans_go_anywhere() -> None:
    assert InheritancePlan(SD15, 20).transfer(SDXL) == InheritancePlan(SDXL, 20)


def test_without_being_asked_another_architecture_is_refused_and_the_way_is_named() -> None:
    pipe = sd(in_channels=9)
    plan = strategy("CO3", mode="P3", steps=6, unet=make_unet())
    with pytest.raises(PlanError, match=r"9 input channels.*transfer=True"):
        inherit(pipe, plan)
    with inherit(pipe, plan, transfer=True) as handle:
        assert handle.plan.architecture == Architecture.of(pipe.unet)


def test_a_fine_tune_and_another_resolution_need_no_transfer() -> None:
    tuned = sd()
    with torch.no_grad():
        for parameter in tuned.unet.parameters():
            parameter.mul_(1.01)
    plan = strategy("CO3", mode="P3", steps=6, unet=make_unet())
    with inherit(tuned, plan):
        for side in (64, 96):
            first = Case(sd).run(tuned, height=side, width=64)
            assert torch.equal(Case(sd).run(tuned, height=side, width=64), first) and first.shape[-2] == side // 8


def test_a_transferred_plan_runs_on_sdxl() -> None:
    pipe = sdxl()
    plain = CASES["SDXL"].run(pipe)
    plan = strategy("EX2", mode="P3", steps=6, unet=make_unet())
    with pytest.warns(TransferWarning), inherit(pipe, plan, transfer=True):
        found = CASES["SDXL"].run(pipe)
    assert torch.isfinite(found).all() and not torch.equal(found, plain)
    assert torch.equal(CASES["SDXL"].run(pipe), plain)
