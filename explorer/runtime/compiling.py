"""The compiler: variants compiled, and what it raises explained."""

from __future__ import annotations

import sys
import types
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from explorer.errors import CompileError, ExplorerError, brief
from explorer.memory import lack_of_memory


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


def _compiled(variant: Any, name: str) -> Any:
    import torch

    call = type(variant).__call__
    code = call.__code__.replace(co_name=name)
    own = types.FunctionType(code, call.__globals__, code.co_name, call.__defaults__, call.__closure__)
    return torch.compile(types.MethodType(own, variant), fullgraph=True, dynamic=False)
