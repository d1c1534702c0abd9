"""Data and weights as a few small files, for a machine without a network: pictures as lossless WebP sheets, checkpoints
as their averages alone in half precision, anything larger than a part split into parts.

A parcel NAME is NAME.00, NAME.01 ... (a tar, cut) and NAME.json, which tells its size and SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save

from explorer.errors import TrainingError
from recipe.data.prepare import check_prepared
from recipe.data.tokens import FOLDER
from recipe.networks.autoencoder import LEGS
from training.tensors import load_tensors, save_tensors

PART = 15 * 2**20
SIDE = 10
"""Pictures in a row and a column of a sheet."""
SHEETS = "data/sheets/"


def write_parcel(files: Mapping[str, bytes], parcel: Path, part: int = PART) -> list[Path]:
    """Write `files` (path in the work folder -> content) as a parcel in place of an earlier one; its files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    whole = stream.getvalue()
    about = {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "parts": -(-len(whole) // part)}
    contents = [whole[start : start + part] for start in range(0, len(whole), part)]
    paths = [parcel.with_name(f"{parcel.name}.{number:02d}") for number in range(len(contents))]
    paths.append(parcel.with_name(f"{parcel.name}.json"))
    parcel.parent.mkdir(parents=True, exist_ok=True)
    fresh = [path.with_name(path.name + ".new") for path in paths]
    for path, content in zip(fresh, [*contents, json.dumps(about).encode()], strict=True):
        path.write_bytes(content)
    for path, made in zip(paths, fresh, strict=True):  # all written first: a kill hardly ever leaves a mixture
        os.replace(made, path)
    return paths


def unpack_parcel(parcel: Path, work: Path) -> None:
    """Put what a parcel holds into the work folder; pictures become what `prepare` writes.

    Raises:
        TrainingError: when parts are missing or damaged, or when it would write elsewhere.
    """
    try:
        about = json.loads(parcel.with_name(f"{parcel.name}.json").read_text(encoding="utf-8"))
        parts = [parcel.with_name(f"{parcel.name}.{n:02d}").read_bytes() for n in range(about["parts"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"the parcel {parcel} is not whole: {error}; bring all of its files.") from error
    whole = b"".join(parts)
    if hashlib.sha256(whole).hexdigest() != about["sha256"]:
        raise TrainingError(f"the parcel {parcel} is damaged; bring its files again.")
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        _extract(tar, work)
    if (work / SHEETS).is_dir():
        _join_sheets(work)


def _extract(tar: tarfile.TarFile, work: Path) -> None:
    """Plain files within the work folder alone, as tarfile's own filter has it, which Python 3.11.2 lacks."""
    for entry in tar:
        path = (work / entry.name).resolve()
        if not entry.isfile() or not path.is_relative_to(work.resolve()):
            raise TrainingError(
                f"a parcel holds plain files of the work folder, this one {entry.name!r}; make it again."
            )
        content = tar.extractfile(entry)
        assert content is not None, "a plain file has content"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read())


def pack_data(work: Path, parcel: Path) -> list[Path]:
    """What `prepare` wrote, about a quarter of its size, to the bit. Raises TrainingError where it has not run."""
    check_prepared(work)
    files = {"data/items.json": (work / "data" / "items.json").read_bytes(), **folder_files(work / FOLDER, FOLDER)}
    pictures = load_tensors(work / "data" / "pictures.safetensors")["pictures"].permute(0, 2, 3, 1).numpy()
    for number, start in enumerate(range(0, len(pictures), SIDE**2)):
        files[f"{SHEETS}{number:03d}.webp"] = _sheet(pictures[start : start + SIDE**2])
    paths = write_parcel(files, parcel)
    print(f"{parcel}: {sum(path.stat().st_size for path in paths) / 2**20:.1f} MiB", flush=True)
    return paths


def _sheet(pictures: np.ndarray) -> bytes:
    size = pictures.shape[1]
    canvas = np.zeros((SIDE**2, *pictures.shape[1:]), dtype=np.uint8)
    canvas[: len(pictures)] = pictures
    grid = canvas.reshape(SIDE, SIDE, size, size, 3).transpose(0, 2, 1, 3, 4).reshape(SIDE * size, SIDE * size, 3)
    stream = io.BytesIO()
    Image.fromarray(grid).save(stream, "WEBP", lossless=True, quality=60, method=4, exact=True)
    return stream.getvalue()


def _join_sheets(work: Path) -> None:
    count = len(json.loads((work / "data" / "items.json").read_text(encoding="utf-8")))
    rows = []
    for path in sorted((work / SHEETS).glob("*.webp")):
        with Image.open(path) as opened:
            grid = np.asarray(opened.convert("RGB"))
        size = grid.shape[0] // SIDE
        rows.append(grid.reshape(SIDE, size, SIDE, size, 3).transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 3))
    pictures = torch.from_numpy(np.concatenate(rows)[:count]).permute(0, 3, 1, 2)
    save_tensors({"pictures": pictures.contiguous()}, work / "data" / "pictures.safetensors")


def trained_files(work: Path) -> dict[str, bytes]:
    """What a training on another machine goes on from: the autoencoder, the CLIP model, the logs, and of the UNet's
    checkpoint the averages in half precision."""
    files: dict[str, bytes] = {}
    for folder in (LEGS[-1], "clip"):
        for path in sorted((work / folder / "model").glob("*")):
            files[str(path.relative_to(work))] = path.read_bytes()
    for path in (*work.glob("*/losses.csv"), *work.glob("device.json")):
        files[str(path.relative_to(work))] = path.read_bytes()
    checkpoint = work / "unet" / "checkpoint.safetensors"
    if checkpoint.exists():
        with safe_open(checkpoint, "pt") as opened:
            metadata = opened.metadata()
            averages = {k: opened.get_tensor(k).half() for k in opened.keys() if k.startswith("a/")}  # noqa: SIM118
        files[str(checkpoint.relative_to(work))] = save(averages, metadata)
    return files


def folder_files(folder: Path, prefix: str) -> dict[str, bytes]:
    """Every file under a folder, by its path in it after `prefix`."""
    return {f"{prefix}/{p.relative_to(folder)}": p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
