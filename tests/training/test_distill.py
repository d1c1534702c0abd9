"""Students that are distilled: what is trained, on what, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from explorer import Student
from explorer.errors import ModelError, TrainingError
from explorer.models.true_architectures import architecture
from explorer.networks.student import block_of
from tests.explorer.tiny_pipelines import sd, sdxl
from training.distill import Pair, Settings, distill, initial, make_loss, taps, trained_blocks
from training.loop import Budget, Training
from training.teacher_data import Examples, captioned_pictures, teacher_runs

PROMPTS = ["a cat", "a dog", "the sea"]
SETTINGS = Settings(batch=4, rate=5e-3)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.fixture(scope="module")
def examples(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return teacher_runs(pipe, PROMPTS, 6, tmp_path_factory.mktemp("runs"), guidance=3.0)


def test_the_teacher_s_runs_are_recorded_as_the_unet_was_called(pipe: Any, examples: Examples) -> None:
    states, runs = examples.states.shape[:2]
    assert (states, runs, len(examples.times), len(examples.context)) == (20, 6, 20, 6)
    assert torch.equal(examples.context[0], examples.context[3]) and not torch.equal(
        examples.context[0], examples.context[1]
    )
    assert list(examples.times) == sorted(examples.times, reverse=True)
    assert not torch.equal(examples.latents[0], examples.latents[3])  # another seed


def test_recorded_runs_are_gone_on_with(pipe: Any, examples: Examples, tmp_path: Path) -> None:
    done: list[int] = []
    teacher_runs(pipe, PROMPTS, 3, tmp_path, guidance=3.0)
    again = teacher_runs(pipe, PROMPTS, 6, tmp_path, guidance=3.0, progress=lambda n, of: done.append(n))
    assert torch.equal(again.states, examples.states) and done == [6]
    fewer = teacher_runs(pipe, PROMPTS, 2, tmp_path, guidance=3.0)
    assert torch.equal(fewer.states, examples.states[:, :2]) and torch.equal(fewer.latents, examples.latents[:2])
    with pytest.raises(TrainingError, match="another teacher, other prompts or another guidance"):
        teacher_runs(pipe, PROMPTS, 3, tmp_path, guidance=4.0)
    with pytest.raises(TrainingError, match="--guidance above 1"):
        teacher_runs(pipe, PROMPTS, 3, tmp_path / "b", guidance=1.0)
    with pytest.raises(TrainingError, match="a prompt and a run"):
        teacher_runs(pipe, [], 3, tmp_path / "b", guidance=3.0)


def test_the_teacher_s_scheduler_comes_back(pipe: Any, tmp_path: Path) -> None:
    before = pipe.scheduler
    teacher_runs(pipe, PROMPTS, 1, tmp_path, guidance=3.0)
    assert pipe.scheduler is before


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_training_brings_a_student_nearer_to_its_teacher(kind: str, tmp_path: Path) -> None:
    pipe = sd() if kind == "sd" else sdxl()
    examples = teacher_runs(pipe, PROMPTS, 3, tmp_path / "runs", guidance=3.0)
    student = Student.named("M1", pipe.unet)
    before = {name: p.clone() for name, p in pipe.unet.named_parameters()}

    def loss_of(of: Student) -> float:
        network = of.network(pipe.unet)
        loss = make_loss(Pair(pipe.unet, network, of.removed), examples, pipe.scheduler, Settings(batch=16, seed=9))
        with torch.no_grad():
            return sum(float(loss(step, slice(None))["loss"]) for step in range(2))

    blocks = trained_blocks(student, None)
    made = distill(pipe, student, examples, tmp_path / "m1", Budget(60), SETTINGS, blocks=blocks)
    assert loss_of(made) < 0.9 * loss_of(student)
    assert all(torch.equal(before[name], p) for name, p in pipe.unet.named_parameters())
    assert {block_of(name) for name in made.tensors} == {"dn0", f"up{len(pipe.unet.up_blocks) - 1}"}
    found = Student.load(tmp_path / "m1")
    assert found.trained == blocks and all(
        torch.equal(found.tensors[name], tensor.half()) for name, tensor in made.tensors.items()
    )


def test_a_killed_distillation_gives_the_weights_of_an_unbroken_one(
    pipe: Any, examples: Examples, tmp_path: Path
) -> None:
    student = Student.named("Base", pipe.unet)
    blocks = trained_blocks(student, "none")

    def run(folder: Path, stop: int | None = None) -> Student:
        def on_step(training: Training) -> None:
            if training.step == stop:
                training.save()
                raise KeyboardInterrupt

        return distill(pipe, student, examples, folder, Budget(5), SETTINGS, blocks=blocks, on_step=on_step)

    unbroken = run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", stop=2)
    assert not (tmp_path / "b" / "student.json").exists()
    resumed = run(tmp_path / "b")
    assert all(torch.equal(unbroken.tensors[name], tensor) for name, tensor in resumed.tensors.items())
    with pytest.raises(TrainingError, match="was trained with"):
        distill(pipe, student, examples, tmp_path / "b", Budget(5), Settings(batch=2), blocks=blocks)


def test_the_shares_of_a_batch_add_up_to_it(pipe: Any, examples: Examples) -> None:
    student = initial(Student.named("M2", pipe.unet), pipe.unet, ("dn0", "up3"))
    network = student.network(pipe.unet)
    parameters = [p.requires_grad_(True) for name, p in network.named_parameters() if name in student.tensors]
    loss = make_loss(Pair(pipe.unet, network, student.removed), examples, pipe.scheduler, Settings(batch=5))

    def gradient(*shares: slice) -> list[torch.Tensor]:
        for p in parameters:
            p.grad = None
        for share in shares:
            loss(3, share)["loss"].backward()
        return [p.grad for p in parameters if p.grad is not None]

    whole, parts = gradient(slice(None)), gradient(slice(0, None, 2), slice(1, None, 2))
    assert len(whole) == len(parameters)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "freeze", "blocks"),
    [
        ("M1", None, ("dn0", "up3")),
        ("M2", "deep", ("dn0", "dn1", "up2", "up3")),
        ("Base", None, ("conv_in", "time", "dn0", "dn1", "dn2", "dn3", "mid", "up0", "up1", "up2", "up3", "out")),
        ("Tiny", "none", ("conv_in", "time", "dn0", "dn1", "dn2", "up1", "up2", "up3", "out")),
        ("M1", "dn0, conv_in,time,out,mid,dn1,dn2,dn3,up0,up1,up2", ("up3",)),
    ],
)
def test_blocks_in_which_nothing_is_removed_can_be_frozen(
    pipe: Any, name: str, freeze: str | None, blocks: tuple[str, ...]
) -> None:
    assert trained_blocks(Student.named(name, pipe.unet), freeze) == blocks


def test_what_cannot_be_frozen_is_told(pipe: Any) -> None:
    student = Student.named("M1", pipe.unet)
    with pytest.raises(TrainingError, match="unknown block 'dn7'"):
        trained_blocks(student, "dn7")
    with pytest.raises(TrainingError, match="nothing to train"):
        trained_blocks(student, ",".join(("conv_in", "time", *student.architecture.blocks, "out")))


def test_what_is_stored_of_m2_is_a_tenth_of_sd15() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture("arch:sd15")[0])
    student = Student.named("M2", unet)
    blocks = trained_blocks(student, None)
    kept = {name for name in student.computed(unet) if block_of(name) in blocks}
    assert sum(p.numel() for name, p in unet.named_parameters() if name in kept) / 1e6 == pytest.approx(87.6, abs=0.1)


def test_blocks_of_which_nothing_is_computed_give_no_features(pipe: Any) -> None:
    tiny = Student.named("Tiny", pipe.unet)
    found = [name for name, _ in taps(tiny.architecture, tiny.removed)]
    assert found == ["dn0.down", "dn1.down", "dn2.l1.attn", "up1.up", "up2.up", "up3.l2.attn"]


def test_an_assembled_student_begins_with_a_distilled_base(pipe: Any) -> None:
    base = Student.named("Base", pipe.unet)
    moved = {name: p.detach() + 1 for name, p in pipe.unet.named_parameters() if block_of(name) in ("dn0", "mid")}
    base = base.trained_as(moved, ("dn0", "mid"))
    found = initial(Student.named("M1", pipe.unet), pipe.unet, ("dn0", "up3"), base)
    own = dict(pipe.unet.named_parameters())
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, moved[name] if block_of(name) == "dn0" else own[name])


def test_the_part_of_the_run_bounds_the_noise(pipe: Any, examples: Examples) -> None:
    """A student for the end of the run sees the small timesteps alone."""
    seen: list[torch.Tensor] = []

    class Watching(Pair):
        def __call__(self, sample: Any, timestep: Any, *rest: Any) -> Any:
            seen.append(timestep)
            return super().__call__(sample, timestep, *rest)

    student = Student.named("M1", pipe.unet)
    pair = Watching(pipe.unet, student.network(pipe.unet), student.removed)
    loss = make_loss(pair, examples, pipe.scheduler, Settings(batch=64), (0.6, 1.0))
    loss(0, slice(None))
    assert int(seen[0].min()) >= 0 and int(seen[0].max()) < 420


def test_pictures_need_captions(pipe: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), (200, 10, 90)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a cat\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"b\.png has no caption"):
        captioned_pictures(pipe, tmp_path)
    (tmp_path / "b.txt").write_text("a dog\n", encoding="utf-8")
    found = captioned_pictures(pipe, tmp_path)
    assert len(found) == 2 and len(found.times) == 0
    student = Student.named("M1", pipe.unet)
    loss = make_loss(
        Pair(pipe.unet, student.network(pipe.unet), student.removed), found, pipe.scheduler, Settings(batch=3)
    )
    assert torch.isfinite(loss(0, slice(None))["loss"])


def test_a_student_of_another_teacher_is_not_distilled(pipe: Any, examples: Examples, tmp_path: Path) -> None:
    other = sd()
    with torch.no_grad():
        other.unet.conv_in.weight += 1
    with pytest.raises(ModelError, match="fingerprint"):
        distill(other, Student.named("M1", pipe.unet), examples, tmp_path, Budget(1), SETTINGS, blocks=("dn0",))
