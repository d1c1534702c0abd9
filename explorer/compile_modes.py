"""Compile modes: how the steps of a plan are run, and what each mode needs of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from explorer.errors import DeviceError, PlanError

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
