"""What a student is taught on: states along the teacher's own guided runs, and its pictures noised again.

Both come from the teacher alone, so that no pictures are needed; a folder of captioned pictures gives the second kind
instead. What the UNet is called with is recorded, so that any Stable Diffusion pipeline works alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.errors import TrainingError
from explorer.models.pictures import find_pictures, read_picture, run
from explorer.models.workload import twin
from explorer.plans.schedulers import scheduler_for
from training.tensors import load_tensors, metadata_of, save_tensors

STEPS = 20
"""Evaluations of each of the teacher's runs."""
CHUNK = 32
"""Runs in one file: what a kill loses at most."""


@dataclass(frozen=True)
class Examples:
    """Recorded runs.

    Attributes:
        states: (S, R, C, h, w) what the UNet was given at each of S evaluations of R runs; S is 0 for pictures.
        times: (S,) the timesteps of those.
        latents: (R, C, h, w) the pictures, as the UNet's model of them.
        context: (R, T, D) text states of each run's prompt.
        empty: (T, D) text states of the empty prompt.
        added: What SDXL's UNet is given besides, by name, (R, ...).
        empty_added: The same of the empty prompt, by name.
    """

    states: Tensor
    times: Tensor
    latents: Tensor
    context: Tensor
    empty: Tensor
    added: dict[str, Tensor] = field(default_factory=dict)
    empty_added: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latents)


