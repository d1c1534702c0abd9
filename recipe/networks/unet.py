"""Stage `train-unet`: the UNet of SD1.5's topology and the text encoder, trained together on cached latents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.errors import TrainingError
from recipe.data.captions import draw_levels, numbered
from recipe.data.placing import copy, copy_numbers, may_mirror
from recipe.data.prepare import load_dataset
from recipe.data.tokens import LENGTH, encode, load_tokenizer, numbering
from recipe.networks.autoencoder import LEGS, latents_of, load_autoencoder
from recipe.networks.faster import quicker
from training.folders import digest
from training.loop import Average, Budget, Training, normal, step_generator, to_device
from training.muon import Muon
from training.team import Loss
from training.tensors import load_tensors, save_tensors

SEED = 2
WIDTH = 128
CAPTION_DROPOUT = 0.1
MIN_SNR = 5.0
PREDICTIONS = ("epsilon", "v_prediction")
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


def target_of(prediction: str, clean: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """What the UNet learns to give: the noise (Ho et al. 2020), or the velocity (Salimans and Ho 2022)."""
    return noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean


def weights_of(prediction: str, snr: torch.Tensor) -> torch.Tensor:
    """Min-SNR-5 weights of the timesteps (Hang et al. 2023), in the form that fits what is predicted."""
    return snr.clamp(max=MIN_SNR) / (snr if prediction == "epsilon" else snr + 1)


def make_loss(
    unet: Any,
    text: Any,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    captions: torch.Tensor,
    empty: torch.Tensor,
    batch: int,
    prediction: str = "v_prediction",
    half: bool = False,
) -> Loss:
    """The loss of a prediction under its min-SNR weights, by step.

    Args:
        unet: Predicts; its input is in the channels-last format.
        text: The text encoder.
        latents: [copies, N, C, h, w]; every sample takes one copy.
        tokens: int64 [texts, length]: the captions.
        captions: int64 [N, levels]: the captions of each picture, of which every sample takes one. With one copy of a
            picture it is the full caption, the first.
        empty: int64 [1, length]: the empty caption, which replaces `CAPTION_DROPOUT` of the captions.
        batch: Samples of a step.
        prediction: One of `PREDICTIONS`.
        half: Compute in bfloat16 where it is safe.
    """
    device = latents.device
    alphas = alphas_bar().to(device)
    copies, count = latents.shape[:2]

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        generator = step_generator(SEED, step)
        # every picture once per round, in a new order each round
        rounds, offset = divmod(step * batch, count)
        perms = [torch.randperm(count, generator=step_generator(SEED + 7, rounds + i)) for i in (0, 1)]
        order = torch.cat(perms)
        while len(order) < offset + batch:
            order = order.repeat(2)
        picked = order[offset : offset + batch]
        chosen = to_device(picked, device)
        which = to_device(copy_numbers(copies, batch, SEED, step), device)
        noise = normal((batch, *latents.shape[2:]), generator, device, SEED, step)
        steps = to_device(stratified(batch, generator)[torch.randperm(batch, generator=generator)], device)
        dropped = to_device(torch.rand(batch, generator=generator) < CAPTION_DROPOUT, device)
        level = draw_levels(batch, generator) if copies > 1 else torch.zeros(batch, dtype=torch.long)
        drawn = to_device(captions[picked, level], device)
        weights = weights_of(prediction, alphas[steps] / (1 - alphas[steps]))
        weights = (weights / weights.sum())[share]
        chosen, which, noise, steps, dropped, drawn = (x[share] for x in (chosen, which, noise, steps, dropped, drawn))
        clean, ids = latents[which, chosen].float(), torch.where(dropped[:, None], empty, tokens[drawn])
        a = alphas[steps][:, None, None, None]
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            context = text(ids).last_hidden_state
            made = unet(noisy.contiguous(memory_format=torch.channels_last), steps, context).sample
        errors = (made.float() - target_of(prediction, clean, noise, a)).square().mean((1, 2, 3))
        return {"loss": (weights * errors).sum(), "mse": errors.mean()}

    return loss_of


def cached_latents(work: Path, device: str, leg: str) -> torch.Tensor:
    """Latents of all pictures in the items' order, float32 [N, C, h, w]; made once, kept beside the autoencoder."""
    path = work / leg / "latents.safetensors"
    if not path.exists():
        model = load_autoencoder(work, leg).to(device)
        save_tensors({"latents": latents_of(model, load_dataset(work).pictures.to(device))}, path)
    return load_tensors(path)["latents"].to(device)


