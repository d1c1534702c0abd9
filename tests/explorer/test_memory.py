"""Too little memory is said in one sentence, with amounts, and with advice that helps: the free memory is faked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from explorer import memory
from explorer.errors import DeviceError, ScoreError, StudyError
from explorer.memory import (
    WORKING,
    Needed,
    advice,
    asked_for,
    check_memory,
    is_out_of_memory,
    needed_for,
    out_of_memory,
)
from explorer.models import loading
from explorer.models.loading import load_pipeline, weight_bytes

GIB = 2**30
CUDA = "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is free"
CPU = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fakes so many free bytes, on any device."""
    return lambda size: monkeypatch.setattr(memory, "free_memory", lambda _: size)


@pytest.mark.parametrize(
    ("model", "device", "dtype", "gib"),
    [
        ("arch:sd15", "cuda:0", "float16", {"unet": 1.60, "vae": 0.16}),
        ("arch:sd15", "cuda:0", "float32", {"unet": 3.20, "vae": 0.31}),
        ("arch:sd15", "cpu", "float16", {"unet": 3.20, "vae": 0.31}),  # drawn in float32 first
        ("arch:sdxl", "cuda:0", "float16", {"unet": 4.78, "vae": 0.16}),
    ],
)
def test_every_part_counts_as_it_is_loaded(model: str, device: str, dtype: str, gib: dict[str, float]) -> None:
    found = {part: size / GIB for part, size in weight_bytes(model, device=device, dtype=dtype).items()}
    assert found == pytest.approx(gib, abs=0.01)


def test_a_folder_s_parts_are_those_of_its_pipeline() -> None:
    pipe = load_pipeline("emoji")
    for part, size in weight_bytes("emoji").items():
        assert size == sum(4 * each.numel() for each in getattr(pipe, part).state_dict().values())
    assert {"unet", "vae", "text_encoder"} <= set(weight_bytes("emoji"))


@pytest.mark.parametrize(
    ("model", "device", "dtype", "half"),
    [
        ("arch:sd15", "cuda:0", "float32", True),
        ("arch:sd15", "cuda:0", "float16", False),
        ("arch:sdxl", "cpu", "float32", False),
        ("emoji", "cuda:0", "float32", True),
    ],
)
def test_weights_that_do_not_fit_are_said_before_they_are_loaded(
    model: str, device: str, dtype: str, half: bool, free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(2**20)
    monkeypatch.setattr(loading, "_loaded", lambda *_: pytest.fail("loaded"))
    with pytest.raises(DeviceError) as refused:
        load_pipeline(model, device=device, dtype=dtype)
    said = str(refused.value)
    assert f"{model} in {dtype} needs about" in said and "unet" in said and f"are free on {device}" in said
    assert ("--dtype float16" in said) == half
    assert "--batch" not in said and "--resolution" not in said


def test_weights_that_run_out_on_the_way_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: Any) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(loading, "_loaded", out)
    with pytest.raises(DeviceError, match=r"loading emoji in float32 ran out of memory on cpu: 2 GiB more were wanted"):
        load_pipeline("emoji")


@pytest.mark.parametrize("mode", ["off", "default", "cudagraphs-eager"])
def test_features_count_by_mode(mode: Any) -> None:
    needed = needed_for({"a": 10, "b": 30}, mode, copies=3)
    assert needed.features == (160 if mode == "cudagraphs-eager" else 120) and needed.working == WORKING * 30
    assert needed.total > needed.features + needed.working and needed.weights_total == 0


@pytest.mark.parametrize(
    ("device", "dtype", "weights", "told", "untold"),
    [
        ("cuda:0", "float32", False, ("--batch", "--resolution", "float16", "on cuda:0"), ("smaller model",)),
        ("cuda:0", "float16", False, ("--batch", "--resolution"), ("float16", "smaller model")),
        ("cpu", "float32", False, ("--batch", "--resolution"), ("float16",)),
        ("cuda:0", "float32", True, ("float16", "smaller model"), ("--batch", "--resolution")),
        ("cuda:0", "bfloat16", True, ("smaller model",), ("--batch", "float16")),
    ],
)
def test_advice_is_by_cause(
    device: str, dtype: str, weights: bool, told: tuple[str, ...], untold: tuple[str, ...]
) -> None:
    said = advice(device, dtype, weights=weights)
    assert all(word in said for word in told) and not any(word in said for word in untold)


