"""Stage `train-clip`: the judge, a small CLIP model in open_clip's own format, trained with another seed and split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from recipe.data.captions import draw_levels, fits, numbered
from recipe.data.placing import copies, copy_numbers, may_mirror
from recipe.data.prepare import SIZE, load_dataset
from recipe.data.tokens import LENGTH, encode, load_tokenizer, numbering
from training.folders import replace_folder
from training.loop import Average, Budget, Training, normal, step_generator, to_device
from training.muon import Muon
from training.tensors import save_tensors

SEED = 3
MEAN = STD = (0.5, 0.5, 0.5)


def clip_config(vocabulary: int, width: int = 16, layers: tuple[int, ...] = (1, 2, 2, 1)) -> dict[str, Any]:
    """open_clip's JSON configuration: its ModifiedResNet and text transformer, small, at 64 pixels and 16 tokens."""
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": SIZE, "layers": list(layers), "width": width, "patch_size": None},
            "text_cfg": {
                "context_length": LENGTH,
                "vocab_size": vocabulary,
                "width": 128,
                "heads": 4,
                "layers": 3,
                # open_clip reads the tokenizer from the model's own folder whenever this is set
                "hf_tokenizer_name": "emojiclip",
            },
        },
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "size": [SIZE, SIZE],
        },
    }


def build_clip(config: dict[str, Any]) -> Any:
    """The open_clip model of a configuration, with random weights."""
    from open_clip.model import CLIP

    model = config["model_cfg"]
    return CLIP(model["embed_dim"], dict(model["vision_cfg"]), dict(model["text_cfg"]))


def augment(pictures: torch.Tensor, generator: torch.Generator, step: int = 0) -> torch.Tensor:
    """Float [N, 3, 64, 64] in [-1, 1]: small shifts, turns, sizes, blur, colour and noise, so that the judge reads what
    a picture shows and not its exact pixels."""
    count, device = len(pictures), pictures.device

    def random(low: float, high: float, *shape: int) -> torch.Tensor:
        return to_device(low + (high - low) * torch.rand(count, *shape, generator=generator), device)

    angle, size, shift = random(-0.25, 0.25), random(0.85, 1.25), random(-0.15, 0.15, 2)
    turn = torch.stack(
        [
            torch.stack([angle.cos() * size, -angle.sin() * size, shift[:, 0]], 1),
            torch.stack([angle.sin() * size, angle.cos() * size, shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(turn, list(pictures.shape), align_corners=False)
    # the outside of a picture is white: sample its distance from white, which is zero there
    moved = functional.grid_sample(pictures - 1, grid, align_corners=False) + 1
    blurred = functional.avg_pool2d(moved, 3, 1, 1, count_include_pad=False)
    blur = random(0, 1, 1, 1, 1)
    mixed = moved + blur * (blurred - moved)
    gain, noise = random(0.85, 1.1, 3, 1, 1), random(0, 0.08, 1, 1, 1)
    coloured = 1 - (1 - mixed) * gain
    grain = normal(coloured.shape, generator, device, SEED, step)
    return (coloured + noise * grain).clamp(-1, 1)


def train_clip(
    work: Path,
    budget: Budget,
    device: str = "cpu",
    width: int = 16,
    layers: tuple[int, ...] = (1, 2, 2, 1),
    batch: int = 128,
    rate: float = 1.5e-3,
    placings: int = 0,
) -> Path:
    """Train on all concepts but the judge's held-out ones and its held-out styles; writes `work/clip/model`.

    Where pictures are placed, captions are of every level, and all pictures of a batch that a caption fits are right
    answers. placings: of every picture, see `recipe.data.placing`; 0 takes the pictures as they are.
    """
    data = load_dataset(work)
    rows = data.where(judge="train")
    pictures = data.pictures[rows].to(device)[None]
    if placings:
        pictures = copies(pictures[0], may_mirror([data.items[i] for i in rows]), placings)
    batch = min(batch, len(rows))
    tokenizer = load_tokenizer(work)
    texts, captions = numbered([data.items[i] for i in rows])
    tokens = encode(tokenizer, texts).to(device)
    torch.manual_seed(SEED)
    config = clip_config(len(tokenizer), width, layers)
    model = build_clip(config).to(device)
    parameters = dict(model.named_parameters())
    training = Training(
        work / "clip", parameters, Muon(parameters.values(), rate, decay=0.1), Average(parameters, 0.99), budget,
        about={
            "tokens": numbering(tokenizer), "data": data.digest, "batch": str(batch), "placings": str(placings),
        },
    )  # fmt: skip
    training.log_every = 20
    training.resume()

    def loss_of(step: int, share: slice) -> dict[str, torch.Tensor]:
        generator = step_generator(SEED, step)
        picked = torch.randperm(len(rows), generator=generator)[:batch]
        chosen = to_device(picked, pictures.device)
        which = to_device(copy_numbers(len(pictures), batch, SEED, step), pictures.device)
        real = augment(pictures[which, chosen].float() / 127.5 - 1, generator, step)
        described = captions[picked]
        level = draw_levels(batch, generator) if placings else torch.zeros(batch, dtype=torch.long)
        drawn = described[torch.arange(batch), level]
        right = to_device(fits(described, drawn).float(), pictures.device)
        seen, read, scale = model(real, tokens[to_device(drawn, pictures.device)])
        logits = scale.clamp(max=50) * seen @ read.T
        losses = [
            functional.cross_entropy(scores, answers / answers.sum(1, keepdim=True))
            for scores, answers in ((logits, right), (logits.T, right.T))
        ]
        top1 = right.gather(1, logits.argmax(1, keepdim=True)).mean()
        return {"loss": (losses[0] + losses[1]) / 2, "top1": top1}

    for _ in training.run(loss_of, rate, warm_up=50):
        pass
    training.average.swap()
    settle(model, pictures[:4].flatten(0, 1))
    return write_clip(model, config, tokenizer, work / "clip" / "model")


@torch.no_grad()
def settle(model: Any, pictures: torch.Tensor) -> None:
    """Take the batch norms' statistics anew for the averaged weights, over clean training pictures."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for batch in pictures.split(256):
        model.encode_image(batch.float() / 127.5 - 1)
    model.eval()


def write_clip(model: Any, config: dict[str, Any], tokenizer: Any, folder: Path) -> Path:
    """A folder that `open_clip.create_model("local-dir:...")` loads; half precision, which loads as single."""

    def write(made: Path) -> None:
        state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        save_tensors(state, made / "open_clip_model.safetensors")
        (made / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(made)

    return replace_folder(folder, write)
