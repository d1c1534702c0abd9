"""Speed-up adapters: their exact start, what they compute, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.errors import ModelError
from explorer.networks.speedup import SpeedUp, cross_attentions
from explorer.networks.speedup_branch import SpeedUpUse
from tests.conftest import make_unet


def trained(unet: Any, seed: int = 3, **use: Any) -> SpeedUp:
    """An adapter that changes something."""
    adapter = SpeedUp.untrained(unet, SpeedUpUse(**use))
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(torch.randn(p.shape, generator=drawn) * 0.1)
    return adapter


def test_the_change_is_as_the_formula_says_and_no_sample_depends_on_its_batch() -> None:
    unet = make_unet("sd1")
    attention = next(iter(cross_attentions(unet).values()))
    branch = trained(unet).branches[0]
    channels, width = attention.to_q.weight.shape[1], attention.to_k.weight.shape[1]
    hidden = torch.randn(3, 5, channels, generator=torch.Generator().manual_seed(1))
    negative = torch.randn(3, 4, width, generator=torch.Generator().manual_seed(2))
    out = torch.randn(3, 5, channels, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = branch(attention, hidden, negative, out, 3.0)
        alone = torch.cat(
            [branch(attention, hidden[i : i + 1], negative[i : i + 1], out[i : i + 1], 3.0) for i in range(3)]
        )
        heads, size = attention.heads, branch.key.weight.shape[0] // attention.heads
        wanted = torch.empty_like(out)
        for i in range(3):
            query = attention.to_q(hidden[i]).reshape(5, heads, size)
            key, value = (part(negative[i]).reshape(4, heads, size) for part in (branch.key, branch.value))
            shares = (torch.einsum("qhd,khd->hqk", query, key) / size**0.5).softmax(-1)
            read = torch.einsum("hqk,khd->qhd", shares, value).reshape(5, -1) @ attention.to_out[0].weight.T
            away = out[i].norm(dim=-1, keepdim=True) * read / read.norm(dim=-1, keepdim=True)
            wanted[i] = out[i] - 2 * (branch.a + 2 * branch.b) * away - 2 * (branch.c + 2 * branch.d)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(alone, found, rtol=1e-6, atol=1e-6)


def test_a_guidance_of_one_changes_nothing() -> None:
    unet = make_unet("sd1")
    attention = next(iter(cross_attentions(unet).values()))
    out = torch.randn(1, 5, attention.to_q.weight.shape[1])
    negative = torch.randn(1, 4, attention.to_k.weight.shape[1])
    assert torch.equal(trained(unet).branches[0](attention, out, negative, out, 1.0), out)


def test_a_saved_adapter_is_read_back_in_half_precision(tmp_path: Path) -> None:
    adapter = trained(make_unet("sdxl"), guidance=2.0, most=5.0, steps=2, spacing="linspace")
    read = SpeedUp.load(adapter.save(tmp_path))
    assert read.use == adapter.use and read.names == adapter.names
    for before, after in zip(adapter.parameters(), read.parameters(), strict=True):
        assert torch.equal(before.half().float(), after) and after.requires_grad


def test_an_adapter_of_another_layout_is_refused() -> None:
    with pytest.raises(ModelError, match="cross-attentions"):
        trained(make_unet("sd1")).check_unet(make_unet("sdxl"))


USE = {"guidance": 2.0, "most": 3.0, "steps": 4, "scheduler": "DDIMScheduler", "spacing": "trailing", "base": None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "explorer-student"}, "no speed-up adapter's document"),
        ({"schema": 9}, "schema"),
        ({"names": []}, "cross-attentions"),
        ({"names": [1]}, "no names"),
        ({"use": {}}, "no speed-up adapter"),
        ({"use": {**USE, "guidance": 9.0}}, "guidance"),
        ({"use": {**USE, "scheduler": "os.system"}}, "scheduler"),
    ],
)  # fmt: skip
def test_a_spoilt_document_is_refused_in_a_sentence(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    trained(make_unet("sd1")).save(tmp_path)
    path = tmp_path / "speedup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=said):
        SpeedUp.load(tmp_path)


def test_spoilt_weights_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no speed-up adapter"):
        SpeedUp.load(tmp_path)
    trained(make_unet("sd1")).save(tmp_path)
    weights = tmp_path / "speedup.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be read"):
        SpeedUp.load(tmp_path)
