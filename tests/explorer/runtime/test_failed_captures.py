"""Captures that fail: one sentence or eager from there on, on the stream from before, and memory that ran out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from explorer import CompileError, Inheritance, InheritancePlan, inherit
from explorer.errors import CaptureError
from explorer.plans.schedule import Segments
from explorer.runtime import graphs
from explorer.runtime.graphs import StaticSteps, capture_graph
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from explorer.unet.program import Program
from tests.conftest import make_pipeline, make_unet
from tests.explorer.runtime.small_runs import latents, plan_for
from tests.explorer.unet.test_program import call


@pytest.mark.parametrize("fails", [0, 1])
def test_a_capture_that_fails(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step is the extract step or the inherit step: one sentence, or eager from there on."""
    count = 0

    def capture(step: Callable[[], torch.Tensor], _: Any) -> Callable[[], torch.Tensor]:
        nonlocal count
        count += 1
        if count == fails + 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return step

    unet = make_unet()
    architecture, mask = Architecture.of(unet), Mask.of(["mid.attn", "up2.l0.res"])
    plan = InheritancePlan(architecture, 3, (mask,), Segments.of([0, 1, 1]))
    extracts = InheritancePlan(architecture, 3, (mask,), Segments.of([0, 0, 1] if fails else [0, 1, 1]))
    with inherit(unet, extracts) as handle:
        handle.begin(3)
        expected = [call(unet, seed) for seed in range(3)]
    usable = Inheritance._usable_mode
    for fallback in (False, True):
        count = 0
        with inherit(unet, plan, fallback=fallback) as handle, monkeypatch.context() as patch:
            handle._idle.append(StaticSteps(Program(unet), plan, compile=False, capture=capture))
            asked = "cudagraphs-eager"  # as if the device were a GPU
            patch.setattr(Inheritance, "_usable_mode", lambda self: usable(self) if self._failed else asked)  # noqa: B023
            handle.begin(3)
            if not fallback:
                with pytest.raises(CompileError, match="mode cudagraphs-eager cannot be had: a step could not be capt"):
                    [call(unet, seed) for seed in range(3)]
                continue
            with pytest.warns(UserWarning, match="not permitted when stream is capturing.*runs eager"):
                found = [call(unet, seed) for seed in range(3)]
            handle.begin(3)
            assert handle._mode == "off" and not handle._idle
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def waiting_captures() -> None:
    """On a GPU: a step that reads a value on the host cannot be captured, and what runs after it is on the stream that
    was there before."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    class Waiting(AttnProcessor2_0):
        def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            assert hidden_states.isfinite().all().item()
            return super().__call__(attn, hidden_states, *args, **kwargs)

    pipe = make_pipeline().to("cuda")
    pipe.unet.set_attn_processor(Waiting())
    plan = plan_for(pipe)
    before = torch.cuda.current_stream()
    with inherit(pipe, plan):
        expected = latents(pipe)
    mode = "cudagraphs-eager"
    with inherit(pipe, plan, compile=mode), pytest.raises(CompileError, match="could not be captured"):
        latents(pipe)
    assert torch.cuda.current_stream() == before
    if graphs.recovers():
        with inherit(pipe, plan, compile=mode, fallback=True), pytest.warns(UserWarning, match="runs eager"):
            assert torch.equal(latents(pipe), expected)
    else:
        with inherit(pipe, plan, compile=mode, fallback=True), pytest.raises(CaptureError, match="start a new process"):
            latents(pipe)
    assert torch.cuda.current_stream() == before


@pytest.mark.cuda
def test_a_step_that_waits_for_the_gpu_cannot_be_captured() -> None:
    """In a process of its own: a torch that does not recover would fail the tests after this one."""
    code = "from tests.explorer.runtime.test_failed_captures import waiting_captures; waiting_captures()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr


class FakeGpu:
    """The streams of one thread, and a graph whose capture cannot be ended, as after a step that waits for the GPU.
    `torch.cuda.graph` itself is the installed one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stream: Any = "default"
        self.streams = 0
        for name in ("synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda *_: None)
        for name in ("_host_emptyCache", "_cuda_clearCublasWorkspaces"):
            patch.setattr(torch._C, name, lambda: None, raising=False)
        patch.setattr(torch.cuda, "current_stream", lambda *_: self)
        patch.setattr(torch.cuda, "set_stream", self.set)
        patch.setattr(torch.cuda, "Stream", self.new)
        patch.setattr(torch.cuda, "stream", self.on)
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda.graph, "default_capture_stream", None)
        self.patch = patch

    def new(self) -> Any:
        self.streams += 1
        return FakeStream(f"stream {self.streams}", self)

    def set(self, stream: Any) -> None:
        self.stream = "default" if stream is self else stream.name

    def on(self, stream: Any) -> Any:
        return stream

    def wait_stream(self, _: Any) -> None: ...

    def capture_begin(self, *_: Any, **__: Any) -> None: ...

    def capture_end(self) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


