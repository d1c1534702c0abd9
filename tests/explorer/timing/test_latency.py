"""Side-by-side timing on the CPU: the order, the counts, and whether a known ratio is found."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from explorer import devices
from explorer.devices import DTYPES, clock_for, describe, resolve_device, resolve_dtype
from explorer.errors import DeviceError, ScoreError
from explorer.estimate import Estimate
from explorer.timing.latency import Latency, compare

CPU = torch.device("cpu")


class Simulated:
    """A clock that only the test moves on, so that a busy machine does not count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("explorer.timing.latency.clock_for", lambda device: self)

    def time(self, call: Callable[[], object]) -> float:
        began = self.now
        call()
        return self.now - began


def test_calls_alternate_and_swap_after_the_warmups(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = Simulated(monkeypatch)

    def run(name: str, seconds: float) -> None:
        calls.append(name)
        clock.now += seconds

    measured = compare(lambda: run("A", 0.004), lambda: run("B", 0.002), device=CPU, images=2, pairs=4)
    assert "".join(calls) == "BBBBB" + "AAAAA" + "AB" + "BA" + "AB" + "BA"
    assert len(measured.samples) == 4
    assert all(baseline > candidate for baseline, candidate in measured.samples)
    assert measured.speedup.value == pytest.approx(2)
    assert measured.seconds.value == pytest.approx(0.001)
    assert measured.speedup.low <= measured.speedup.value <= measured.speedup.high
    assert measured.speedup.n == 4


def test_a_warm_baseline_is_not_warmed_again() -> None:
    calls: list[str] = []
    compare(
        lambda: (calls.append("A"), time.sleep(0.0005)),
        lambda: (calls.append("B"), time.sleep(0.0005)),
        device=CPU,
        images=1,
        pairs=3,
        baseline_warm=True,
        tolerance=1e6,  # no pair is taken again, however busy the machine
    )
    assert calls.count("A") == 3
    assert calls.count("B") == 8


def test_the_ratio_is_taken_within_pairs_so_drift_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slows down threefold meanwhile; medians of the two sides alone would still differ by their order."""
    clock, slower = Simulated(monkeypatch), [0.002]

    def run(factor: float) -> None:
        clock.now += slower[0] * factor
        slower[0] *= 1.04

    measured = compare(lambda: run(2), lambda: run(1), device=CPU, images=1, pairs=8, baseline_warm=True)
    assert measured.speedup.value == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"warmups": 4}, {"pairs": 2}, {"images": -1}])
def test_numbers_below_what_a_measurement_needs_are_refused(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ScoreError, match=f"{name}={wrong[name]}"):
        compare(lambda: None, lambda: None, device=CPU, **{"images": 1, **wrong})


def test_latency_survives_json() -> None:
    measured = compare(lambda: time.sleep(0.001), lambda: time.sleep(0.001), device=CPU, images=3, pairs=3)
    assert Latency.from_json(json.loads(json.dumps(measured.to_json()))) == measured


@pytest.mark.parametrize("document", [{}, {"seconds": 1}, None, {"seconds": {"value": 1}}])
def test_a_document_that_is_no_latency_is_refused(document: object) -> None:
    with pytest.raises(ScoreError, match="is not"):
        Latency.from_json(document)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [(float("nan"), 0, 1, 1), (float("inf"), 0, float("inf"), 1), (2, 0, 1, 1), (0.5, 0, 1, 0)]
)
def test_an_estimate_that_says_nothing_is_refused(numbers: tuple[float, float, float, int]) -> None:
    with pytest.raises(ScoreError):
        Estimate(*numbers)


def test_cpu_by_name_and_by_auto() -> None:
    assert resolve_device("cpu") == CPU
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "CPU", "cpu:0", "meta", "cuda:-1"])
def test_other_device_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is not a device"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(DeviceError, match=f"{name} was asked for"):
        resolve_device(name)


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name: str) -> None:
    expected = torch.float32 if name == "auto" else getattr(torch, name)
    assert resolve_dtype(name, CPU) is expected


def test_another_dtype_is_refused() -> None:
    with pytest.raises(DeviceError, match="'half' is not a dtype"):
        resolve_dtype("half", CPU)


def test_the_facts_of_the_cpu() -> None:
    facts = describe(CPU)
    assert (facts.kind, facts.torch, facts.threads) == ("cpu", torch.__version__, torch.get_num_threads())
    assert facts.name and facts.driver
    assert facts.memory > 1e8
    assert json.loads(json.dumps(facts.to_json()))["name"] == facts.name


MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12\n"


@pytest.mark.parametrize(
    ("file", "nvml", "smi", "expected"),
    [
        (MODULE, "570.1", "580.65.06", "550.54.15"),
        (None, "570.86.15", "580.65.06", "570.86.15"),
        (None, b"470.199.02", None, "470.199.02"),
        (None, None, "580.65.06", "580.65.06"),
        (None, OSError("no library"), "580.65.06", "580.65.06"),
        ("unreadable", None, "NVIDIA-SMI has failed", "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_the_driver_is_told_by_who_knows_it(
    file: str | None,
    nvml: str | bytes | OSError | None,
    smi: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_DRIVER_FILE", tmp_path / "version")
    if file is not None:
        (tmp_path / "version").write_text(file)
    monkeypatch.setitem(sys.modules, "pynvml", None if nvml is None else nvml_that_says(nvml))
    monkeypatch.setenv("PATH", str(tmp_path))
    if smi is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{smi}'\necho '{smi}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    devices._cuda_driver.cache_clear()
    try:
        assert devices._cuda_driver() == expected
    finally:
        devices._cuda_driver.cache_clear()


def nvml_that_says(answer: str | bytes | OSError) -> Any:
    """NVML's Python module as far as it is asked; there is no GPU that the real one would find."""

    def version() -> str | bytes:
        if isinstance(answer, OSError):
            raise answer
        return answer

    module: Any = ModuleType("pynvml")
    module.NVMLError = OSError
    module.nvmlInit = module.nvmlShutdown = lambda: None
    module.nvmlSystemGetDriverVersion = version
    return module


def test_a_gpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(DeviceError, match="cuda:0 does not compute in bfloat16; use float16 or float32"):
        resolve_dtype("bfloat16", torch.device("cuda", 0))
    assert resolve_dtype("float16", torch.device("cuda", 0)) == torch.float16
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16


def test_a_device_without_a_clock_is_refused() -> None:
    with pytest.raises(DeviceError, match="no clock"):
        clock_for(torch.device("meta"))


@pytest.mark.cuda
def test_the_cuda_clock_waits_for_the_gpu() -> None:
    device = torch.device("cuda", 0)
    matrix = torch.randn(4096, 4096, device=device)
    clock = clock_for(device)
    clock.time(lambda: matrix @ matrix)
    once, ten = clock.time(lambda: matrix @ matrix), clock.time(lambda: [matrix @ matrix for _ in range(10)])
    assert 4 < ten / once < 20