def teacher_runs(
    pipe: Any,
    prompts: Sequence[str],
    count: int,
    folder: Path,
    *,
    guidance: float,
    seed: int = 0,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Record `count` guided runs of the teacher under DDIM, or go on with those in `folder`.

    Args:
        pipe: The teacher's pipeline.
        prompts: Taken in turn, each time with another seed.
        count: Of runs.
        folder: Where the runs are kept, a file for every `CHUNK`.
        guidance: The guidance scale.
        seed: Of the first run.
        batch: Runs at once.
        progress: Called with how many runs are done, of how many.

    Raises:
        TrainingError: For no prompts, and for a folder with runs of another kind.
    """
    if not prompts or count < 1:
        raise TrainingError(f"the teacher needs a prompt and a run, got {len(prompts)} and {count}.")
    teacher = under_ddim(pipe)
    of = _about(pipe, prompts, guidance, seed)

    def record(wanted: range) -> dict[str, Tensor]:
        return _recorded(teacher, prompts, wanted, guidance=guidance, seed=seed)

    other = "another teacher, other prompts or another guidance"
    return _examples(recorded_runs(folder / "runs", count, record, of=of, other=other, batch=batch, progress=progress))


def recorded_runs(
    stem: Path,
    count: int,
    record: Callable[[range], dict[str, Tensor]],
    *,
    of: str,
    other: str,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Record `count` runs in files of `CHUNK`, or go on with those that exist.

    Args:
        stem: Of the files: their folder, and what their names begin with.
        count: Of runs.
        record: Runs those of a range, and gives what is recorded of them by name; `context` has a row for each.
        of: What the runs depend on. Files of others are refused.
        other: What differs then, for the message.
        batch: Runs at once.
        progress: Called with how many runs are done, of how many.

    Raises:
        TrainingError: For a folder with runs of another kind.
    """
    chunks = []
    for start in range(0, count, CHUNK):
        path = stem.with_name(f"{stem.name}-{start:05d}.safetensors")
        stop = min(start + CHUNK, count)
        if path.exists() and metadata_of(path).get("of") != of:
            raise TrainingError(f"{path} holds runs of {other}; move the folder away.")
        found = load_tensors(path) if path.exists() else {}
        if len(found.get("context", ())) < stop - start:
            found = _joined([record(range(at, min(at + batch, stop))) for at in range(start, stop, batch)])
            save_tensors(found, path, {"of": of})
        chunks.append(
            {
                name: value if _shared(name) else value.narrow(_axis(name), 0, stop - start)
                for name, value in found.items()
            }
        )
        if progress is not None:
            progress(stop, count)
    return _joined(chunks)


def captioned_pictures(pipe: Any, folder: Path, *, batch: int = 8) -> Examples:
    """Pictures with captions: each picture has a text file of the same name beside it.

    Args:
        pipe: The teacher's pipeline.
        folder: Of the pictures.
        batch: Pictures at once.

    Raises:
        TrainingError: When there is no picture or one without a caption.
    """
    paths = find_pictures(folder)
    captions = []
    for path in paths:
        text = path.with_suffix(".txt")
        if not text.is_file() or not text.read_text(encoding="utf-8").strip():
            raise TrainingError(f"{path} has no caption; write it into {text.name} beside it.")
        captions.append(text.read_text(encoding="utf-8").strip())
    chunks = []
    for start in range(0, len(paths), batch):
        texts = captions[start : start + batch]
        pictures = torch.stack([_square(pipe, read_picture(path)) for path in paths[start : start + batch]])
        with torch.no_grad(), recorded_calls(pipe) as calls:
            run(pipe, texts, seed=0, steps=1, guidance=2.0, output_type="latent")
            posterior = pipe.vae.encode(pictures.to(pipe.vae.device, pipe.vae.dtype)).latent_dist
            latents = (posterior.mean - (getattr(pipe.vae.config, "shift_factor", None) or 0)) * (
                pipe.vae.config.scaling_factor
            )
        made = latents.half().cpu()
        chunks.append(
            _texts_of(calls, len(texts)) | {"latents": made, "times": torch.zeros(0), "states": made[None][:0]}
        )
    return _examples(_joined(chunks))


def _square(pipe: Any, picture: Tensor) -> Tensor:
    """A picture (3, H, W) uint8 at the model's size, its middle square, from -1 to 1."""
    size = pipe.unet.config.sample_size * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    side = min(picture.shape[-2:])
    top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
    square = picture[None, :, top : top + side, left : left + side].float() / 127.5 - 1
    return torch.nn.functional.interpolate(square, (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)


@contextmanager
def recorded_calls(pipe: Any) -> Iterator[list[dict[str, Any]]]:
    """Within it, what the pipeline's UNet is called with."""
    calls: list[dict[str, Any]] = []

    def hook(_: Any, arguments: tuple[Any, ...], given: dict[str, Any]) -> None:
        sample, timestep = (*arguments, *(given[name] for name in ("sample", "timestep") if name in given))[:2]
        calls.append({"sample": sample, "timestep": timestep, **given})

    handle = pipe.unet.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def under_ddim(pipe: Any) -> Any:
    """The pipeline with DDIM, sharing every weight; the one given keeps its scheduler."""
    other = twin(pipe)
    other.scheduler = scheduler_for(other.scheduler, "DDIMScheduler")
    return other


def _recorded(pipe: Any, prompts: Sequence[str], wanted: range, *, guidance: float, seed: int) -> dict[str, Tensor]:
    texts = [prompts[number % len(prompts)] for number in wanted]
    with torch.no_grad(), recorded_calls(pipe) as calls:
        latents = run(pipe, texts, seed=seed + wanted.start, steps=STEPS, guidance=guidance, output_type="latent")
    return _texts_of(calls, len(texts)) | trajectory(calls, len(texts)) | {"latents": latents.half().cpu()}


def trajectory(calls: list[dict[str, Any]], count: int) -> dict[str, Tensor]:
    """The samples of `count` runs at each call, `states` (S, count, C, h, w), and its timesteps, `times` (S,)."""
    return {
        "states": torch.stack([call["sample"][-count:].half().cpu() for call in calls]),
        "times": torch.stack([torch.as_tensor(call["timestep"]).float().cpu().reshape(()) for call in calls]),
    }


def _texts_of(calls: list[dict[str, Any]], count: int) -> dict[str, Tensor]:
    """The text states of the first call; of its two halves the first is guidance's."""
    call = calls[0]
    states = call["encoder_hidden_states"].half().cpu()
    if len(states) != 2 * count:
        raise TrainingError(
            "the teacher ran without guidance, so the empty prompt is unknown; give --guidance above 1."
        )
    found = {"context": states[count:], "empty": states[0]}
    for name, value in (call.get("added_cond_kwargs") or {}).items():
        found |= {f"added.{name}": value[count:].float().cpu(), f"empty.{name}": value[0].float().cpu()}
    return found


def _shared(name: str) -> bool:
    return name in ("times", "empty") or name.startswith("empty.")


def _axis(name: str) -> int:
    """The dimension of a recorded tensor that counts the runs."""
    return int(name == "states")


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Recorded tensors of several batches of runs, by name."""
    return {
        name: value if _shared(name) else torch.cat([part[name] for part in parts], _axis(name))
        for name, value in parts[0].items()
    }


def _examples(recorded: dict[str, Tensor]) -> Examples:
    plain = {name: value for name, value in recorded.items() if "." not in name}
    return Examples(**plain, added=under("added.", recorded), empty_added=under("empty.", recorded))


def under(prefix: str, recorded: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is recorded under a prefix, by what follows it."""
    return {name.removeprefix(prefix): value for name, value in recorded.items() if name.startswith(prefix)}


def _about(pipe: Any, prompts: Sequence[str], guidance: float, seed: int) -> str:
    """What recorded runs depend on."""
    from explorer.models.loading import fingerprint

    digest = hashlib.sha256("\0".join([fingerprint(pipe), repr(guidance), str(seed), str(STEPS), *prompts]).encode())
    return digest.hexdigest()[:16]
