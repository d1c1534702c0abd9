"""The sizes of a training, by name: what two cores can train, and what a GPU can."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Sizes and budgets of a training. `legs`: steps of the autoencoder's legs, the second going on from the first.
    learns: the generator's concepts, of `prepare.CONCEPTS`. placings: of a picture, for the autoencoder, the CLIP model
    and the UNet (see `recipe.data.placing`); 0 takes the pictures as they are. decay: of the UNet's average."""

    channels: tuple[int, ...]
    autoencoder: tuple[int, ...]
    latents: int
    legs: tuple[int, int]
    autoencoder_batch: int
    unet_steps: int
    unet_batch: int
    clip_steps: int
    clip_batch: int
    learns: str
    prediction: str
    student_steps: int
    student_batch: int
    placings: tuple[int, int, int] = (0, 0, 0)
    decay: float = 0.998
    half: bool = False
    compile_seconds: float = 0.0

    @property
    def placed(self) -> bool:
        """Whether one caption has many pictures."""
        return self.placings[2] > 0


PRESETS = {
    # about two hours and a half of two cores, most of it the UNet's
    "cpu": Preset(
        channels=(48, 96, 128, 128), autoencoder=(16, 32, 64, 128), latents=12, legs=(1000, 5000), autoencoder_batch=4,
        unet_steps=7200, unet_batch=64, clip_steps=2000, clip_batch=128, learns="core", prediction="v_prediction",
        student_steps=1500, student_batch=64, placings=(8, 16, 128), decay=0.999,
    ),
    # 16x16 latents at 32 to 160 channels: as many parameters as the other UNet, for an evaluation of twice its time
    "gpu": Preset(
        channels=(32, 64, 128, 160), autoencoder=(32, 64, 128), latents=4, legs=(3000, 1500), autoencoder_batch=32,
        unet_steps=8000, unet_batch=1024, clip_steps=2500, clip_batch=512, learns="all", prediction="v_prediction",
        student_steps=3000, student_batch=256, placings=(8, 16, 64), decay=0.999, half=True, compile_seconds=150.0,
    ),
    # every part of the preset for a GPU, small: to see on any machine in a minute that it runs
    "gpu-tiny": Preset(
        channels=(8, 16, 16, 16), autoencoder=(8, 8, 16), latents=4, legs=(2, 2), autoencoder_batch=4,
        unet_steps=4, unet_batch=8, clip_steps=2, clip_batch=16, learns="all", prediction="v_prediction",
        student_steps=2, student_batch=4, placings=(2, 2, 3), decay=0.9, half=True,
    ),
}  # fmt: skip
