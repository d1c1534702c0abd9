"""Students with experts in training: where experts begin, that they learn, and that a kill changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import Student
from explorer.errors import TrainingError
from explorer.networks.experts import Experts
from explorer.networks.student import block_of
from tests.explorer.tiny_pipelines import sd
from training.distill import Pair, Settings, distill, initial, make_loss, trainable
from training.experts import OPEN
from training.loop import Budget, Training
from training.teacher_data import Examples, teacher_runs

BLOCKS = ("dn0", "up3")
SETTINGS = Settings(batch=3, rate=5e-3)
CONV = "down_blocks.0.resnets.0.conv1"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.fixture(scope="module")
def examples(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return teacher_runs(pipe, ["a cat", "a dog"], 4, tmp_path_factory.mktemp("runs"), guidance=3.0)


def mixed(pipe: Any, name: str = "M1", **how: Any) -> Student:
    return replace(Student.named(name, pipe.unet), experts=Experts(**how))


def distilled(pipe: Any, *blocks: str) -> Student:
    """A Base with other weights than its teacher's."""
    tensors = {name: p.detach() + 1 for name, p in pipe.unet.named_parameters() if block_of(name) in blocks}
    return Student.named("Base", pipe.unet).trained_as(tensors, blocks)


def test_further_experts_begin_at_random_and_closed(pipe: Any) -> None:
    begun = initial(mixed(pipe, count=3), pipe.unet, BLOCKS)
    own = pipe.unet.get_parameter(f"{CONV}.weight").detach()
    assert torch.equal(begun.tensors[f"{CONV}.weight"], own)
    others = [begun.tensors[f"{CONV}.experts.{i}"] for i in range(2)]
    assert not torch.equal(*others) and all(
        float(each.std() / own.std()) == pytest.approx(1, abs=0.1) for each in others
    )
    assert begun.tensors[f"{CONV}.router.bias"].tolist() == [OPEN, -OPEN, -OPEN]
    assert not begun.tensors[f"{CONV}.router.weight"].any()
    again, other = (initial(mixed(pipe, count=3), pipe.unet, BLOCKS, seed=seed) for seed in (0, 1))
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in begun.tensors.items())
    assert not torch.equal(others[0], other.tensors[f"{CONV}.experts.0"])


def test_the_first_expert_is_the_student_s_or_the_teacher_s(pipe: Any) -> None:
    base, name = distilled(pipe, *BLOCKS), f"{CONV}.weight"
    theirs = pipe.unet.get_parameter(name)
    for first, wanted in (("student", base.tensors[name]), ("teacher", theirs)):
        begun = initial(mixed(pipe), pipe.unet, BLOCKS, base, first)  # type: ignore[arg-type]
        assert torch.equal(begun.tensors[name], wanted)
        other = "down_blocks.0.resnets.0.norm1.weight"  # no convolution: begins as the source has it
        assert torch.equal(begun.tensors[other], base.tensors[other])


def test_experts_go_on_from_those_of_another_student(pipe: Any) -> None:
    base = initial(mixed(pipe, "Base", routing="time"), pipe.unet, BLOCKS)
    moved = {name: tensor + 0.5 for name, tensor in base.tensors.items()}
    base = base.trained_as(moved, BLOCKS)
    begun = initial(mixed(pipe, routing="time"), pipe.unet, BLOCKS, base)
    assert all(torch.equal(tensor, moved[name]) for name, tensor in begun.tensors.items())
    with pytest.raises(TrainingError, match="2 experts by time; give --experts 2 --routing time"):
        initial(mixed(pipe, routing="input"), pipe.unet, BLOCKS, base)
    with pytest.raises(TrainingError, match="2 experts by time"):
        initial(Student.named("M1", pipe.unet), pipe.unet, BLOCKS, base)


@pytest.mark.parametrize("routing", ["input", "time"])
def test_routers_and_experts_learn_and_a_kill_changes_nothing(
    pipe: Any, examples: Examples, tmp_path: Path, routing: str
) -> None:
    student = mixed(pipe, routing=routing)

    def run(folder: Path, stop: int | None = None) -> Student:
        def on_step(training: Training) -> None:
            if training.step == stop:
                training.save()
                raise KeyboardInterrupt

        return distill(pipe, student, examples, folder, Budget(3), SETTINGS, blocks=BLOCKS, on_step=on_step)

    unbroken = run(tmp_path / "a")
    begun = initial(student, pipe.unet, BLOCKS)
    assert student.expert_tensors(BLOCKS).keys() < unbroken.tensors.keys() == begun.tensors.keys()
    learned = [*student.expert_tensors(BLOCKS), *(f"{conv}.weight" for conv in student.conditional(BLOCKS))]
    assert [name for name in learned if torch.equal(begun.tensors[name], unbroken.tensors[name])] == []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", stop=1)
    resumed = run(tmp_path / "b")
    assert all(torch.equal(tensor, resumed.tensors[name]) for name, tensor in unbroken.tensors.items())
    assert Student.load(tmp_path / "b").experts == student.experts
    plain = Student.named("M1", pipe.unet)
    with pytest.raises(TrainingError, match="was trained with"):  # the checkpoint has all of the plain one's tensors
        distill(pipe, plain, examples, tmp_path / "b", Budget(3), SETTINGS, blocks=BLOCKS)


@pytest.mark.parametrize("routing", ["input", None])
def test_checkpointing_gives_the_same_gradients(pipe: Any, examples: Examples, routing: str | None) -> None:
    student = Student.named("M1", pipe.unet) if routing is None else mixed(pipe, routing=routing)
    begun = initial(student, pipe.unet, ("time", *BLOCKS))
    network, parameters = trainable(begun, pipe.unet)
    found = []
    for checkpointing in (False, True):
        pair = Pair(pipe.unet, network, begun.removed, checkpointing=checkpointing)
        loss = make_loss(pair, examples, pipe.scheduler, SETTINGS)(1, slice(None))["loss"]
        found.append([loss, *torch.autograd.grad(loss, list(parameters.values()))])
    assert len(found[0]) == len(parameters) + 1 and float(found[0][0]) > 0
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
