"""What a certificate is computed from, kept batch by batch, so that a killed run goes on and a larger one adds to it.

A folder `.certificate` with `settings.json` (what is measured), `latency.json`, `values-00000.safetensors` ... (a value
a picture and metric, and the features), and the pictures of the prompts that are worst so far.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from explorer.errors import ExplorerError, ScoreError, StudyError
from explorer.files import write_whole
from explorer.plans.schedulers import short
from explorer.quality.features import Features
from explorer.quality.scorer import Raw
from explorer.timing.latency import Latency
from studies.certificates.document import FULL, KEPT, PLAN
from studies.documents import check_document, read_document
from studies.settings import SamplerSettings, StudySettings, difference_words, differences, flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTINGS, LATENCY = "settings.json", "latency.json"
_BATCH = re.compile(r"values-(\d{6})\.safetensors")
_REMEDY = "use --again to start again"
_APART: dict[str, Any] = {"batch": 1, "space": "", "sampler": {}}
"""Settings of a study that a certificate does not depend on."""
_NONE = {"objectives": [{"name": "latency", "direction": "minimize"}]}
"""What is used where a measurement is kept apart from any study's objectives."""


@dataclass(frozen=True)
class CertifiedRun:
    """One of the certificate's runs: its name for people, its steps, how fast it is, and its scheduler and the spacing
    of its timesteps where these are others than the pipeline's own."""

    name: str
    steps: int
    latency: Latency
    scheduler: str | None = None
    spacing: str | None = None

    @property
    def under(self) -> tuple[str | None, str | None]:
        """Its scheduler and spacing."""
        return self.scheduler, self.spacing

    @property
    def rival_name(self) -> str:
        named = "" if self.scheduler is None else f" of {short(self.scheduler)}"
        return f"{self.steps} plain steps{named}" + ("" if self.spacing is None else f" with {self.spacing} timesteps")


class CertificateData:
    """The kept values of one certificate in `folder`. Raises StudyError when the place cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / KEPT

    def open(self, settings: StudySettings, plan: str, *, again: bool = False) -> None:
        """Begin, or go on with what exists. plan: its key. again: drop what exists.

        Raises:
            StudyError: when what exists measures something else; both sides are named.
        """
        try:
            if again:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            nothing = not (self.folder / LATENCY).exists() and not any(self.folder.glob("values-*"))
            if nothing:
                apart = {name: value for name, value in settings.to_json().items() if name not in _APART}
                write_whole(self.folder / SETTINGS, _json(apart | {"plan": plan}))
                return
        except OSError as error:
            raise StudyError(
                f"cannot write the certificate to {self.folder.parent} ({error.strerror or error}); give another --out."
            ) from error
        standing, standing_plan = self._settings()
        different = differences(standing, replace(settings, space="", sampler=SamplerSettings()))
        if standing_plan != plan:
            different.append(("plan", standing_plan, plan))
        if different:
            raise StudyError(
                f"the certificate in {self.folder.parent} measures something else "
                f"({difference_words(different, 'it')}); give another --out, or --again to start again."
            )

    def _settings(self) -> tuple[StudySettings, str]:
        """What exists, and the key of its plan."""
        path = self.folder / SETTINGS
        document = read_document(path, {"plan": str}, _REMEDY)
        try:
            found = StudySettings.from_json(_NONE | _APART | document)
            flatten(found)
            return found, document["plan"]
        except (ExplorerError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StudyError(f"{path} cannot be read ({error!r:.200}); {_REMEDY}.") from error

    def count(self) -> int:
        """Pictures that are done: complete batches, without gaps."""
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
                found = {name: stream.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise StudyError(f"{path} cannot be read ({error}); {_REMEDY}.") from error
        lengths = {values.shape[:1] for values in found.values()}
        runs = {name.partition("/")[0] for name in found} - {"numbers"}
        if "numbers" not in found or len(lengths) != 1 or lengths == {()} or not runs:
            raise StudyError(f"{path} cannot be read (it holds no values of a batch of pictures); {_REMEDY}.")
        return found

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

    def runs(self, count: int, features: bool = True, needed: Sequence[str] = ()) -> dict[str, Raw]:
        """Everything that is kept of the first `count` pictures, by run; features can be left where they lie. needed:
        the metrics that are read of it. Raises StudyError when the files do not hold them."""
        paths = [path for path, _ in self._batches()]
        batches = [self._tensors(path, features) for path in paths]
        names = [name for name in batches[0] if name != "numbers"]
        for path, batch in zip(paths, batches, strict=True):
            if {name: values.shape[1:] for name, values in batch.items()} != {
                name: values.shape[1:] for name, values in batches[0].items()
            }:
                raise StudyError(f"{path} does not go with {paths[0].name}; {_REMEDY}.")
        missing = [metric for metric in needed for run in (FULL, PLAN) if f"{run}/each/{metric}" not in names]
        if missing:
            raise StudyError(f"{paths[0]} cannot be read (it lacks {missing[0]}); {_REMEDY}.")
        whole = {name: np.concatenate([batch[name] for batch in batches])[:count].astype(np.float64) for name in names}
        made: dict[str, Raw] = {}
        for run in dict.fromkeys(name.partition("/")[0] for name in names):
            prefix = f"{run}/each/"
            each = {name.removeprefix(prefix): whole[name] for name in names if name.startswith(prefix)}
            values, logits = whole.get(f"{run}/values"), whole.get(f"{run}/logits")
            made[run] = Raw(count, each, None if values is None else Features(values, logits))
        return made

    def latencies(self) -> dict[str, CertifiedRun] | None:
        """The runs that were timed; None before they are."""
        path = self.folder / LATENCY
        if not path.exists():
            return None
        one = {"name": str, "steps": int, "latency": dict, "scheduler": (str, type(None))}
        document = read_document(path, {FULL: one, PLAN: one}, _REMEDY)
        found = {}
        for role, run in document.items():
            check_document(run, one, path, _REMEDY)
            try:
                found[role] = CertifiedRun(
                    run["name"], run["steps"], Latency.from_json(run["latency"]), run["scheduler"],
                    run.get("spacing"),  # absent in files of earlier versions
                )  # fmt: skip
            except ScoreError as error:
                raise StudyError(f"{path} cannot be read ({error}); {_REMEDY}.") from error
        return found

    def keep_latencies(self, runs: Mapping[str, CertifiedRun]) -> None:
        """Keep what was timed."""
        document = {
            role: {
                "name": run.name,
                "steps": run.steps,
                "latency": run.latency.to_json(),
                "scheduler": run.scheduler,
                "spacing": run.spacing,
            }
            for role, run in runs.items()
        }
        write_whole(self.folder / LATENCY, _json(document))

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


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
