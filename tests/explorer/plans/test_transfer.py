"""Plans on other models: what is carried over by name, what is dropped with a warning, what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.networks.removals import named_removal
from explorer.plans.schedule import Periodic
from explorer.plans.strategies import STRATEGIES
from explorer.plans.transfer import TransferWarning, transfer
from explorer.unet.architecture import Architecture
from explorer.unet.counterparts import counterparts, stand_in
from explorer.unet.mask import Mask
from tests.architectures import BK_TINY, SD15, SD15_CONFIG, SDXL, SMALL_CONFIG, TINY
from tests.conftest import make_unet
from tests.explorer.tiny_pipelines import CASES, Case, sd, sdxl

SD21 = Architecture.of_config({**SD15_CONFIG, "cross_attention_dim": 1024, "use_linear_projection": True})
BASE = Architecture.of_config({**SD15_CONFIG, "layers_per_block": 1})
SMALL = Architecture.of_config(SMALL_CONFIG)
M2 = Architecture.of_config({**SD15_CONFIG, "layers_per_block": [1, 1, 2, 2]})
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


def one_mask(architecture: Architecture, mask: Mask) -> InheritancePlan:
    return InheritancePlan(architecture, 50, (mask,), Periodic(5))


@pytest.mark.parametrize(
    ("other", "ours", "theirs"),
    [
        (BASE, "dn1.l0.attn", "dn1.l0.attn"), (BASE, "up1.l0.attn", "up1.l0.attn"),
        (BASE, "up1.l2.attn", "up1.l1.attn"), (BASE, "up3.l2.res", "up3.l1.res"), (BASE, "mid.attn", "mid.attn"),
        (M2, "up1.l1.attn", "up1.l1.attn"), (M2, "up2.l2.res", "up2.l1.res"), (BK_TINY, "up1.l2.attn", "up0.l1.attn"),
        (BK_TINY, "dn2.l0.res", "dn2.l0.res"), (BK_TINY, "up3.l0.res", "up2.l0.res"),
    ],
)  # fmt: skip
def test_nodes_of_a_pruned_unet_are_mapped_and_back(other: Architecture, ours: str, theirs: str) -> None:
    """Its up blocks' second pair is the teacher's third, and Tiny's up0 the teacher's up1."""
    plan = one_mask(SD15, Mask.of([ours]))
    moved = plan.transfer(other)
    assert moved.masks == (Mask.of([theirs]),)
    assert moved.transfer(SD15) == plan


@pytest.mark.parametrize("other", [BASE, M2, SMALL, BK_TINY], ids=["base", "m2", "small", "tiny"])
def test_each_node_of_a_pruned_unet_reads_the_same_skip_as_its_counterpart(other: Architecture) -> None:
    pairs = counterparts(SD15, other)
    assert set(pairs.values()) == set(other.by_name)
    back = counterparts(other, SD15)
    assert {theirs: ours for ours, theirs in pairs.items()} == back
    for ours, theirs in pairs.items():
        if other.by_name[theirs].kind == "cat":
            assert [stand_in(SD15, pairs, name) for name in SD15.by_name[ours].inputs] == list(
                other.by_name[theirs].inputs
            )


@pytest.mark.parametrize("name", ["DC0", "DC1", "EP"])
@pytest.mark.parametrize("other", [BASE, SMALL, BK_TINY], ids=["base", "small", "tiny"])
def test_the_output_of_a_removed_node_is_that_of_the_node_before_it(name: str, other: Architecture) -> None:
    """Encoder propagation inherits the mid block's output, and BK-SDM-Small has none; DC0 that of a removed layer."""
    moved = one_mask(SD15, STRATEGIES[name].mask(SD15)).transfer(other)
    # DC1 inherits what the removed layer reads, which is what DC0 inherits now.
    expected = "DC0" if name == "DC1" else name
    assert moved.masks == (STRATEGIES[expected].mask(other),)


def test_removed_units_are_dropped_and_named() -> None:
    with pytest.warns(TransferWarning, match=r"8 of 14 nodes of its masks have no counterpart.*dn0\.l1\.res"):
        moved = one_mask(SD15, STRATEGIES["LI1"].mask(SD15)).transfer(M2)
    assert " ".join(moved.masks[0].forms) == "dn2.l1.attn dn2.l1.res dn3.l1.res up0.l1.res up1.l1.attn up1.l1.res"


def test_what_a_pruned_unet_lacks_needs_no_removing() -> None:
    m1 = Architecture.of_config({**SD15_CONFIG, "layers_per_block": [1, 2, 2, 2]})
    removed = named_removal("M2", SD15)
    assert one_mask(SD15, removed).transfer(M2).masks == (Mask(),)
    left = one_mask(SD15, removed).transfer(m1).masks[0]
    assert left == Mask.of([name for name, _ in removed.entries if name[:3] in ("dn1", "up2")], "bypass")
    both = {**removed.forms, "up3.l2.res": "residual", "dn3.l1.res": "residual"}
    with pytest.warns(TransferWarning, match=r"1 of 12 nodes of its masks .*left out: dn3\.l1\.res"):
        moved = one_mask(SD15, Mask.of(both)).transfer(BASE)
    assert moved.masks == (Mask.of(["up3.l1.res"]),)


def test_a_middle_layer_is_not_guessed() -> None:
    """Which of three layers of a down block a pruned one kept beside the first cannot be known."""
    three, two = (Architecture.of_config({**SD15_CONFIG, "layers_per_block": n}) for n in (3, 2))
    pairs = counterparts(three, two)
    assert "dn1.l0.res" in pairs and "dn1.l1.res" not in pairs and "dn1.l2.res" not in pairs
    assert pairs["up1.l3.res"] == "up1.l2.res" and "up1.l1.res" not in pairs and "up1.l2.res" not in pairs
    with pytest.raises(PlanError, match="nothing that it inherits exists there"):
        one_mask(three, Mask.of(["up1.l2.res"])).transfer(two)


def test_a_plan_of_the_teacher_runs_on_a_pruned_pipeline_as_its_own() -> None:
    pipe = sd(layers_per_block=1)
    own = strategy("DC0", mode="P3", steps=6, unet=pipe.unet)
    teacher = strategy("DC0", mode="P3", steps=6, unet=make_unet())
    with inherit(pipe, own):
        expected = Case(sd).run(pipe)
    with inherit(pipe, teacher, transfer=True) as handle:
        assert handle.plan.masks == own.masks
        assert torch.equal(Case(sd).run(pipe), expected)
