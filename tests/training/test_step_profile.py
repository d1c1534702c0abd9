"""What a training will take: memory by its batch, the batch that fits, and the time of a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import Student
from explorer.errors import DeviceError, TrainingError
from tests.explorer.tiny_pipelines import sd
from training import step_profile
from training.distill import Pair, Settings, initial, make_loss, trainable
from training.loop import Budget
from training.step_profile import (
    MOST,
    Prediction,
    StepMemory,
    chosen_batch,
    load_prediction,
    peak_bytes,
    predict,
    save_prediction,
)
from training.teacher_data import Examples, teacher_runs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.fixture(scope="module")
def examples(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return teacher_runs(pipe, ["a cat"], 2, tmp_path_factory.mktemp("runs"), guidance=3.0)


@pytest.fixture(scope="module")
def begun(pipe: Any) -> Student:
    return initial(Student.named("M1", pipe.unet), pipe.unet, ("dn0", "up3"))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the free bytes of which a training may take half."""
    return lambda size: monkeypatch.setattr(step_profile, "free_memory", lambda device: 2 * size)


def test_the_peak_is_what_is_held_at_once() -> None:
    kept = torch.ones(1000)
    with peak_bytes(CPU) as peak:
        first = kept * 2  # 4,000 bytes
        second = first.view(10, 100)  # the same ones
        del first, second
        third = kept + 1
        third.mul_(2)
        both = (third, kept - 1)
    assert peak[0] == 8000 and len(both) == 2


def peak_of(pipe: Any, begun: Student, examples: Examples, batch: int, checkpointing: bool = False) -> int:
    network, parameters = trainable(begun, pipe.unet)
    pair = Pair(pipe.unet, network, begun.removed, checkpointing=checkpointing)
    loss = make_loss(pair, examples, pipe.scheduler, Settings(batch=batch))
    with peak_bytes(CPU) as peak:
        loss(0, slice(None))["loss"].backward()
    assert all(p.grad is not None for p in parameters.values())
    return peak[0]


def test_memory_of_any_batch_is_known_from_two(pipe: Any, begun: Student, examples: Examples) -> None:
    two, four, twelve = (peak_of(pipe, begun, examples, batch) for batch in (2, 4, 12))
    assert twelve == pytest.approx(two + 5 * (four - two), rel=0.05)


def test_checkpointing_takes_less_memory(pipe: Any, begun: Student, examples: Examples) -> None:
    assert peak_of(pipe, begun, examples, 4, checkpointing=True) < 0.8 * peak_of(pipe, begun, examples, 4)


def test_the_largest_batch_is_the_last_that_fits() -> None:
    memory = StepMemory(1000, 500, 100)
    for usable in (0, 1874, 1875, 2000, 99_999):
        largest = memory.largest(usable)
        assert memory.needed(largest + 1) > usable and (largest == 0 or memory.needed(largest) <= usable)


@pytest.mark.parametrize(
    ("fitting", "processes", "batch"), [(7, 1, 4), (8, 1, 8), (10**9, 1, MOST), (7, 2, 8), (300, 3, 192), (0, 1, 1)]
)
def test_a_chosen_batch_is_the_largest_power_of_two_for_each_process(fitting: int, processes: int, batch: int) -> None:
    assert chosen_batch(fitting, processes) == batch


def test_a_batch_is_chosen_by_the_memory_and_too_large_ones_are_refused(
    pipe: Any, begun: Student, examples: Examples, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_profile, "SLOW", 0.0)  # no step of the batch itself
    free(2**40)
    large, small = (predict(pipe, begun, examples, Settings(), batch) for batch in (16, 8))
    sample = (large.needed - small.needed) // 8
    assert (large.batch, large.device) == (16, "cpu") and sample > 0 and large.seconds > 0
    free(small.needed - sample // 2)  # 7 fit, and 4 is the largest power of two
    chosen = predict(pipe, begun, examples, Settings(), None)
    assert chosen.batch == 4 and chosen.needed < chosen.usable < small.needed
    with pytest.raises(DeviceError, match=r"--batch 40 needs about .* --batch 7 is the largest.*--checkpointing"):
        predict(pipe, begun, examples, Settings(), 40)
    free(1000)
    with pytest.raises(DeviceError, match="no batch fits"):
        predict(pipe, begun, examples, Settings(), None)


def test_measuring_leaves_the_teacher_and_the_student_alone(pipe: Any, begun: Student, examples: Examples) -> None:
    before = {name: p.clone() for name, p in pipe.unet.named_parameters()}
    own = {name: tensor.clone() for name, tensor in begun.tensors.items()}
    predict(pipe, begun, examples, Settings(rate=0.1), 2)
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in pipe.unet.named_parameters())
    assert all(torch.equal(own[name], tensor) for name, tensor in begun.tensors.items())


def test_a_prediction_is_said_and_kept(tmp_path: Path) -> None:
    prediction = Prediction(64, 0.75, 3 * 2**30, 10 * 2**30, "cuda:0")
    assert prediction.describe(Budget(600)) == (
        "predicted: about 3 GiB on cuda:0 of 10.0 that may be used; 0.75 s a step of 64 samples, 600 steps take about "
        "7.5 min"
    )
    assert prediction.describe(Budget(minutes=2)).endswith("2 min are about 160 steps")
    path = tmp_path / "checkpoint" / "prediction.json"
    save_prediction(prediction, path)
    assert load_prediction(path) == prediction
    for content in (b"{}", b"", b"[1]"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="holds no batch"):
            load_prediction(path)
