"""UNets that others have pruned: BK-SDM, SSD-1B, Segmind-Vega, KOALA. They run by a plan like any other."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, ModelError, inherit, strategy
from explorer.models.loading import load_empty_unet
from explorer.plans.strategies import STRATEGIES
from explorer.timing.anatomy import Anatomy, anatomy
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.architectures import SD15, SD15_CONFIG, SMALL_CONFIG, SSD1B, SSD1B_CONFIG
from tests.conftest import PRUNED, make_unet
from tests.explorer.tiny_pipelines import controlnet, sd
from tests.explorer.unet.test_program import call, two_step

# Millions of parameters as published, and of BK-SDM the GMACs at 64x64 latents.
PUBLISHED = {
    "bk-sdm-base": (579.38, 261.5), "bk-sdm-small": (482.35, 255.4), "bk-sdm-tiny": (323.38, 242.8),
    "ssd-1b": (1331, None), "segmind-vega": (745, None), "koala-700m": (782, None), "koala-1b": (1161, None),
}  # fmt: skip


@cache
def costs_of(name: str) -> Anatomy:
    """The true network's, which is built without data."""
    return anatomy(load_empty_unet(f"arch:{name}"), 64)


@pytest.mark.parametrize("name", PRUNED)
def test_parameters_and_macs_are_those_published(name: str) -> None:
    found = costs_of(name)
    parameters, gmacs = PUBLISHED[name]
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=1 if gmacs is None else 0.005)  # some are cut off
    assert gmacs is None or round(found.macs / 1e9, 1) == gmacs
    assert Anatomy.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_a_plan_that_always_extracts_is_the_stock_unet_to_the_bit(name: str, size: tuple[int, int]) -> None:
    unet = make_unet(name)
    expected = call(unet, size=size)
    with inherit(unet, InheritancePlan(Architecture.of(unet), 2)) as handle:
        handle.begin(2)
        assert all(torch.equal(call(unet, size=size), expected) for _ in range(2))
    assert torch.equal(call(unet, size=size), expected)


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.parametrize("spelled", ["DC0/P3", "CO2/P3", "EP/P2"])
def test_a_plan_runs_and_its_first_step_is_the_stock_unet_s(name: str, spelled: str) -> None:
    unet = make_unet(name)
    plan = strategy(spelled, steps=3, unet=unet)
    stock = [call(unet, seed) for seed in range(2)]
    with inherit(unet, plan) as handle:
        handle.begin(3)
        found = [call(unet, seed) for seed in range(2)]
    assert torch.equal(found[0], stock[0])
    assert torch.isfinite(found[1]).all() and not torch.equal(found[1], stock[1])


@pytest.mark.parametrize("name", PRUNED)
def test_every_strategy_names_nodes_of_it_and_leaves_less_to_do(name: str) -> None:
    costs = costs_of(name)
    for entry in STRATEGIES.values():
        mask = entry.mask(costs.architecture)
        mask.check(costs.architecture)
        assert 0 < costs.share(mask) < 1, entry.name


@pytest.mark.parametrize("name", PRUNED)
def test_a_control_network_of_its_own_layout_is_applied_as_by_diffusers(name: str) -> None:
    unet = make_unet(name)
    if unet.config.addition_embed_type or unet.config.mid_block_type is None:  # ControlNetModel.from_unet takes neither
        residuals = _residuals(Architecture.of(unet))
    else:
        net = controlnet(unet)
        with torch.no_grad():
            down, mid = net(torch.randn(2, 4, 16, 16), 500, torch.randn(2, 7, 16), torch.rand(2, 3, 128, 128),
                            return_dict=False)  # fmt: skip
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    expected = call(unet, **residuals)
    assert not torch.equal(expected, call(unet))
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        assert torch.equal(call(unet, **residuals), expected)


@pytest.mark.parametrize("name", ["bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"])
def test_features_of_a_t2i_adapter_are_applied_as_by_diffusers(name: str) -> None:
    """An adapter of SD 1.5 has four features. BK-SDM-Tiny has three levels and no mid block to take the last."""
    unet = make_unet(name)
    draw = torch.Generator().manual_seed(4)
    features = [
        torch.randn(2, channels, side, side, generator=draw) for channels, side in ((16, 16), (32, 8), (32, 4), (32, 2))
    ]
    expected = call(unet, down_intrablock_additional_residuals=[each.clone() for each in features])
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        assert torch.equal(call(unet, down_intrablock_additional_residuals=features), expected)


def test_bk_sdm_of_sd_2_1_is_read_as_well() -> None:
    unet = make_unet(
        "bk-sdm-tiny", use_linear_projection=True, upcast_attention=True, attention_head_dim=(2, 2, 4)
    )  # fmt: skip
    expected = call(unet)
    with inherit(unet, strategy("DC0/P2", steps=2, unet=unet)) as handle:
        handle.begin(2)
        assert torch.equal(call(unet), expected) and torch.isfinite(call(unet)).all()


def _residuals(architecture: Architecture, seed: int = 3) -> dict[str, Any]:
    """Random residuals of a control network, for a batch of 2 at 16x16."""
    draw = torch.Generator().manual_seed(seed)

    def make(name: str, channels: int) -> torch.Tensor:
        node = architecture.by_name[name]
        side = 16 // 2 ** (architecture.level(node.block) + (node.kind == "down"))
        return torch.randn(2, channels, side, side, generator=draw)

    down = tuple(map(make, architecture.skips, architecture.skip_channels))
    return {
        "down_block_additional_residuals": down,
        "mid_block_additional_residual": make(architecture.bottom, architecture.down[-1].channels),
    }


