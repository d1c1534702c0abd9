"""Pictures: made by the real pipeline with fixed seeds, read from folders, turned into PNG with thumbnails."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import ScoreError
from explorer.models.prompts import Prompt, negatives, texts

if TYPE_CHECKING:
    import torch

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
THUMBNAIL = 96
"""Longest side of a thumbnail, in pixels."""
BLANK = 1.0
"""Grey levels of 255 up to which pixels of a picture, or two pictures, count as the same: rounding gives that much."""

Embed = Callable[[list[str]], "dict[str, torch.Tensor]"]


def generate(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    *,
    seed: int,
    steps: int,
    guidance: float,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    size: tuple[int, int] | None = None,
    embed: Embed | None = None,
    overlap: bool = False,
) -> torch.Tensor:
    """The pictures of `prompts`, uint8 (N, 3, H, W) on the CPU, from a diffusers text-to-image pipeline.

    Picture i starts from the noise of a CPU generator seeded with seed + i, so it depends neither on the batch size
    nor on the device, and every candidate of a study starts from the same noise. `progress(done, N)` is called after
    each batch. `size` is (height, width) in pixels, the pipeline's own by default. `embed` gives the embeddings of a
    batch as the pipeline's call takes them; without it the pipeline encodes the words itself. `overlap`
    turns a batch into bytes, and brings it to the CPU, while the next one is generated; the pictures are the same.
    Raises ScoreError for no
    prompts, numbers below one, and pictures that hold infinities or NaNs.
    """
    import torch

    words = texts(prompts)
    if not words:
        raise ScoreError("No prompts were given, so there are no pictures to make; give at least one prompt.")
    for what, given in (("steps", steps), ("batch_size", batch_size)):
        if given < 1:
            raise ScoreError(f"Pictures were asked for with {what}={given}; it must be at least 1.")
    made: list[torch.Tensor | Future[torch.Tensor]] = []
    with ThreadPoolExecutor(1, "pictures") if overlap else nullcontext() as other:
        for start in range(0, len(words), batch_size):
            batch = prompts[start : start + batch_size]
            images = run(pipe, batch, seed=seed + start, steps=steps, guidance=guidance, size=size, embed=embed)
            if len(made) > 1:
                _done(made[-2])  # no more than two batches are held, and a bad picture stops the run
            job = (images, start, pipe.unet.dtype)
            made.append(_to_bytes(*job) if other is None else other.submit(_to_bytes, *job))
            del images, job
            if progress is not None:
                progress(start + len(batch), len(words))
        return torch.cat([_done(each) for each in made])


def _done(made: torch.Tensor | Future[torch.Tensor]) -> torch.Tensor:
    return made.result() if isinstance(made, Future) else made


def run(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    *,
    seed: int,
    steps: int,
    guidance: float,
    size: tuple[int, int] | None = None,
    output_type: str = "pt",
    embed: Embed | None = None,
) -> torch.Tensor:
    """One call of the pipeline on a batch of prompts, the noise of the first of them seeded with `seed`: floats in
    [0, 1] of shape (N, 3, H, W), or with `output_type="latent"` the final latents."""
    import torch

    shape = {"height": size[0], "width": size[1]} if size else {}
    before = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe(
            **(_words(prompts) if embed is None else embed(texts(prompts))),
            generator=[torch.Generator("cpu").manual_seed(seed + number) for number in range(len(prompts))],
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type=output_type,
            **shape,
        ).images
    finally:
        pipe.set_progress_bar_config(**(before or {"disable": False}))


def _words(prompts: Sequence[str | Prompt]) -> dict[str, list[str]]:
    unwanted = negatives(prompts)
    return {"prompt": texts(prompts)} | ({} if unwanted is None else {"negative_prompt": unwanted})


def _to_bytes(images: torch.Tensor, start: int, dtype: torch.dtype) -> torch.Tensor:
    """Floats in [0, 1] to bytes, rounded as diffusers' `numpy_to_pil` does."""
    import torch

    bad = (~torch.isfinite(images).flatten(1).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise ScoreError(f"Picture {start + bad[0]} holds infinities or NaNs; {_remedy(dtype)}.")
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def check_informative(pictures: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse pictures that carry no information, as any score of them is meaningless: two black ones are alike.

    A model may draw a blank picture now and then, so most of them have to be blank, or all of them alike.

    Args:
        pictures: uint8 (N, 3, H, W), of different prompts or seeds.
        dtype: What the model that made them runs in.

    Raises:
        ScoreError: says how many are of one colour, and what to do.
    """
    count = len(pictures)
    blank = (pictures.flatten(2).float().std(dim=2) < BLANK).all(dim=1)
    if 2 * int(blank.sum()) > count:
        colour = pictures[blank][0].flatten(1).float().mean(dim=1).round().int().tolist()
        name = {(0, 0, 0): "black", (255, 255, 255): "white"}.get(tuple(colour), f"RGB {colour}")
        raise ScoreError(
            f"{int(blank.sum())} of {count} pictures are of one colour (the first is {name}), so no score of them "
            f"means anything; {_remedy(dtype)}."
        )
    distance = (pictures.int() - pictures[:1].int()).abs().flatten(1).float().mean(dim=1)
    if count > 1 and bool((distance < BLANK).all()):
        raise ScoreError(
            f"All {count} pictures are alike, whatever their prompts and seeds, so no score of them means anything; "
            f"{_remedy(dtype)}."
        )


def _remedy(dtype: torch.dtype) -> str:
    """What makes a pipeline give no pictures, and what to do: overflows are a matter of half precision alone."""
    if dtype.itemsize == 2:
        other = "bfloat16" if "bfloat16" not in str(dtype) else "float16"
        return f"a model that overflows in half precision needs --dtype float32 or {other}"
    return (
        f"the model runs in {str(dtype).removeprefix('torch.')}, so precision is not the cause; a plan that diverges, "
        "damaged weights or a scheduler that does not suit the model may be"
    )


def find_pictures(folder: Path) -> list[Path]:
    """The PNG, WebP and JPEG files of `folder`, by name; its sub-folders are not read. Raises ScoreError for no
    folder and no pictures.
    """
    if not folder.is_dir():
        raise ScoreError(f"There is no picture folder {folder}; give a folder of PNG, WebP or JPEG files.")
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as problem:
        raise ScoreError(
            f"The picture folder {folder} cannot be read: {problem.strerror}; give one that can."
        ) from problem
    if not paths:
        raise ScoreError(f"The folder {folder} holds no pictures; give a folder of PNG, WebP or JPEG files.")
    return paths


def read_picture(path: Path) -> torch.Tensor:
    """One picture file as uint8 (3, H, W); what is transparent becomes white. Raises ScoreError for a file that is no
    picture.
    """
    import numpy as np
    import torch
    from PIL import Image

    try:
        with Image.open(path) as stored:
            layer = stored.convert("RGBA" if stored.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        # PIL raises SyntaxError for a broken PNG chunk.
        raise ScoreError(f"The picture {path} cannot be read; replace it, or remove it from the folder.") from problem
    if layer.mode == "RGBA":
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return torch.from_numpy(np.array(layer)).permute(2, 0, 1).contiguous()


def read_batches(paths: Sequence[Path], batch_size: int = 64) -> Iterator[torch.Tensor]:
    """Picture files in order, as batches uint8 (n, 3, H, W) of one size each."""
    import torch

    batch: list[torch.Tensor] = []
    for path in paths:
        picture = read_picture(path)
        if batch and (len(batch) == batch_size or picture.shape != batch[0].shape):
            yield torch.stack(batch)
            batch = []
        batch.append(picture)
    if batch:
        yield torch.stack(batch)


def as_png(picture: torch.Tensor) -> tuple[bytes, bytes]:
    """A picture uint8 (3, H, W) and its thumbnail, both as the bytes of a PNG file."""
    from PIL import Image

    image = Image.fromarray(picture.permute(1, 2, 0).cpu().numpy())
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    files = []
    for each in (image, small):
        stream = io.BytesIO()
        each.save(stream, "PNG")
        files.append(stream.getvalue())
    return files[0], files[1]
