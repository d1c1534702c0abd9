"""What pipelines carry: control networks, adapters, processors and offloading, put on a tiny UNet."""

from __future__ import annotations

from typing import Any

import diffusers
import torch


def residuals(unet: Any, scale: float = 0.1) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    controlnet = diffusers.ControlNetModel.from_unet(unet)
    torch.manual_seed(5)
    for block in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(block.weight, std=scale)
    with torch.no_grad():
        down, mid = controlnet(torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 7, 16),
                               torch.rand(2, 3, 128, 128), return_dict=False)  # fmt: skip
    return tuple(down), mid


def adapter_features(unet: Any) -> list[torch.Tensor]:
    torch.manual_seed(6)
    channels = unet.config.block_out_channels
    sizes = [16, 8, 4, 2]
    return [torch.randn(2, c, s, s) * 0.3 for c, s in zip(channels, sizes, strict=True)]


def with_controlnet(unet: Any) -> dict[str, Any]:
    down, mid = residuals(unet)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


def with_lora(unet: Any) -> dict[str, Any]:
    from peft import LoraConfig

    torch.manual_seed(7)
    unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=["to_q", "to_v", "conv1"])
    )
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return {"cross_attention_kwargs": {"scale": 0.5}}


def with_ip_adapter(unet: Any) -> dict[str, Any]:
    width = unet.config.cross_attention_dim
    torch.manual_seed(8)
    keys: dict[str, torch.Tensor] = {}
    index = 1
    for name in unet.attn_processors:
        if "attn2" in name:
            block = unet.get_submodule(name.removesuffix(".processor"))
            keys[f"{index}.to_k_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            keys[f"{index}.to_v_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            index += 2
    projection = {"proj.weight": torch.randn(4 * width, 10), "proj.bias": torch.zeros(4 * width),
                  "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}  # fmt: skip
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys}], low_cpu_mem_usage=False)
    return {"added_cond_kwargs": {"image_embeds": [torch.randn(2, 1, 10)]}}


def with_processor(unet: Any) -> dict[str, Any]:
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())
    return {}


def with_sliced_attention(unet: Any) -> dict[str, Any]:
    unet.set_attention_slice(1)
    return {}


def with_sequential_offload(unet: Any) -> dict[str, Any]:
    from accelerate import cpu_offload

    cpu_offload(unet, execution_device=torch.device("cpu"))
    return {}


def with_model_offload(unet: Any) -> dict[str, Any]:
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(unet, execution_device=torch.device("cpu"))
    return {}


CARRIED = {
    "controlnet": with_controlnet,
    "t2i-adapter": lambda unet: {"down_intrablock_additional_residuals": adapter_features(unet)},
    "t2i-adapter, older form": lambda unet: {"down_block_additional_residuals": adapter_features(unet)},
    "lora": with_lora,
    "ip-adapter": with_ip_adapter,
    "attention processor": with_processor,
    "sliced attention": with_sliced_attention,
    "sequential offload": with_sequential_offload,
    "model offload": with_model_offload,
    "attention masks": lambda _: {"encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])},
}
