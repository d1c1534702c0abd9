"""Compile modes: how the variants of a plan are run, what each mode needs, and the compiler's part of it."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from explorer.errors import CompileError, DeviceError, ExplorerError, PlanError, brief

if TYPE_CHECKING:
    import torch

CompileMode = Literal["off", "default", "cudagraphs", "cudagraphs-eager"]
COMPILE_MODES: tuple[CompileMode, ...] = get_args(CompileMode)
_ALIASES: dict[Any, CompileMode] = {False: "off", True: "default", None: "off", "no": "off"}


def compile_mode(value: Any) -> CompileMode:
    """The mode that `value` names: False and `no` are `off`, True is `default`.

    off: eager. default: each variant compiled whole (`torch.compile(fullgraph=True)`). cudagraphs: compiled variants
    over static buffers, each captured as one CUDA graph. cudagraphs-eager: captured without the compiler, for
    a search that cannot wait for it at every plan.

    Raises:
        PlanError: for any other value.
    """
    if isinstance(value, bool | str | None) and (mode := _ALIASES.get(value, value)) in COMPILE_MODES:
        found: CompileMode = mode
        return found
    raise PlanError(f"unknown compile mode {value!r}; use one of {', '.join(COMPILE_MODES)}.")


def uses_compiler(mode: CompileMode) -> bool:
    return mode in ("default", "cudagraphs")


def uses_graphs(mode: CompileMode) -> bool:
    return mode in ("cudagraphs", "cudagraphs-eager")


def check_mode(mode: CompileMode, device: torch.device) -> None:
    """Raise DeviceError when `mode` cannot be had on `device`: the wrong kind of one, or no compiler."""
    if uses_graphs(mode) and device.type != "cuda":
        raise DeviceError(f"CUDA graphs need a CUDA GPU, and the device is {device}; use the mode default or off.")
    if uses_compiler(mode):
        check_compiler(device)


def check_compiler(device: torch.device) -> None:
    """Raise DeviceError when the compiler's backend for `device` is missing: Triton for a GPU, C++ for a CPU."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise DeviceError(
                f"compiling for {device} needs Triton and a GPU that it supports; install triton, or use the compile "
                "mode off or cudagraphs-eager."
            )
    elif device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except (InvalidCxxCompiler, RuntimeError) as error:
            raise DeviceError(
                "compiling for the CPU needs a C++ compiler, and none was found; install one (g++ or clang), or use "
                "the compile mode off."
            ) from error


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
        from explorer.buffers import form_of

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
    import torch

    try:
        yield
    except (ExplorerError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        inner = getattr(error, "inner_exception", error)  # the backend's own
        if isinstance(inner, torch.OutOfMemoryError):
            raise inner from error
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