def test_what_fits_or_is_not_known_passes() -> None:
    some = Needed({"unet": 8 * GIB}, features=GIB, working=GIB)
    check_memory(some, 0, "where nothing is known of the memory, anything", device="cuda:0", dtype="float16")
    check_memory(some, some.total, "just enough", device="cuda:0", dtype="float16")
    with pytest.raises(DeviceError, match=r"12.5 GiB \(unet 8, features 1, working set 1 and headroom\) and 11.7 GiB"):
        check_memory(some, int(11.7 * GIB), "this", device="cuda:0", dtype="float16")


@pytest.mark.parametrize(
    ("error", "asked", "where"),
    [
        (torch.OutOfMemoryError(f"CUDA out of memory. {CUDA}"), 2 * GIB, "cuda"),
        (RuntimeError(CPU), GIB, "cpu"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), None, "cpu"),
        (MemoryError(), None, "cpu"),
    ],
)
def test_what_ran_out_says_amounts(error: BaseException, asked: int | None, where: str, free: Any) -> None:
    assert is_out_of_memory(error) and asked_for(error) == asked
    free(3 * GIB)
    said = out_of_memory(error, "this", dtype="float16")
    assert said.startswith(f"this ran out of memory on {where}") and said.endswith(".") and "--batch" in said
    assert ("GiB more were wanted" in said) == (asked is not None)
    assert "3.0 GiB are free" in said or where == "cuda"


def test_what_lies_in_the_pools_of_graphs_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch tells of its segments is faked: no GPU is needed."""
    segments = [
        {"device": 1, "segment_pool_id": (0, 0), "total_size": 10 * GIB, "allocated_size": 4 * GIB},
        {"device": 1, "segment_pool_id": (0, 1), "total_size": 8 * GIB, "allocated_size": 0},
        {"device": 0, "segment_pool_id": (0, 0), "total_size": 2 * GIB, "allocated_size": 0},
    ]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert memory.free_memory(torch.device("cuda", 1)) == 9 * GIB
    assert memory.free_memory(torch.device("cuda")) == 5 * GIB


@pytest.mark.cuda
def test_a_live_graph_s_memory_is_not_free() -> None:
    from explorer.runtime.graphs import capture_graph

    device, large = torch.device("cuda", 0), torch.zeros(2**26, device="cuda")
    graph = capture_graph(lambda: (large + 1).sum(), torch.cuda.graph_pool_handle)
    torch.cuda.synchronize()
    held = memory.free_memory(device)
    del graph
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert memory.free_memory(device) - held > 2**27  # the sum of 256 MiB lay in the graph's pool


def test_another_error_is_none() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_session_says_what_its_loops_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.config import SearchConfig
    from studies.searching import opening, session

    monkeypatch.setattr(opening, "free_memory", lambda _: 2**20)
    config = SearchConfig(model="emoji", device="cpu", latency_batch=64, prompt_count=2, objectives=("latency", "psnr"))
    words = r"emoji at --latency-batch 64, 64x64 px, float32 needs about .*features"
    with pytest.raises(DeviceError, match=words + ".* lower --latency-batch or"):
        session.open_session(config)


def test_a_session_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.config import SearchConfig
    from studies.searching import session

    def out(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(session, "_open", out)
    with pytest.raises(StudyError, match=r"making emoji ready ran out of memory on cpu: 2 GiB more were wanted"):
        session.open_session(SearchConfig(model="emoji", device="cpu"))


def test_an_evaluator_says_what_was_wanted() -> None:
    from studies.scoring.running import plan_explained

    with pytest.raises(ScoreError, match=r"\(2 GiB more were wanted\); start a new study"), plan_explained():
        raise torch.cuda.OutOfMemoryError(CUDA)


def test_a_benchmark_that_runs_out_is_one_sentence() -> None:
    from benchmarks.shared import measure

    def main() -> None:
        raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(SystemExit) as ended:
        measure.run(main)
    assert "error: the benchmark ran out of memory on cuda: 2 GiB more were wanted" in str(ended.value)
