"""Runs that begin as an earlier one did: the UNet's outputs of the shared evaluations are replayed, not computed.

Two plans whose first choices, masks and weights are equal make equal outputs from equal inputs until they part. The
outputs are given back to the pipeline, so that its scheduler goes through the same states to the bit, whichever it is.
Extract steps of the shared beginning are computed all the same where a later step still reads their features.

For pictures alone: a latency that is measured must not be replayed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from explorer.plan import InheritancePlan, Run

REPLAYED = frozenset(("sample", "timestep", "context", "added"))
"""What a run's inputs are told apart by; one that gives the UNet anything else is not replayed."""


def beginnings(plan: InheritancePlan, run: Run) -> tuple[bytes, ...]:
    """For each evaluation the hash of all that was done until then: equal for runs that are equal so far.

    An extract step does the same whatever it stores; an inherit step is told by its mask and, for each feature, the
    extract steps and weights that it takes.
    """
    count = len(run.choices)
    chain = hashlib.sha256(f"{plan.architecture.signature} {plan.scheduler} {plan.steps} {count}".encode())
    extracts: list[int] = []
    made = []
    for i, choice in enumerate(run.choices):
        if choice:
            entries = plan.mask(choice).effective(plan.architecture).entries
            sources = tuple(extracts[-plan.rule.history :])
            weights = [plan.rule.coefficients(i, sources, feature) for feature in entries]
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
    """UNet outputs of earlier runs, at most `limit` bytes of them, in the main memory; the longest unused ones go
    first.

    A recording belongs to one pipeline: its weights, its scheduler and the guidance are not looked at. The first input
    of a run is, so that runs of other prompts, noise or sizes never meet. computed, replayed: UNet evaluations so far.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self.computed = self.replayed = 0
        self._segments: OrderedDict[tuple[bytes, bytes], dict[bytes, Tensor]] = OrderedDict()
        self._places: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

    def begin(self, plan: InheritancePlan, run: Run, arguments: Mapping[str, Any]) -> Replay | None:
        """The replay of one run; None for one whose inputs are more than its latents and its words."""
        if any(value is not None for name, value in arguments.items() if name not in REPLAYED):
            return None
        return Replay(self, _digest(arguments), beginnings(plan, run), run)

    def find(self, inputs: bytes, at: bytes) -> Tensor | None:
        place = self._places.get((inputs, at))
        return None if place is None else self._segments[place][at]

    def touch(self, inputs: bytes, hashes: tuple[bytes, ...]) -> None:
        """Keep a run's beginning longer than what follows it."""
        for at in reversed(hashes):
            place = self._places.get((inputs, at))
            if place is not None:
                self._segments.move_to_end(place)

    def keep(self, inputs: bytes, own: bytes, at: bytes, output: Tensor) -> None:
        """own: of the run, whose outputs are kept and dropped together."""
        place, held = (inputs, own), output.detach().to("cpu", copy=True)
        if (inputs, at) in self._places or held.nbytes > self.limit:
            return
        self._segments.setdefault(place, {})[at] = held
        self._places[inputs, at] = place
        self.bytes += held.nbytes
        while self.bytes > self.limit:
            (digest, _), dropped = self._segments.popitem(last=False)
            for each, tensor in dropped.items():
                del self._places[digest, each]
                self.bytes -= tensor.nbytes


class Replay:
    """One run at work. `output(i)` is asked before each evaluation, `keep(i, output)` after each that was computed."""

    def __init__(self, recording: Recording, inputs: bytes, hashes: tuple[bytes, ...], run: Run) -> None:
        self.recording, self.inputs, self.hashes = recording, inputs, hashes
        known = {at for at in hashes if recording.find(inputs, at) is not None}
        self.length, self.computed = shared(known, hashes, run)
        recording.touch(inputs, hashes)

    def output(self, i: int) -> Tensor | None:
        """What evaluation i gave before; None where it is to be computed."""
        if i >= self.length or i in self.computed:
            return None
        found = self.recording.find(self.inputs, self.hashes[i])
        assert found is not None, "a beginning is not dropped while its run goes on"
        self.recording.replayed += 1
        return found

    def keep(self, i: int, output: Tensor) -> None:
        self.recording.computed += 1
        if i >= self.length:
            self.recording.keep(self.inputs, self.hashes[-1], self.hashes[i], output)


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
