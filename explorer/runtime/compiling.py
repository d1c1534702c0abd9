"""The compiler: variants compiled, and what it raises explained."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from explorer.errors import CompileError, ExplorerError, brief
from explorer.memory import lack_of_memory

if TYPE_CHECKING:
    from torch import nn

CHANNELS_LAST = False
"""Whether compiled modes lay out the weights anew. Off until it is measured: an eager pipeline that shares the modules
computes by the same weights, so it changes what a compiled plan is compared with."""


class Compiled:
    """A variant compiled whole, once for each form of what it is called with, every time under a code object of its
    own. number: of the variant in its plan, for the compiler's logs.

    The compiler limits recompilations by code object, and every variant is another program. Shapes are built in: one
    that had met a second batch size would go on with kernels for any size, also at the first, and what is timed would
    depend on what ran before it.

    Raises CompileError where the compiler fails, as it does at the first call of a form.
    """

    def __init__(self, variant: Any, number: int) -> None:
        self._variant, self._number = variant, number
        self._calls: dict[Hashable, Any] = {}

    def __call__(self, sample: Any, at: Any, inherited: Any) -> Any:
        from explorer.runtime.buffers import form_of

        form = form_of((sample, vars(at)))
        call = self._calls.get(form)
        if call is None:
            call = self._calls[form] = _compiled(self._variant, f"variant_{self._number}_{len(self._calls)}")
        with explained("the compiler failed", "off or cudagraphs-eager"):
            return call(sample, at, inherited)


class ChannelsLast:
    """Lays out the convolution weights of `unet` channels-last, in place, until `restore`. None: of nothing.

    The compiler computes convolutions channels-last. A 3x3 weight that is laid out otherwise is copied at every call,
    as a weight is an input of what is compiled: 1.08 GB at every full step of SD1.5 in half precision.

    Each weight stays the parameter that it is, with its values. It is moved, so captured graphs that read it before are
    not valid any more.
    """

    def __init__(self, unet: nn.Module | None) -> None:
        import torch
        from torch import nn

        self._moved: list[nn.Parameter] = []
        for module in () if unet is None else unet.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Conv2d) and isinstance(weight, nn.Parameter) and _is_plain(weight):
                weight.data = weight.data.to(memory_format=torch.channels_last)
                self._moved.append(weight)

    def restore(self) -> None:
        """Lay out the weights as they were; doing it twice is no error. One that was laid out otherwise since stays."""
        import torch

        moved, self._moved = self._moved, []
        for weight in moved:
            if weight.is_contiguous(memory_format=torch.channels_last):
                weight.data = weight.data.contiguous()


def _is_plain(weight: nn.Parameter) -> bool:
    """Whether the layouts differ, which those of a 1x1 kernel do not, and the weight has the usual one."""
    return weight.shape[2:].numel() > 1 and weight.shape[1] > 1 and weight.is_contiguous()


@contextmanager
def explained(what: str, instead: str) -> Iterator[None]:
    """Turn what the compiler, its tools and a capture raise, of many types, into one CompileError. A lack of memory
    stays what it is. instead: the modes that do without."""
    handled = sys.exception()
    try:
        yield
    except ExplorerError:
        raise
    except Exception as error:
        lack = lack_of_memory(error, handled)
        if lack is error:
            raise
        if lack is not None:
            # Without the chain, which leads from the lack to `error` already.
            raise lack from None
        inner = getattr(error, "inner_exception", error)  # the backend's own
        raise CompileError(
            f"{what} ({type(inner).__name__}: {brief(inner, 400)}); use the compile mode {instead}, or let the plan "
            "run eager where that happens: inherit(..., fallback=True)."
        ) from error


def compiled_function(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function compiled whole, for calls of one form. name: for the compiler's logs.

    Raises:
        CompileError: At the first call, where the compiler fails.
    """
    import torch

    compiled = torch.compile(_with_own_code(function, name), fullgraph=True, dynamic=False)

    def call(*given: Any, **named: Any) -> Any:
        with explained("the compiler failed", "off or cudagraphs-eager"):
            return compiled(*given, **named)

    return call


def _compiled(variant: Any, name: str) -> Any:
    import torch

    own = _with_own_code(type(variant).__call__, name)
    return torch.compile(types.MethodType(own, variant), fullgraph=True, dynamic=False)


def _with_own_code(call: Any, name: str) -> Any:
    """The function with a code object of its own, which the compiler counts its compilations by."""
    code = call.__code__.replace(co_name=name)
    return types.FunctionType(code, call.__globals__, code.co_name, call.__defaults__, call.__closure__)