def latent_bank(work: Path, rows: list[int], placings: int, device: str, leg: str) -> torch.Tensor:
    """Latents of the pictures of `rows`, [copies, len(rows), C, h, w]: one copy of each as it is, or `placings` of each
    in half precision, made in pixels. Made once, kept beside the autoencoder."""
    if not placings:
        return cached_latents(work, device, leg)[rows][None]
    chosen = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]
    path = work / leg / f"latents-{placings}-{chosen}.safetensors"
    if not path.exists():
        data = load_dataset(work)
        mirror = may_mirror([data.items[i] for i in rows])
        pictures = data.pictures[rows].to(device)
        model = load_autoencoder(work, leg).to(device)
        bank = [latents_of(model, copy(pictures, mirror, k), batch=512).half().cpu() for k in range(placings)]
        save_tensors({"latents": torch.stack(bank)}, path)
    return load_tensors(path)["latents"].to(device)


@dataclass(frozen=True)
class Fast:
    """What a GPU trains faster with. half: bfloat16 where it is safe. compile_seconds: how long the compiler may take,
    0 to do without; what it gives is used where it measures faster."""

    half: bool = False
    compile_seconds: float = 0.0


def train_unet(
    work: Path,
    budget: Budget,
    device: str = "cpu",
    channels: tuple[int, ...] = (48, 96, 128, 128),
    batch: int = 64,
    rate: float = 1.5e-3,
    leg: str = LEGS[-1],
    workers: int = 1,
    *,
    prediction: str = "v_prediction",
    placings: int = 0,
    decay: float = 0.998,
    fast: Fast | None = None,
    stop_at: float | None = None,
    on_save: Callable[[], None] = lambda: None,
) -> Training:
    """Train on the generator's training concepts; the averaged weights lie in the checkpoint of `work/unet`.

    placings: of every picture, see `recipe.data.placing`; 0 takes the pictures as they are. decay: of the average.
    stop_at, on_save: as in `Training`.

    Raises:
        TrainingError: for another prediction than those of `PREDICTIONS`, more than one worker on a GPU, or a
            checkpoint of another training.
    """
    if prediction not in PREDICTIONS:
        raise TrainingError(f"unknown prediction {prediction!r}; use one of {', '.join(PREDICTIONS)}.")
    if workers > 1 and device != "cpu":
        raise TrainingError(f"several workers train on a CPU alone, got {workers} on {device}; leave out --workers.")
    data = load_dataset(work)
    rows = data.where(split="train")
    latents = latent_bank(work, rows, placings, device, leg)
    tokenizer = load_tokenizer(work)
    texts, captions = numbered([data.items[i] for i in rows])
    tokens = encode(tokenizer, texts).to(device)
    empty = encode(tokenizer, [""]).to(device)
    torch.manual_seed(SEED)
    unet = build_unet(channels, latents.shape[2], latents.shape[3]).to(device, memory_format=torch.channels_last)
    text = build_text_encoder(tokenizer).to(device)
    both = nn.ModuleDict({"unet": unet, "text": text})
    parameters = {name: p for name, p in both.named_parameters() if p.requires_grad}
    optimizer = Muon(parameters.values(), rate, decay=0.01)
    about = {"prediction": prediction, "tokens": numbering(tokenizer), "data": data.digest, "batch": str(batch)}
    about |= {"placings": str(placings), "autoencoder": digest(work / leg / "model")}
    training = Training(
        work / "unet", parameters, optimizer, Average(parameters, decay), budget,
        stop_at=stop_at, on_save=on_save, about=about,
    )  # fmt: skip
    training.resume()
    fast = fast or Fast()

    def loss_by(model: Any) -> Loss:
        return make_loss(model, text, latents, tokens, captions, empty, batch, prediction, fast.half)

    loss = quicker(unet, loss_by, training, fast.compile_seconds) if fast.compile_seconds else loss_by(unet)
    for _ in training.run(loss, rate, 100, workers):
        pass
    return training
