"""Stage `train-unet`: the UNet of SD1.5's topology and the text encoder, trained together on cached latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from recipe.autoencoder import LEGS, latents_of
from recipe.loop import Average, Budget, Training, step_generator
from recipe.muon import Muon
from recipe.prepare import load_dataset
from recipe.team import Loss
from recipe.tensors import load_tensors, save_tensors
from recipe.tokens import LENGTH, encode, train_tokenizer

SEED = 2
WIDTH = 128
CAPTION_DROPOUT = 0.1
MIN_SNR = 5.0
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_unet(channels: tuple[int, ...] = (48, 96, 128, 128), latents: int = 12, size: int = 8) -> Any:
    """SD1.5's topology, 38 units, narrower; two attention heads everywhere. Residual branches start at zero."""
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel(
        sample_size=size,
        in_channels=latents,
        out_channels=latents,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,  # the number of heads, as in SD1.5's configuration
        norm_num_groups=8,
    )
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "proj_out", "conv_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet


def build_text_encoder(tokenizer: Any) -> Any:
    """A stock CLIPTextModel: 128 wide, three layers, four heads."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            pad_token_id=tokenizer.eos_token_id,
            **ids,
        )
    )


def alphas_bar() -> torch.Tensor:
    """Cumulative products of SD's scaled-linear schedule, [1000]."""
    betas = torch.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def stratified(batch: int, generator: torch.Generator) -> torch.Tensor:
    """int64 [batch]: one timestep from each of `batch` equal parts of 0..999, which lowers the loss's variance."""
    return ((torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * 1000).long().clamp(max=999)


def make_loss(
    unet: Any, text: Any, latents: torch.Tensor, tokens: torch.Tensor, empty: torch.Tensor, batch: int
) -> Loss:
    """The v-prediction loss (Salimans and Ho 2022) under min-SNR-5 weights (Hang et al. 2023, v form), by step."""
    alphas = alphas_bar().to(latents.device)
    device = latents.device

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        generator = step_generator(SEED, step)
        # every picture once per round, in a new order each round
        rounds, offset = divmod(step * batch, len(latents))
        perms = [torch.randperm(len(latents), generator=step_generator(SEED + 7, rounds + i)) for i in (0, 1)]
        order = torch.cat(perms)
        while len(order) < offset + batch:
            order = order.repeat(2)
        chosen = order[offset : offset + batch].to(device)
        noise = torch.randn((batch, *latents.shape[1:]), generator=generator).to(device)
        steps = stratified(batch, generator)[torch.randperm(batch, generator=generator)].to(device)
        dropped = (torch.rand(batch, generator=generator) < CAPTION_DROPOUT).to(device)
        snr = alphas[steps] / (1 - alphas[steps])
        weights = snr.clamp(max=MIN_SNR) / (snr + 1)
        weights = (weights / weights.sum())[share]
        chosen, noise, steps, dropped = chosen[share], noise[share], steps[share], dropped[share]
        clean, ids = latents[chosen], torch.where(dropped[:, None], empty, tokens[chosen])
        a = alphas[steps][:, None, None, None]
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * clean
        context = text(ids).last_hidden_state
        made = unet(noisy.contiguous(memory_format=torch.channels_last), steps, context).sample
        errors = (made - target).square().mean((1, 2, 3))
        return {"loss": (weights * errors).sum(), "mse": errors.mean()}

    return loss_of


def cached_latents(work: Path, device: str, leg: str) -> torch.Tensor:
    """Latents of all pictures in the items' order, float32 [N, C, h, w]; made once, kept beside the autoencoder."""
    from diffusers import AutoencoderKL

    path = work / leg / "latents.safetensors"
    if not path.exists():
        model = AutoencoderKL.from_pretrained(work / leg / "model").to(device)
        save_tensors({"latents": latents_of(model, load_dataset(work).pictures.to(device))}, path)
    return load_tensors(path)["latents"].to(device)


def train_unet(
    work: Path,
    budget: Budget,
    device: str = "cpu",
    channels: tuple[int, ...] = (48, 96, 128, 128),
    batch: int = 64,
    rate: float = 1.5e-3,
    leg: str = LEGS[-1],
    workers: int = 1,
) -> Path:
    """Train on the generator's training concepts; the averaged weights go to `work/unet/model`."""
    data = load_dataset(work)
    rows = data.where(split="train")
    latents = cached_latents(work, device, leg)[rows]
    tokenizer = train_tokenizer([item.caption for item in data.items])
    tokens = encode(tokenizer, [data.items[i].caption for i in rows]).to(device)
    empty = encode(tokenizer, [""]).to(device)
    torch.manual_seed(SEED)
    unet = build_unet(channels, latents.shape[1], latents.shape[2]).to(device, memory_format=torch.channels_last)
    text = build_text_encoder(tokenizer).to(device)
    both = nn.ModuleDict({"unet": unet, "text": text})
    parameters = {name: p for name, p in both.named_parameters() if p.requires_grad}
    optimizer = Muon(parameters.values(), rate, decay=0.01)
    training = Training(work / "unet", parameters, optimizer, Average(parameters, 0.998), budget)
    training.resume()
    for _ in training.run(make_loss(unet, text, latents, tokens, empty, batch), rate, 100, workers):
        pass
    return training.folder
