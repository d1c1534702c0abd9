"""What a call gives torch to compute."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_KERNELS = ("empty", "_unsafe_view", "detach", "lift_fresh")
"""Operations that launch nothing, beside views."""


class Dispatched(TorchDispatchMode):
    """The operations of ATen that are called within it, in order: the `names` of all, and `kernels`, those of them that
    a GPU would launch something for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.kernels: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.names.append(name)
        if not function.is_view and not name.startswith(NO_KERNELS):
            self.kernels.append(name)
        return function(*args, **(kwargs or {}))


class Allocated(TorchDispatchMode):
    """The tensors with memory of their own that are made within it."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[weakref.ref[torch.Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {storage_of(each) for each in tree_leaves((args, kwargs or {})) if isinstance(each, torch.Tensor)}
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor) and storage_of(each) not in given:
                self._made.append(weakref.ref(each))
        return result

    def alive(self) -> list[torch.Tensor]:
        """Those that something still refers to."""
        return [made for each in self._made if (made := each()) is not None]


def storage_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
