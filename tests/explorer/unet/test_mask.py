"""Masks and liveness on SD1.5's node list: what runs, what is read, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.plans.strategies import STRATEGIES
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from tests.architectures import ARCHITECTURES, SD15
from tests.search_spaces.trials import valid_masks


def mask(name: str) -> Mask:
    return STRATEGIES[name].mask(SD15)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_empty_mask_runs_everything(name: str) -> None:
    live = liveness(ARCHITECTURES[name], Mask())
    assert live.run == tuple(node.name for node in ARCHITECTURES[name].nodes)
    assert live.reads == () and live.depends_on_sample


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_residual_inheritance_leaves_every_identity_path_live(name: str) -> None:
    """Eq. 4: with every unit's residual inherited, samplers, skips and the ends still run."""
    architecture = ARCHITECTURES[name]
    live = liveness(architecture, Mask.of(architecture.units))
    assert set(live.run) == {node.name for node in architecture.nodes} - set(architecture.units)
    assert live.reads == tuple((unit, "residual") for unit in architecture.units)
    assert live.depends_on_sample


def test_output_inheritance_frees_everything_upstream_of_it() -> None:
    live = liveness(SD15, mask("DC0"))
    assert live.run == ("conv_in", "up3.l2.cat", "up3.l2.res", "up3.l2.attn", "out")
    assert live.reads == (("up3.l1.attn", "output"),)


def test_deepcache_branch_2_keeps_the_skips_of_the_layers_that_run() -> None:
    live = liveness(SD15, mask("DC2"))
    assert live.reads == (("up2.up", "output"),)
    assert {"dn0.l0.attn", "dn0.l1.attn", "up3.l0.res"} <= set(live.run)
    assert not {"dn0.down", "dn1.l0.res", "mid.attn", "up2.up"} & set(live.run)


def test_encoder_propagation_runs_the_decoder_alone() -> None:
    live = liveness(SD15, mask("EP"))
    assert not [name for name in live.run if name.startswith(("dn", "mid"))]
    assert len([name for name in live.run if name.startswith("up")]) == sum(
        node.block.startswith("up") for node in SD15.nodes
    )
    assert len(live.reads) == 12 and {form for _, form in live.reads} == {"output"}


def test_both_forms_mix_in_one_mask() -> None:
    mixed = Mask.of({"up3.l1.attn": "output", "up3.l2.attn": "residual", "dn0.l0.res": "residual"})
    live = liveness(SD15, mixed)
    assert live.reads == (("up3.l1.attn", "output"), ("up3.l2.attn", "residual"))
    assert mixed.effective(SD15) == Mask.of({"up3.l1.attn": "output", "up3.l2.attn": "residual"})


@pytest.mark.parametrize("node", ["conv_in", "out", "up3.l2.cat", "up3.l2.res", "up3.l2.attn"])
def test_a_mask_that_computes_nothing_new_is_refused(node: str) -> None:
    with pytest.raises(PlanError, match="no longer depends on the current sample"):
        Mask.of([node], "output").check(SD15)


def test_a_sample_that_reaches_the_output_by_one_skip_alone_is_enough() -> None:
    Mask.of(
        [node.name for node in SD15.nodes if node.block.startswith(("dn", "mid", "up0", "up1", "up2"))], "output"
    ).check(SD15)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Mask.of(["dn9.l0.res"]), "unknown unit 'dn9.l0.res'; this architecture has 38 units"),
        (Mask.of({"dn0.l0.res": "sideways"}), "unknown form 'sideways' at dn0.l0.res"),  # type: ignore[dict-item]
        (Mask.of(["dn0.down"]), "dn0.down has no residual branch"),
        (Mask.of(["conv_in"]), "conv_in has no residual branch"),
    ],
)
def test_names_and_forms_are_checked(bad: Mask, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        bad.check(SD15)


def test_order_of_nodes_does_not_matter() -> None:
    assert Mask.of(SD15.units) == Mask.of(reversed(SD15.units)) == Mask.of(dict.fromkeys(SD15.units, "residual"))
    assert len(Mask.of(SD15.units)) == 38 and not Mask()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_effective_masks_compute_the_same_and_are_least(architecture: Architecture, data: st.DataObject) -> None:
    usable = data.draw(valid_masks(architecture))
    live, least = liveness(architecture, usable), usable.effective(architecture)
    assert liveness(architecture, least) == live and least.effective(architecture) == least
    assert set(live.run).isdisjoint(name for name, _ in live.reads)
    for entry in least.entries:
        fewer = Mask(tuple(other for other in least.entries if other != entry))
        assert liveness(architecture, fewer) != live
