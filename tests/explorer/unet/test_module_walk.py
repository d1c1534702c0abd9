"""The modules are walked once, and anew whenever the tree has changed: nothing that a run looks at is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from explorer import InheritancePlan, ModelError, inherit
from explorer.unet.architecture import Architecture
from explorer.unet.module_walk import ModuleWalk
from tests.conftest import make_unet
from tests.explorer.runtime.carried import with_ip_adapter, with_lora
from tests.explorer.unet.test_program import call


class Halved(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def exchange(unet: Any) -> None:
    unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q = nn.Linear(32, 32, bias=False)


def take_out(unet: Any) -> None:
    del unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[1]


def parametrize(unet: Any) -> None:
    nn.utils.parametrize.register_parametrization(unet.down_blocks[0].resnets[0].conv1, "weight", Halved())


@pytest.mark.parametrize("change", [exchange, take_out, parametrize, with_lora, with_ip_adapter])
def test_a_changed_tree_is_walked_anew(change: Callable[[Any], object]) -> None:
    unet = make_unet()
    walk = ModuleWalk(unet)
    assert walk.is_current() and walk.modules == list(unet.modules())
    change(unet)
    assert not walk.is_current()
    assert ModuleWalk(unet).is_current()


def new_tensor(unet: Any) -> None:
    unet.mid_block.resnets[0].conv1.weight.data = unet.mid_block.resnets[0].conv1.weight.data.clone()


def new_parameter(unet: Any) -> None:
    unet.conv_out.bias = nn.Parameter(torch.ones(4))


def new_buffer(unet: Any) -> None:
    unet.mid_block.register_buffer("mean", torch.zeros(1))


def new_processor(unet: Any) -> None:
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(AttnProcessor())


def new_scale(unet: Any) -> None:
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor.scale = 0.5


@pytest.mark.parametrize("change", [new_tensor, new_parameter, new_buffer, new_processor, new_scale])
def test_a_changed_identity_is_seen_on_the_same_tree(change: Callable[[Any], object]) -> None:
    unet = make_unet()
    walk = ModuleWalk(unet)
    before = walk.identity()
    assert walk.identity() == before
    change(unet)
    assert walk.is_current() and walk.identity() != before


def test_a_processor_in_the_place_of_one_that_is_gone_is_another() -> None:
    """Objects are told apart by themselves: an address is given out again."""
    unet = make_unet()
    walk = ModuleWalk(unet)
    for _ in range(8):
        before = walk.identity()
        for _ in range(2):  # the second may lie where the one before the first lay
            unet.set_attn_processor(AttnProcessor2_0())
        assert walk.identity() != before


def test_a_run_on_the_same_tree_does_not_walk_it(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    original = nn.Module.named_modules

    def counted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self is unet:
            walks.append(self)
        return original(self, *args, **kwargs)

    unet = make_unet()
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        monkeypatch.setattr(nn.Module, "named_modules", counted)
        for _ in range(3):
            handle.begin(1)
            call(unet)
        assert not walks
        exchange(unet)
        handle.begin(1)
        assert walks


def test_what_is_put_on_an_exchanged_module_is_refused() -> None:
    unet = make_unet()
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        expected = call(unet)
        unet.mid_block.resnets[0] = make_unet().mid_block.resnets[0].requires_grad_(False)
        hook = unet.mid_block.resnets[0].register_forward_hook(lambda *_: None)
        for _ in range(2):  # a refusal is no look that counts
            with pytest.raises(ModelError, match=r"mid_block\.resnets\.0 has forward hooks"):
                handle.begin(1)
        hook.remove()
        nn.init.zeros_(unet.mid_block.resnets[0].conv2.weight)
        handle.begin(1)
        found = call(unet)
    assert torch.equal(found, call(unet)) and not torch.equal(found, expected)
