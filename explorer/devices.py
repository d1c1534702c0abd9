"""Devices and dtypes by name, the facts about a device that every measurement carries, and one clock for all of
them.
"""

from __future__ import annotations

import functools
import itertools
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from explorer.errors import DeviceError

if TYPE_CHECKING:
    import torch

CYCLES = 3e9
"""Cycles a second of a hold: above the clock of any GPU, so that none holds for less than was asked for."""
BLOCK_HOLD = 2e-4
"""Seconds that a GPU is held before a block: more than Python and the driver take to launch its first graph."""

DTYPES = ("auto", "float32", "float16", "bfloat16")
_DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class DeviceInfo:
    """What a measurement carries of its device. A study compares kind, name, driver, torch and, on a CPU, threads."""

    kind: str
    name: str
    driver: str
    torch: str
    threads: int
    """CPU threads torch computes with; on a GPU they only feed it."""
    memory: int
    """Bytes of memory of the device, of the machine for a CPU; 0 where it is not known."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device called `name`: auto (CUDA, then MPS, then the CPU), cpu, cuda, cuda:1 or mps.

    Raises DeviceError for another name and for a device that this machine does not have.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("The device mps was asked for, but this machine has no Apple GPU; use auto or cpu.")
        return torch.device("mps")
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if match is None:
        raise DeviceError(f"{name!r} is not a device; use auto, cpu, cuda, cuda:0 (or another number) or mps.")
    if not torch.cuda.is_available():
        raise DeviceError(f"The device {name} was asked for, but torch finds no CUDA GPU here; use auto or cpu.")
    index = int(match[1]) if match[1] else torch.cuda.current_device()
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"The device {name} was asked for, but this machine has {count} CUDA GPU(s), counted from 0.")
    return torch.device("cuda", index)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; auto is float16 on a GPU and float32 on a CPU, where half precision is slower.

    Raises DeviceError for another name and for a dtype that the device does not compute in.
    """
    import torch

    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if name not in DTYPES:
        raise DeviceError(f"{name!r} is not a dtype; use one of {', '.join(DTYPES)}.")
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DeviceError(f"The GPU {device} does not compute in bfloat16; use float16 or float32.")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


@functools.cache
def _cpu_name() -> str:
    """The processor's own name; `platform.processor()` says only x86_64 or nothing on Linux."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()


@functools.cache
def _cuda_driver() -> str:
    """The NVIDIA driver's version: from its kernel module, or where a container hides that, from NVML or nvidia-smi;
    `unknown` where none tells it."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", _DRIVER_FILE.read_text())
    except OSError:
        match = None
    return match[1] if match else _nvml_driver() or _smi_driver() or "unknown"


def _nvml_driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _smi_driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"\d+(?:\.\d+)+", said.strip())  # a line for each GPU, all of one driver
    return match[0] if match else None


def describe(device: torch.device) -> DeviceInfo:
    """The facts about `device` that a measurement carries."""
    import torch

    threads = torch.get_num_threads()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return DeviceInfo(
            "cuda", properties.name, _cuda_driver(), torch.__version__, threads, int(properties.total_memory)
        )
    import psutil

    memory = int(psutil.virtual_memory().total)
    system = f"{platform.system()} {platform.release()}"
    return DeviceInfo(device.type, _cpu_name(), system, torch.__version__, threads, memory)


class DeviceClock(Protocol):
    """Times a call on one device, with the device idle at both ends."""

    def time(self, call: Callable[[], object]) -> float:
        """Seconds that `call` takes until the device has finished its work."""

    def time_block(self, call: Callable[[], object]) -> float:
        """As `time`, of calls in the middle of a loop: a device with a queue is not idle when they begin."""


