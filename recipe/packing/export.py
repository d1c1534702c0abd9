"""Stage `export`: what was trained becomes the folders that ship, each replaced whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from explorer.errors import TrainingError
from explorer.files import write_whole
from recipe.commands import stage_command
from recipe.data.prompts import write_prompts
from recipe.data.tokens import FOLDER, load_tokenizer, numbering
from recipe.networks.autoencoder import LEGS, load_autoencoder
from recipe.networks.unet import BETAS, build_text_encoder, build_unet
from training.folders import replace_folder
from training.tensors import load_tensors, metadata_of

TRAININGS = (*LEGS, "unet", "clip")
"""Folders of the work folder that hold a training and its log."""

EMBEDDED = Path(__file__).parents[2] / "explorer" / "embedded"


def build_pipeline(work: Path, channels: tuple[int, ...], leg: str) -> Any:
    """The stock pipeline from the newest checkpoint's averaged weights.

    Raises:
        TrainingError: when something of it was not trained yet, or under other numbers of the tokens.
    """
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    vae = load_autoencoder(work, leg)
    tokenizer = load_tokenizer(work)
    unet = build_unet(channels, vae.config.latent_channels, 64 // 2 ** (len(vae.config.block_out_channels) - 1))
    text = build_text_encoder(tokenizer)
    path = work / "unet" / "checkpoint.safetensors"
    if not path.exists():
        raise TrainingError(f"{path} is missing; run `{stage_command('train-unet', work)}` first.")
    metadata, tensors = metadata_of(path), load_tensors(path)
    if metadata.get("tokens") != numbering(tokenizer):
        raise TrainingError(f"{path} was trained with other tokens than those in {work / FOLDER}; train it again.")
    prediction = metadata["prediction"]
    for part, model in (("unet", unet), ("text", text)):
        prefix = f"a/{part}."
        model.load_state_dict({k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)})
    scheduler: Any = PNDMScheduler(
        **BETAS,
        num_train_timesteps=1000,
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
        # under guidance PNDM is nearer to its many steps than with `leading`
        timestep_spacing="linspace",
        prediction_type=prediction,
    )
    # As in SD configs: no argument of PNDM, but DDIM made from this configuration would clip latents without it.
    scheduler.register_to_config(clip_sample=False)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(
    work: Path, embedded: Path = EMBEDDED, channels: tuple[int, ...] = (48, 96, 128, 128), leg: str = LEGS[-1]
) -> Path:
    """Write `embedded/emoji` in half precision; it loads in single precision unless another is asked for."""
    pipe = build_pipeline(work, channels, leg).to(torch.float16)

    def write(folder: Path) -> None:
        pipe.save_pretrained(folder, safe_serialization=True)
        # transformers loads in the precision that the configuration names, diffusers in single: they must agree
        path = folder / "text_encoder" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tidy(folder)

    return replace_folder(embedded / "emoji", write)


def export(work: Path, embedded: Path = EMBEDDED, channels: tuple[int, ...] = (48, 96, 128, 128)) -> None:
    """Write everything that ships but the statistics, which are taken with the exported CLIP model.

    Raises:
        TrainingError: when something was not trained yet. Nothing is replaced then.
    """
    judge = work / "clip" / "model"
    if not (judge / "open_clip_config.json").is_file():
        raise TrainingError(f"{judge} holds no CLIP model; run `{stage_command('train-clip', work)}`.")
    export_pipeline(work, embedded, channels)
    write_prompts(work, embedded / "prompts")

    def write(folder: Path) -> None:
        shutil.copytree(judge, folder, dirs_exist_ok=True)
        tidy(folder)

    replace_folder(embedded / "emojiclip", write)
    keep_logs(work, embedded / "card")


def keep_logs(work: Path, folder: Path) -> None:
    """The logs of the trainings, beside the weights: the card draws its curves from them. `device.json`: what they ran
    on, as the trainings noted it, and their minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    if (work / "device.json").exists():
        about = json.loads((work / "device.json").read_text(encoding="utf-8"))
    seconds = 0.0
    for name in TRAININGS:
        (folder / f"losses-{name}.csv").unlink(missing_ok=True)  # of earlier weights
        if (work / name / "losses.csv").exists():
            shutil.copyfile(work / name / "losses.csv", folder / f"losses-{name}.csv")
            seconds += float((work / name / "losses.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")[1])
    write_whole(folder / "device.json", json.dumps({**about, "minutes": round(seconds / 60, 1)}).encode())


def tidy(folder: Path) -> None:
    """Take out where on a disk a part was loaded from, and let every user read what ships."""
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
