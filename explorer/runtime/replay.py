"""Runs that begin as an earlier one did: the UNet's outputs of the shared evaluations are replayed, not computed.

Two plans whose first choices, masks and weights are equal make equal outputs from equal inputs until they part. The
outputs are given back to the pipeline, so that its scheduler goes through the same states to the bit, whichever it is.
Extract steps of the shared beginning are computed all the same where a later step still reads their features.

For pictures alone: a latency that is measured must not be replayed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.files import write_whole
from explorer.plans.plan import InheritancePlan, Run
from explorer.unet.mask import liveness

REPLAYED = frozenset(("sample", "timestep", "context", "added"))
"""The inputs that identify a run. A run that gives the UNet any other input is not replayed."""
NAME = 32
"""Characters of a digest in a file's name."""
SPARED = 256 * 2**20
"""Bytes of the disk that recordings leave to what must be written."""
UNREADABLE = (OSError, SafetensorError, ValueError)


def beginnings(plan: InheritancePlan, run: Run) -> tuple[bytes, ...]:
    """For each evaluation the hash of all that was done until then: equal for runs that are equal so far.

    An extract step does the same whatever it stores; any other is identified by its mask and, for each feature that it
    reads, the extract steps and weights that it takes.
    """
    count = len(run.choices)
    run_under = f"{plan.scheduler} {plan.spacing} {plan.steps} {count}"
    chain = hashlib.sha256(f"{plan.architecture.signature} {run_under}".encode())
    extracts: list[int] = []
    made = []
    for i, choice in enumerate(run.choices):
        if choice:
            mask = plan.mask(choice)
            entries = mask.effective(plan.architecture).entries
            read = sorted(liveness(plan.architecture, mask).reads)
            sources = tuple(extracts[-plan.rule.history :]) if read else ()
            weights = [plan.rule.coefficients(i, sources, feature) for feature in read]
            chain.update(repr((entries, sources, weights)).encode())
        else:
            extracts.append(i)
            chain.update(b"extract")
        made.append(chain.digest())
    return tuple(made)


def shared(known: Any, hashes: tuple[bytes, ...], run: Run) -> tuple[int, frozenset[int]]:
    """How many first evaluations are among the `known` hashes, and which of them are to be computed nonetheless."""
    length = next((i for i, each in enumerate(hashes) if each not in known), len(hashes))
    read = {source for (source, _), last in run.last_read.items() if source < length <= last}
    return length, frozenset(read)


class Recording:
    """UNet outputs of earlier runs in files under `folder`, at most `limit` bytes of them; the longest unused go first.
    Processes that share the folder share what they recorded; without one it is a temporary folder of this process.

    A recording belongs to one pipeline: its weights, its scheduler and the guidance are not looked at. The first input
    of a run is, so that runs of other prompts, noise or sizes never meet. computed, replayed: UNet evaluations of this
    process so far.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit = limit
        self.computed = self.replayed = 0
        self._folder = folder
        self._names: dict[Path, frozenset[bytes]] = {}

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="explorer-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    @property
    def size(self) -> int:
        """Bytes of all its files now."""
        return sum(size for _, size, _ in self._files())

    def begin(self, plan: InheritancePlan, run: Run, arguments: Mapping[str, Any]) -> Replay | None:
        """The replay of one run; None for one whose inputs are more than its latents and its words."""
        if any(value is not None for name, value in arguments.items() if name not in REPLAYED):
            return None
        return Replay(self, _digest(arguments), beginnings(plan, run), run)

    def find(self, inputs: bytes, hashes: tuple[bytes, ...], run: Run) -> tuple[int, dict[int, Tensor]]:
        """How long the run's beginning is known, and the outputs of it that need not be computed. The files that they
        are in count as used now."""
        while True:
            places = self._places(inputs)
            length, computed = shared(places, hashes, run)
            found: dict[int, Tensor] = {}
            opened: dict[Path, Any] = {}
            try:
                for i in sorted({*range(length)} - computed):
                    path = places[hashes[i]]
                    if path not in opened:
                        opened[path] = _open(path)
                    found[i] = opened[path].get_tensor(hashes[i].hex())
            except UNREADABLE:  # another process has dropped it, or it is damaged
                self._names[path] = frozenset()
                continue
            for path in opened:
                with contextlib.suppress(OSError):
                    os.utime(path)
            return length, found

    def keep(self, inputs: bytes, own: bytes, outputs: Mapping[bytes, Tensor]) -> None:
        """Keep what a run has computed. own: of the run, whose outputs are kept and dropped together."""
        content = save({at.hex(): output for at, output in outputs.items()})
        if len(content) > self.limit:
            return
        # It only saves time: where it cannot be written, what else is written will say so.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{inputs.hex()[:NAME]}-{own.hex()[:NAME]}.safetensors"
            room = self.size + shutil.disk_usage(self.folder).free - SPARED
            self._drop_to(min(self.limit, room) - len(content))
            if len(content) <= room:
                write_whole(path, content)
                self._names.pop(path, None)

    def _drop_to(self, limit: int) -> None:
        """Take away the longest unused files until no more than `limit` bytes are left."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= limit:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each was used last, its bytes and its path; the longest unused first."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        return sorted(found)

    def _places(self, inputs: bytes) -> dict[bytes, Path]:
        """Which file the output of each beginning of such a run is in."""
        found: dict[bytes, Path] = {}
        paths = set(self.folder.glob(f"{inputs.hex()[:NAME]}-*.safetensors"))
        for path in [each for each in self._names if each.name.startswith(inputs.hex()[:NAME]) and each not in paths]:
            del self._names[path]  # dropped meanwhile
        for path in paths:
            if path not in self._names:
                with contextlib.suppress(*UNREADABLE):
                    self._names[path] = frozenset(map(bytes.fromhex, _open(path).keys()))
            for at in self._names.get(path, ()):
                found[at] = path
        return found


class Replay:
    """One run at work. `output(i)` is asked before each evaluation, `keep(i, output)` after each that was computed."""

    def __init__(self, recording: Recording, inputs: bytes, hashes: tuple[bytes, ...], run: Run) -> None:
        self.recording, self.inputs, self.hashes = recording, inputs, hashes
        self.length, self._found = recording.find(inputs, hashes, run)
        self._made: dict[bytes, Tensor] = {}

    def output(self, i: int) -> Tensor | None:
        """What evaluation i gave before; None where it is to be computed."""
        found = self._found.get(i)
        self.recording.replayed += found is not None
        return found

    def keep(self, i: int, output: Tensor) -> None:
        self.recording.computed += 1
        if i >= self.length:
            self._made[self.hashes[i]] = output.detach().to("cpu", copy=True).contiguous()
            if i == len(self.hashes) - 1:
                self.recording.keep(self.inputs, self.hashes[-1], self._made)


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")


def _digest(arguments: Mapping[str, Any]) -> bytes:
    """Of a run's first inputs; one small copy from the device a run."""
    made = hashlib.sha256()
    given = {**arguments, **(arguments.get("added") or {})}
    for name in sorted(given):
        value = given[name]
        if isinstance(value, Tensor):
            held = value.detach().cpu().contiguous()
            made.update(f"{name} {tuple(held.shape)} {held.dtype}".encode())
            made.update(held.flatten().view(torch.uint8).numpy().tobytes())
        elif name != "added":
            made.update(f"{name} {value!r}".encode())
    return made.digest()