def test_residuals_of_another_layout_are_refused_and_not_shifted() -> None:
    teacher, unet = make_unet(), make_unet("bk-sdm-base")
    residuals = _residuals(Architecture.of(teacher))
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        with pytest.raises(ModelError, match="gives 12 residuals, and this UNet has 8 skips"):
            call(unet, **residuals)


@pytest.mark.parametrize("networks", [1, 2])
def test_a_pipeline_with_a_control_network_of_another_layout_is_refused_before_it_runs(networks: int) -> None:
    def others(_: Any) -> dict[str, Any]:
        nets = [controlnet(make_unet(), seed) for seed in range(networks)]
        return {"controlnet": nets if networks > 1 else nets[0]}

    pipe = sd("StableDiffusionControlNetPipeline", more=others, layers_per_block=1)
    with pytest.raises(ModelError, match=r"the pipeline's ControlNetModel was .* gives 12 residuals.* has 8 skips"):
        inherit(pipe, strategy("DC0/P3", steps=4, unet=pipe.unet))
    assert "forward" not in pipe.unet.__dict__
    wide = sd("StableDiffusionControlNetPipeline", block_out_channels=(16, 16, 32, 32),
              more=lambda _: {"controlnet": controlnet(make_unet())})  # fmt: skip
    with pytest.raises(ModelError, match=r"gives 32 channels for dn1\.l0\.attn, which has 16"):
        inherit(wide, strategy("DC0/P3", steps=4, unet=wide.unet))


def test_the_nodes_of_bk_sdm_small_are_its_own() -> None:
    small = Architecture.of_config(SMALL_CONFIG)
    assert small.mid_res == 0 and "mid" not in small.blocks and small.bottom == "dn3.l0.res"
    assert small.skips == (
        "conv_in", "dn0.l0.attn", "dn0.down", "dn1.l0.attn", "dn1.down", "dn2.l0.attn", "dn2.down", "dn3.l0.res"
    )  # fmt: skip
    assert small.skip_channels == (320, 320, 320, 640, 640, 1280, 1280, 1280)
    assert small.by_name["up0.l0.cat"].inputs == ("dn3.l0.res", "dn3.l0.res")
    assert STRATEGIES["EX1"].mask(small) == Mask.of([*small.blocks["dn3"], *small.blocks["up0"]])


def test_ssd_1b_has_a_depth_for_each_layer() -> None:
    assert [spec.transformers for spec in SSD1B.down] == [0, 2, 4]
    assert [spec.transformers for spec in SSD1B.up] == [(4, 4, 10), (2, 1, 1), 0]
    assert SSD1B.layers["mid"] == ("mid.res0",) and SSD1B.mid_transformers == 0
    assert Architecture.from_json(json.loads(json.dumps(SSD1B.to_json()))) == SSD1B
    blocks = make_unet("ssd-1b").up_blocks
    assert [len(each.transformer_blocks) for each in blocks[0].attentions] == [4, 4, 10]


def test_signatures_of_earlier_versions_hold() -> None:
    """Plans, profiles and studies on disk name an architecture by it."""
    assert "mid_res" not in SD15.to_json() and SD15.signature == "0d127412b70f"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, r"known mid blocks: .*UNetMidBlock2D, or none \(null\)"),
        (
            {"transformer_layers_per_block": [1, [2, 0], [4, 4]]},
            "CrossAttnDownBlock2D with 0 transformer blocks a layer",
        ),
        ({"reverse_transformer_layers_per_block": [[4, 4], [2, 1, 1], 1]}, "cannot be read"),
        ({"layers_per_block": [2, 2]}, "cannot be read"),
        ({"transformer_layers_per_block": "deep"}, "cannot be read"),
    ],
)
def test_what_diffusers_would_build_otherwise_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Architecture.of_config({**SSD1B_CONFIG, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mid_res": 1}, "attention between 2 ResUnits"),
        ({"mid_transformers": 0}, "attention between 2 ResUnits"),
        ({"mid_res": 3}, "from 0 to 2"),
        ({"mid_res": None}, "from 0 to 2"),
        ({"down": [{"channels": 8, "layers": 2, "transformers": [1]}]}, "transformer blocks of 2 layers"),
        ({"down": [{"channels": 8, "layers": 2, "transformers": [0, 1]}]}, "from 1 to 64"),
    ],
)
def test_an_untrusted_layout_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Architecture.from_json({**SD15.to_json(), **change})


def test_a_unet_that_its_configuration_does_not_describe_is_refused() -> None:
    """Scripts that prune a UNet in place leave its configuration behind."""
    unet = make_unet()
    del unet.up_blocks[0].resnets[2]
    with pytest.raises(ModelError, match=r"lacks up0\.l2\."):
        inherit(unet, InheritancePlan(Architecture.of_config(unet.config), 1))
    unet = make_unet("bk-sdm-base")
    unet.register_to_config(mid_block_type=None)
    with pytest.raises(ModelError, match=r"has mid\.res0, which its configuration does not name"):
        inherit(unet, InheritancePlan(Architecture.of_config(unet.config), 1))


def test_layers_of_each_block_are_read_from_a_list() -> None:
    """M2 of A-SDM."""
    m2 = Architecture.of_config({**SD15_CONFIG, "layers_per_block": [1, 1, 2, 2]})
    assert [spec.layers for spec in m2.up] == [3, 3, 2, 2]
    unet = make_unet(layers_per_block=(1, 1, 2, 2))
    expected = call(unet)
    with inherit(unet, two_step(Architecture.of(unet), Mask.of(["up3.l1.res"]))) as handle:
        handle.begin(2)
        assert torch.equal(call(unet), expected)