class CpuClock:
    """The CPU computes before the call returns, so a monotonic clock is enough."""

    def time(self, call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    time_block = time


class CudaClock:
    """CUDA events on the current stream: they mark when the GPU got there, not when Python did."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def time(self, call: Callable[[], object]) -> float:
        return self._time(call, 0.0)

    def time_block(self, call: Callable[[], object]) -> float:
        """The GPU is held until the first launch is in its queue, which takes about 90 us: 4% of four inherit steps."""
        return self._time(call, BLOCK_HOLD)

    def _time(self, call: Callable[[], object], hold: float) -> float:
        import torch

        with torch.cuda.device(self._device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            if hold:
                torch.cuda._sleep(int(hold * CYCLES))
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end)) / 1000


class MpsClock:
    """Synchronised at both ends: one queue, so the wall time between is the work's."""

    def time(self, call: Callable[[], object]) -> float:
        import torch

        torch.mps.synchronize()
        start = time.perf_counter()
        call()
        torch.mps.synchronize()
        return time.perf_counter() - start

    time_block = time


def clock_for(device: torch.device) -> DeviceClock:
    """The clock of `device`. Raises DeviceError for a kind of device that has none."""
    if device.type == "cpu":
        return CpuClock()
    if device.type == "cuda":
        return CudaClock(device)
    if device.type == "mps":
        return MpsClock()
    raise DeviceError(f"There is no clock for the device {device}; measure on cpu, cuda or mps.")


def clock_resolution(device: torch.device) -> float:
    """Seconds that the clock of `device` cannot tell apart."""
    # CUDA's documentation states about half a microsecond for the time between two events.
    return 5e-7 if device.type == "cuda" else time.get_clock_info("perf_counter").resolution


class LapTimer(Protocol):
    """Marks moments of a sequence of calls and tells the seconds between them, without waiting in between."""

    def hold(self, seconds: float = 0.0) -> None:
        """Restart the laps here. A device with a queue is kept busy for about `seconds` first, so that the next calls
        are in its queue before it reaches them."""

    def mark(self) -> None: ...

    def seconds(self) -> list[float]:
        """The laps between the marks, once the device has reached them."""

    @property
    def late(self) -> bool:
        """Whether a hold was over before what came after it had been called."""


class WallLaps:
    """Laps by a monotonic clock, after `wait` has seen the device idle."""

    late = False

    def __init__(self, wait: Callable[[], object] = lambda: None) -> None:
        self._wait = wait
        self._chains: list[list[float]] = [[]]

    def hold(self, seconds: float = 0.0) -> None:
        self._chains.append([])
        self.mark()

    def mark(self) -> None:
        self._wait()
        self._chains[-1].append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [after - before for chain in self._chains for before, after in itertools.pairwise(chain)]


class CudaLaps:
    """Laps between CUDA events in the current stream. An event takes the GPU 1 to 2 us itself: each hold is followed by
    an empty lap, and the median of these is taken off every other lap."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._chains: list[list[torch.cuda.Event]] = [[]]
        self._held = self._late = False

    def hold(self, seconds: float = 0.0) -> None:
        import torch

        self._look()
        with torch.cuda.device(self._device):
            if seconds:
                torch.cuda._sleep(int(seconds * CYCLES))
        self._held = seconds > 0
        self._chains.append([])
        self.mark()
        self.mark()

    def mark(self) -> None:
        import torch

        with torch.cuda.device(self._device):
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self._chains[-1].append(event)

    def seconds(self) -> list[float]:
        import torch

        self._look()
        self._held = False
        torch.cuda.synchronize(self._device)
        first, *held = (
            [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(chain)] for chain in self._chains
        )
        empty = statistics.median(laps[0] for laps in held) if held else 0.0
        return [max(0.0, lap - empty) for lap in (*first, *(lap for laps in held for lap in laps[1:]))]

    @property
    def late(self) -> bool:
        return self._late

    def _look(self) -> None:
        """Whether the GPU has begun with the chain in hand already, now that all of it was called."""
        if self._held and self._chains[-1]:
            self._late |= self._chains[-1][0].query()


def lap_timer(device: torch.device) -> LapTimer:
    """A lap timer for `device`. Raises DeviceError for a kind of device that has none."""
    clock_for(device)
    if device.type == "cuda":
        return CudaLaps(device)
    if device.type == "mps":
        import torch

        return WallLaps(torch.mps.synchronize)
    return WallLaps()
