"""What a certificate is computed from, kept batch by batch, so that a killed run goes on and a larger one adds to it.

A folder `.certificate` with `settings.json` (what is measured), `latency.json`, `values-00000.safetensors` ... (a value
a picture and metric, and the features), and the pictures of the prompts that are worst so far.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from explorer.errors import StudyError
from explorer.quality.features import Features
from explorer.quality.scorer import Raw
from studies.certificate import KEPT
from studies.pictures import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = re.compile(r"values-(\d{6})\.safetensors")


class CertificateData:
    """The kept values of one certificate in `folder`. Raises StudyError when the place cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / KEPT

    def open(self, settings: Mapping[str, Any], *, again: bool = False) -> None:
        """Begin, or go on with what stands. again: drop what stands.

        Raises:
            StudyError: when what stands measures something else; both sides are named.
        """
        try:
            if again:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            standing = self._read_json("settings.json")
            nothing = self.latency() is None and not any(self.folder.glob("values-*"))
            if standing is None or nothing:
                write_whole(self.folder / "settings.json", _json(settings))
                return
        except OSError as error:
            raise StudyError(
                f"cannot write the certificate to {self.folder.parent} ({error.strerror or error}); give another --out."
            ) from error
        asked = json.loads(_json(settings))
        other = [name for name in {**standing, **asked} if standing.get(name) != asked.get(name)]
        if other:
            what = "; ".join(f"{name}: it has {standing.get(name)!r}, this run {asked.get(name)!r}" for name in other)
            raise StudyError(
                f"the certificate begun in {self.folder.parent} measures something else ({what}); give another --out, "
                "or --again to begin anew."
            )

    def count(self) -> int:
        """Pictures that are done: a whole number of batches, without gaps."""
        return sum(length for _, length in self._batches())

    def _batches(self) -> list[tuple[Path, int]]:
        found: list[tuple[Path, int]] = []
        done = 0
        files = {int(m[1]): path for path in self.folder.glob("values-*") if (m := _BATCH.fullmatch(path.name))}
        while done in files:
            length = len(self._tensors(files[done], features=False)["numbers"])
            found.append((files[done], length))
            done += length
        return found

    def _tensors(self, path: Path, features: bool = True) -> dict[str, NDArray[np.float64]]:
        try:
            with safe_open(path, framework="numpy") as stream:
                names = [name for name in stream.keys() if features or "/each/" in name or name == "numbers"]  # noqa: SIM118
                return {name: stream.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise StudyError(f"{path} cannot be read ({error}); use --again to begin anew.") from error

    def add(self, start: int, runs: Mapping[str, Raw]) -> None:
        """Keep a batch that begins at picture `start`."""
        count = next(iter(runs.values())).count
        tensors: dict[str, NDArray[Any]] = {"numbers": np.arange(start, start + count)}
        for run, raw in runs.items():
            tensors |= {f"{run}/each/{name}": values for name, values in raw.each.items()}
            for name in ("values", "logits") if raw.features is not None else ():
                part = getattr(raw.features, name)
                if part is not None:
                    tensors[f"{run}/{name}"] = part.astype(np.float32)
        try:
            write_whole(self.folder / f"values-{start:06d}.safetensors", save_tensors(tensors))
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder} ({error.strerror or error}); make room, then run the same command."
            ) from error

    def runs(self, count: int, features: bool = True) -> dict[str, Raw]:
        """Everything that is kept of the first `count` pictures, by run; features can be left where they lie."""
        batches = [self._tensors(path, features) for path, _ in self._batches()]
        names = [name for name in batches[0] if name != "numbers"]
        whole = {name: np.concatenate([batch[name] for batch in batches])[:count].astype(np.float64) for name in names}
        made: dict[str, Raw] = {}
        for run in dict.fromkeys(name.partition("/")[0] for name in names):
            prefix = f"{run}/each/"
            each = {name.removeprefix(prefix): whole[name] for name in names if name.startswith(prefix)}
            values, logits = whole.get(f"{run}/values"), whole.get(f"{run}/logits")
            made[run] = Raw(count, each, None if values is None else Features(values, logits))
        return made

    def latency(self) -> dict[str, Any] | None:
        return self._read_json("latency.json")

    def keep_latency(self, document: Mapping[str, Any]) -> None:
        write_whole(self.folder / "latency.json", _json(document))

    def keep_pictures(self, pictures: Mapping[tuple[int, str], bytes], wanted: Sequence[int]) -> None:
        """Keep the PNG files of (number, run) that are wanted, and drop those that are no longer."""
        for (number, run), png in pictures.items():
            if number in wanted:
                write_whole(self.folder / f"{number:06d}-{run}.png", png)
        for path in self.folder.glob("*.png"):
            if not path.name[:6].isdigit() or int(path.name[:6]) not in wanted:
                path.unlink()

    def picture(self, number: int, run: str) -> bytes | None:
        path = self.folder / f"{number:06d}-{run}.png"
        return path.read_bytes() if path.is_file() else None

    def _read_json(self, name: str) -> Any:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StudyError(f"{path} cannot be read ({error}); use --again to begin anew.") from error


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
