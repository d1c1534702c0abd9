"""Static buffers: tensors that keep their place in memory, so that a captured graph can be replayed over them.

Nothing here needs a GPU; `explorer.runtime.graphs` captures what reads and writes these buffers.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from explorer.plans.rules import Rule
from explorer.unet.variant import Feature, Features


def form_of(arguments: Any) -> Hashable:
    """What must be equal for two calls to share buffers: shapes, strides and dtypes of the tensors in `arguments` (any
    nesting of lists, tuples and dicts), and every other value as it is."""
    leaves, structure = tree_flatten(arguments)
    parts: list[Hashable] = [repr(structure)]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            parts.append((leaf.shape, leaf.stride(), leaf.dtype))
        else:
            parts.append(leaf if isinstance(leaf, Hashable) else repr(leaf))
    return tuple(parts)


class StaticInputs:
    """A call's arguments with every tensor in a buffer of its own on `device`; other values stay as they were.

    Args:
        arguments: Of the first call, by name.
        device: Of the buffers.
        steady: Names of arguments that are usually the same tensors at every step of a run: one that was not written to
            since is not copied again, until `forget`.
    """

    def __init__(self, arguments: dict[str, Any], device: torch.device, steady: Collection[str] = ()) -> None:
        leaves, structure = tree_flatten(arguments)
        held = [_like(leaf, device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.arguments: Any = tree_unflatten(held, structure)
        self._buffers = [leaf for leaf in held if isinstance(leaf, Tensor)]
        marked = {name: tree_map(lambda _, name=name: name in steady, value) for name, value in arguments.items()}
        marks = zip(tree_flatten(marked)[0], leaves, strict=True)
        self._steady = [mark for mark, leaf in marks if isinstance(leaf, Tensor)]
        self._copied: list[tuple[weakref.ref[Tensor], int] | None]
        self.forget()
        self.fill(arguments)

    def forget(self) -> None:
        """Copy everything at the next call."""
        self._copied = [None] * len(self._buffers)

    def fill(self, arguments: dict[str, Any]) -> None:
        """Copy the tensors of `arguments`, which have the form of the first ones, into the buffers."""
        given = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, Tensor)]
        for i, (buffer, tensor) in enumerate(zip(self._buffers, given, strict=True)):
            if not self._steady[i] or tensor.is_inference():  # which has no version
                buffer.copy_(tensor, non_blocking=True)
                continue
            copied = self._copied[i]
            if copied is None or copied[0]() is not tensor or copied[1] != tensor._version:
                buffer.copy_(tensor, non_blocking=True)
                self._copied[i] = weakref.ref(tensor), tensor._version


class FeatureBuffers:
    """The features of the last `rule.history` extract steps, written and read in place.

    Each feature has one slot an extract step, used in turn; the slot is an index on the device, so that one captured
    graph fills any of them. With a history of one a feature is read where it was written; a forecast is combined, all
    features at once, into a buffer that the inherit step reads.
    """

    def __init__(self, rule: Rule, device: torch.device) -> None:
        self._rule = rule
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._slots: dict[Feature, Tensor] = {}
        self._combined: dict[Feature, Tensor] = {}
        self._sources: dict[int, int] = {}  # evaluation of an extract step -> its slot, in order

    @property
    def sources(self) -> tuple[int, ...]:
        """The evaluations whose features are held, ascending."""
        return tuple(self._sources)

    @property
    def bytes(self) -> int:
        """Bytes of all buffers, filled or not."""
        return sum(t.numel() * t.element_size() for t in (*self._slots.values(), *self._combined.values()))

    def begin(self) -> None:
        """Forget every feature: nothing survives from one run to the next. The buffers stay where they are."""
        self._sources.clear()

    def extract(self, evaluation: int) -> None:
        """The next `write` holds the features of `evaluation`; they take the place of the oldest when all are full."""
        taken = len(self._sources)
        if taken == self._rule.history:
            oldest = next(iter(self._sources))
            slot = self._sources.pop(oldest)
        else:
            slot = taken
        self._sources[evaluation] = slot
        self._slot.fill_(slot)

    def write(self, stored: Features) -> None:
        """Copy an extract step's features into the current slot. Part of a captured graph."""
        for feature, value in stored.items():
            slots = self._slots.get(feature)
            if slots is None:
                slots = self._slots[feature] = _stack(value, self._rule.history)
                if self._rule.history > 1:
                    self._combined[feature] = torch.zeros_like(slots[0])
            if self._rule.history == 1:
                slots[0].copy_(value)
            else:
                slots.index_copy_(0, self._slot, value.unsqueeze(0))

    def combine(self, features: Iterable[Feature], evaluation: int) -> None:
        """Make ready what `read` gives for the inherit step `evaluation`. Runs before a captured graph, as the weights
        differ from step to step; the arithmetic is that of `explorer.runtime.combining.combine`."""
        if self._rule.history == 1:
            return
        names = list(features)
        targets = [self._combined[name] for name in names]
        slots = list(self._sources.values())
        rows = [self._rule.coefficients(evaluation, self.sources, name) for name in names]
        torch._foreach_copy_(targets, [self._slots[name][slots[0]] for name in names])
        if all(row == (1.0,) for row in rows):
            return
        torch._foreach_mul_(targets, [row[0] for row in rows])
        for k, slot in enumerate(slots[1:], 1):
            sources = [self._slots[name][slot] for name in names]
            if all(row[k] == rows[0][k] for row in rows):
                torch._foreach_add_(targets, sources, alpha=rows[0][k])
            else:  # fitted weights are each feature's own
                for target, source, row in zip(targets, sources, rows, strict=True):
                    target.add_(source, alpha=row[k])

    def read(self, features: Iterable[Feature]) -> Mapping[Feature, Tensor]:
        """The buffers that an inherit step reads: the same tensors at every step."""
        if self._rule.history == 1:
            return {feature: self._slots[feature][0] for feature in features}
        return {feature: self._combined[feature] for feature in features}


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.empty_like(tensor, device=device, requires_grad=False)


def _stack(value: Tensor, count: int) -> Tensor:
    """`count` buffers of the shape and memory layout of `value`, as one tensor (count, *shape)."""
    with torch.inference_mode(False):
        layout = torch.empty_like(value, device="meta")
        strides = (value.numel(), *layout.stride())
        stack = torch.empty_strided((count, *value.shape), strides, dtype=value.dtype, device=value.device)
        return stack.zero_()