class FakeStream:
    def __init__(self, name: str, gpu: FakeGpu) -> None:
        self.name, self._gpu, self._before = name, gpu, ""

    def __enter__(self) -> None:
        self._before, self._gpu.stream = self._gpu.stream, self.name

    def __exit__(self, *_: Any) -> None:
        self._gpu.stream = self._before

    def wait_stream(self, _: Any) -> None: ...


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    yield FakeGpu(monkeypatch)


def test_the_installed_torch_stays_on_the_capture_s_stream(gpu: FakeGpu) -> None:
    """Why `_left_on_failure` exists. Where this fails torch has fixed it: that function can go once the oldest torch
    that is supported has the fix."""
    with pytest.raises(RuntimeError, match="during capture"), torch.cuda.graph(gpu):  # type: ignore[arg-type]
        pass
    assert gpu.stream != "default"


def failing_step(gpu: FakeGpu, error: Exception) -> Callable[[], torch.Tensor]:
    """A step that fails in its capture alone."""
    calls = 0

    def step() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 1 + graphs.WARMUPS:
            assert gpu.stream != "default"
            raise error
        return torch.zeros(1)

    return step


def test_what_runs_after_a_capture_that_failed_is_on_the_stream_from_before(gpu: FakeGpu) -> None:
    with pytest.raises(RuntimeError, match="during capture"):
        capture_graph(failing_step(gpu, ValueError("no capture")), lambda: (0, 0))
    assert gpu.stream == "default"


@pytest.mark.parametrize(("version", "known"), [("2.11.0+cu128", False), ("2.14.1+cu130", True), ("2.15.0", True)])
def test_a_torch_that_may_not_recover_is_not_used_further(
    version: str, known: bool, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch is not known to end a capture that failed, a fallback is refused."""
    monkeypatch.setattr(torch, "__version__", version)
    assert graphs.recovers() == known
    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 1)
    usable = Inheritance._usable_mode
    monkeypatch.setattr(Inheritance, "_usable_mode", lambda self: usable(self) if self._failed else "cudagraphs-eager")

    def capture(_: Callable[[], torch.Tensor], pool: Any) -> Callable[[], torch.Tensor]:
        return capture_graph(failing_step(gpu, ValueError("no capture")), lambda: (0, 0))

    with inherit(unet, plan, fallback=True) as handle:
        handle._idle.append(StaticSteps(Program(unet), plan, compile=False, capture=capture))
        handle.begin(1)
        if known:
            with pytest.warns(UserWarning, match="runs eager"):
                call(unet)
        else:
            with pytest.raises(CaptureError, match=r"torch 2.11.0.* start a new process .* torch 2.14 or newer"):
                call(unet)
    assert gpu.stream == "default"


@pytest.mark.parametrize("version", ["2.11.0", "2.14.1"])
def test_memory_that_runs_out_in_a_capture_is_no_failure_of_the_capture(
    version: str, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending the capture that it broke raises another error in its place."""
    monkeypatch.setattr(torch, "__version__", version)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(torch.OutOfMemoryError) as caught, graphs.explained("it failed", "off"):
        capture_graph(failing_step(gpu, full), lambda: (0, 0))
    assert caught.value is full and gpu.stream == "default"


def test_memory_that_ran_out_before_is_not_this_failure_s() -> None:
    """One who tries again after it sees what fails now."""
    try:
        raise torch.OutOfMemoryError("full")
    except torch.OutOfMemoryError:
        with pytest.raises(CompileError, match="ValueError: no such kernel"), graphs.explained("it failed", "off"):
            raise ValueError("no such kernel")  # noqa: B904
