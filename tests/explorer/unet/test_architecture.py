"""The node lists of known UNets, without weights; what is no supported UNet is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture
from tests.architectures import ARCHITECTURES, SD15, SD15_CONFIG, SDXL, SDXL_CONFIG, TINY


def test_sd15_has_58_nodes_and_38_units() -> None:
    assert len(SD15.nodes) == 58
    kinds = [SD15.by_name[unit].kind for unit in SD15.units]
    assert len(kinds) == 38 and kinds.count("res") == 22 and kinds.count("attn") == 16
    assert [len(units) for units in SD15.blocks.values()] == [4, 4, 4, 2, 3, 3, 6, 6, 6]
    assert list(SD15.blocks) == ["dn0", "dn1", "dn2", "dn3", "mid", "up0", "up1", "up2", "up3"]
    assert SD15.units[0] == "dn0.l0.res" and SD15.units[-1] == "up3.l2.attn"
    assert SD15.layers["dn1.l0"] == ("dn1.l0.res", "dn1.l0.attn")
    assert SD15.layers["mid"] == ("mid.res0", "mid.attn", "mid.res1")


def test_skips_of_sd15_are_read_last_in_first_out() -> None:
    skips = [node.inputs[1] for node in SD15.nodes if node.kind == "cat"]
    assert skips == [
        "dn3.l1.res", "dn3.l0.res", "dn2.down", "dn2.l1.attn", "dn2.l0.attn", "dn1.down", "dn1.l1.attn", "dn1.l0.attn",
        "dn0.down", "dn0.l1.attn", "dn0.l0.attn", "conv_in",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_input_is_made_before_it_is_read_and_every_output_is_read(name: str) -> None:
    architecture = ARCHITECTURES[name]
    made = {"sample"}
    for node in architecture.nodes:
        assert set(node.inputs) <= made
        made.add(node.name)
    assert len(architecture.by_name) == len(architecture.nodes)
    read = {name for node in architecture.nodes for name in node.inputs}
    assert made - read == {"out"}


def test_sdxl_has_three_levels_and_deeper_transformers() -> None:
    assert [spec.transformers for spec in SDXL.down] == [0, 2, 10]
    assert [spec.transformers for spec in SDXL.up] == [10, 2, 0]
    assert SDXL.mid_transformers == 10 and SDXL.context == 2048
    assert "dn0.l0.attn" not in SDXL.by_name and "dn1.l0.attn" in SDXL.by_name


@pytest.mark.parametrize(
    ("block", "level"), [("dn0", 0), ("dn3", 3), ("mid", 3), ("up0", 3), ("up3", 0), ("conv_in", 0)]
)
def test_level_counts_halvings(block: str, level: int) -> None:
    assert SD15.level(block) == level


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_json_round_trip_keeps_the_signature(name: str) -> None:
    architecture = ARCHITECTURES[name]
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture and again.signature == architecture.signature


def test_signatures_tell_architectures_apart() -> None:
    assert len({architecture.signature for architecture in ARCHITECTURES.values()}) == len(ARCHITECTURES)
    wider = Architecture.of_config({**SD15_CONFIG, "cross_attention_dim": 1024})
    assert wider.signature != SD15.signature


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"down_block_types": ["AttnDownBlock2D"] * 4}, "AttnDownBlock2D"),
        ({"up_block_types": ["SkipUpBlock2D"] * 4}, "SkipUpBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "UNetMidBlock2DSimpleCrossAttn"),
        ({"dual_cross_attention": True}, "dual_cross_attention"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"resnet_skip_time_act": True}, "resnet_skip_time_act"),
        ({"attention_type": "gated-text-image"}, "GLIGEN"),
        ({"addition_embed_type": "image_hint"}, "image_hint"),
        ({"block_out_channels": [320]}, "cannot be read"),
        ({"cross_attention_dim": None}, "cannot be read"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Architecture.of_config({**SD15_CONFIG, **change})


def test_a_thing_without_a_unet_configuration_is_refused() -> None:
    with pytest.raises(ModelError, match="dict is not a UNet2DConditionModel"):
        Architecture.of({})


def test_per_block_layers_and_reversed_transformers() -> None:
    config = {
        **SDXL_CONFIG, "layers_per_block": [1, 2, 3], "reverse_transformer_layers_per_block": [7, 5, 3],
        "cross_attention_dim": [16, 16, 16],
    }  # fmt: skip
    architecture = Architecture.of_config(config)
    assert [spec.layers for spec in architecture.down] == [1, 2, 3]
    assert [spec.layers for spec in architecture.up] == [4, 3, 2]
    assert [spec.transformers for spec in architecture.up] == [7, 5, 0]
    assert architecture.context == 16


junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)


@given(field=st.sampled_from(list(TINY.to_json())), value=junk)
def test_an_untrusted_architecture_is_read_or_refused(field: str, value: Any) -> None:
    try:
        architecture = Architecture.from_json({**TINY.to_json(), field: value})
    except ModelError:
        return
    assert isinstance(value, int) and len(architecture.nodes) == len(TINY.nodes)


def test_skips_that_do_not_match_are_refused() -> None:
    data = SD15.to_json()
    with pytest.raises(ModelError, match="skips do not match"):
        Architecture.from_json({**data, "up": [*data["up"][:-1], {**data["up"][-1], "layers": 2}]})
