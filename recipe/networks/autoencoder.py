"""Stage `train-autoencoder`: 64x64 pictures to whitened latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from explorer.errors import TrainingError
from recipe.commands import stage_command
from recipe.data.items import Dataset
from recipe.data.placing import copies, may_mirror, real_pictures
from recipe.data.prepare import load_dataset
from training.folders import digest, replace_folder
from training.loop import Average, Budget, Training, normal, step_generator, to_device
from training.muon import Muon

SEED = 1
WHITENED = 8000
"""Pictures over which latents are whitened, at most, where there are placings."""
LEGS = ("autoencoder", "autoencoder2")  # work folders; the second leg goes on from the first one's averaged weights


def build_autoencoder(channels: tuple[int, ...] = (16, 32, 64, 128), latents: int = 12) -> Any:
    """A stock AutoencoderKL, one layer a block, no attention; its factor is 2 to the number of levels less one."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def gradient_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """L1 distance of the horizontal and vertical differences: keeps edges sharp."""
    across = (made.diff(dim=-1) - real.diff(dim=-1)).abs().mean()
    down = (made.diff(dim=-2) - real.diff(dim=-2)).abs().mean()
    return across + down


def colour_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """L1 distance of the two colour differences over 4x4 pixels: without it green and purple stay grey for long."""
    error = functional.avg_pool2d(made - real, 4)
    red, green, blue = error.unbind(1)
    return (red - green).abs().mean() + ((red + green) / 2 - blue).abs().mean()


def scaled(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 to float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def load_autoencoder(work: Path, leg: str) -> Any:
    """What `train-autoencoder` wrote. Raises TrainingError where it has not."""
    from diffusers import AutoencoderKL

    folder = work / leg / "model"
    if not (folder / "config.json").is_file():
        raise TrainingError(f"{folder} holds no autoencoder; run `{stage_command('train-autoencoder', work)}`.")
    return AutoencoderKL.from_pretrained(folder, local_files_only=True)


@torch.no_grad()
def latents_of(model: Any, pictures: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """The means of the posteriors, float [N, C, h, w], of uint8 pictures."""
    return torch.cat([model.encode(scaled(p)).latent_dist.mean for p in pictures.split(batch)])


@torch.no_grad()
def whiten(model: Any, pictures: torch.Tensor) -> None:
    """Fold each latent channel's mean and deviation over `pictures` into the 1x1 convolutions around the latents.

    After it the stock pipeline sees latents of mean 0 and deviation 1 with scaling_factor 1; the decoded pictures are
    the same. The posterior's log-variance shifts by the same scale.
    """
    latents = latents_of(model, pictures)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    count = len(mean)
    quant, post = model.quant_conv, model.post_quant_conv
    quant.bias[:count].sub_(mean)
    quant.weight[:count].div_(deviation[:, None, None, None])
    quant.bias[:count].div_(deviation)
    quant.bias[count:].sub_(2 * deviation.log())
    post.bias.add_((post.weight[:, :, 0, 0] * mean).sum(1))
    post.weight.mul_(deviation[None, :, None, None])


@torch.no_grad()
def psnr(model: Any, pictures: torch.Tensor) -> float:
    """Mean PSNR in dB (8-bit range) of pictures encoded and decoded."""
    values = []
    for batch in pictures.split(64):
        made = model.decode(model.encode(scaled(batch)).latent_dist.mean).sample.clamp(-1, 1)
        error = ((made - scaled(batch)) * 127.5).square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error))
    return float(torch.cat(values).mean())


def train_autoencoder(
    work: Path,
    budget: Budget,
    device: str = "cpu",
    channels: tuple[int, ...] = (16, 32, 64, 128),
    latents: int = 12,
    batch: int = 4,
    rate: float = 2e-3,
    leg: str = LEGS[0],
    start: str | None = None,
    placings: int = 0,
) -> str:
    """Train on all pictures but those of the generator's and the judge's held-out concepts, into `work/<leg>/model`;
    gives `leg`.

    Half of every batch is from the generator's training pictures. `start`: the leg whose model it goes on from.
    placings: of every picture, see `recipe.data.placing`; 0 takes the pictures as they are.
    """
    data: Dataset = load_dataset(work)
    known = [i for i, item in enumerate(data.items) if item.split != "held" and item.judge != "held"]
    held = [i for i, item in enumerate(data.items) if item.split == "held"]
    favoured = [n for n, i in enumerate(known) if data.items[i].split == "train"]
    pictures = data.pictures[known].to(device)
    if placings:
        favoured = [copy * len(known) + n for copy in range(placings) for n in favoured]
        pictures = copies(pictures, may_mirror([data.items[i] for i in known]), placings).flatten(0, 1)
    chance = torch.tensor(favoured)
    torch.manual_seed(SEED)
    model = load_autoencoder(work, start) if start else build_autoencoder(channels, latents)
    model = model.to(device)
    parameters = dict(model.named_parameters())
    optimizer = Muon(parameters.values(), rate)
    about = {"data": data.digest, "batch": str(batch), "placings": str(placings)}
    if start:
        about["start"] = digest(work / start / "model")
    training = Training(work / leg, parameters, optimizer, Average(parameters, 0.998), budget, about=about)
    training.resume()

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        generator = step_generator(SEED, step)
        anywhere = torch.randint(len(pictures), (batch - batch // 2,), generator=generator)
        within = torch.randint(len(favoured), (batch // 2,), generator=generator)
        chosen = to_device(torch.cat([anywhere, chance[within]]), pictures.device)
        real = scaled(pictures[chosen])
        posterior = model.encode(real).latent_dist
        noise = normal(posterior.mean.shape, generator, pictures.device, SEED, step)
        made = model.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        l1, l2 = functional.l1_loss(made, real), functional.mse_loss(made, real)
        colour = colour_loss(made, real)
        return {"loss": l1 + l2 + gradient_loss(made, real) + colour + 2e-4 * kl, "l2": l2, "colour": colour, "kl": kl}

    for _ in training.run(loss_of, rate, warm_up=100):
        pass
    training.average.swap()
    whiten(model, pictures[: max(len(known), WHITENED)])
    for stale in (work / leg).glob("latents*.safetensors"):  # by an earlier model
        stale.unlink()
    replace_folder(work / leg / "model", model.save_pretrained)
    quality = psnr(model, real_pictures(data, held, placings > 0).to(device))
    print(f"PSNR on held-out pictures {quality:.2f} dB", flush=True)
    return leg
