"""Students whose convolutions are mixed from experts: what they compute, what they cost, and their files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import Student, inherit, strategy
from explorer.errors import ModelError
from explorer.networks.experts import Experts
from explorer.unet.conditional_conv import ConditionalConv, Routing
from explorer.unet.conditions import read_conditions
from explorer.unet.program import Program
from explorer.unet.variant import Variant
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.networks.test_student import by_plan
from tests.explorer.unet.test_program import call
from training.distill import initial

BLOCKS = ("dn0", "up3")
ROUTINGS: tuple[Routing, ...] = ("input", "time")


def student_of(unet: Any, routing: Routing = "input", count: int = 2, blocks: tuple[str, ...] = BLOCKS) -> Student:
    """M1 as a training begins it."""
    student = replace(Student.named("M1", unet), experts=Experts(count, routing))
    return initial(student, unet, blocks)


def with_first_alone(student: Student) -> Student:
    """The same student with a share of exactly 1 for the first expert, and of 0 for the others."""
    tensors = {
        name: tensor.sign() * 200 if name.endswith("router.bias") else tensor
        for name, tensor in student.tensors.items()
    }
    return student.trained_as(tensors, student.trained)


def moved(student: Student) -> Student:
    """With routers that depend on what they read and open every expert, as half precision holds them."""
    generator = torch.Generator().manual_seed(4)
    tensors = {
        name: (torch.randn(tensor.shape, generator=generator) if ".router." in name else tensor).half().float()
        for name, tensor in student.tensors.items()
    }
    return student.trained_as(tensors, student.trained)


def conv_of(routing: Routing, count: int = 3) -> ConditionalConv:
    torch.manual_seed(5)
    made = ConditionalConv(torch.nn.Conv2d(6, 4, 3, padding=1), count, routing, 10)
    for p in (*made.experts, *made.router.parameters()):
        torch.nn.init.normal_(p)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_mixing_sample_by_sample_is_a_loop_over_samples(routing: Routing, bias: bool) -> None:
    conv = conv_of(routing)
    if not bias:
        conv.bias = None
    x, time = torch.randn(5, 6, 7, 9), torch.randn(5, 10)
    with torch.no_grad():
        found = conv(x, time)
        for b in range(5):
            read = x[b].mean((1, 2)) if routing == "input" else time[b]
            shares = torch.sigmoid(conv.router.weight @ read + conv.router.bias)
            kernel = sum(share * each for share, each in zip(shares, [conv.weight, *conv.experts], strict=True))
            one = torch.nn.functional.conv2d(x[b : b + 1], kernel, conv.bias, padding=1)
            torch.testing.assert_close(found[b : b + 1], one, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(conv.shares(x, time)[0], conv.shares(x, time)[1])


def test_one_time_for_all_samples_is_one_kernel() -> None:
    conv = conv_of("time")
    x, time = torch.randn(3, 6, 8, 8), torch.randn(1, 10)
    with torch.no_grad():
        assert conv.shares(x, time).shape == (1, 3)
        torch.testing.assert_close(conv(x, time), conv(x, time.expand(3, 10)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_conditional_convolution_is_compiled_in_one_graph(routing: Routing) -> None:
    conv = conv_of(routing)
    x, time = torch.randn(2, 6, 8, 8), torch.randn(1, 10)
    with torch.no_grad():
        compiled = torch.compile(conv, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x, time), conv(x, time))


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_student_with_experts_begins_as_the_plain_student(routing: Routing) -> None:
    unet = make_unet("sd1")
    student = student_of(unet, routing)
    plain, found = by_plan(Student.named("M1", unet), unet), by_plan(student, unet)
    assert not torch.equal(found, plain)
    assert float((found - plain).norm() / plain.norm()) < 0.01  # a share of 0.9975, and 0.0025 for the other expert
    alone = by_plan(with_first_alone(student), unet)
    torch.testing.assert_close(alone, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_samples_do_not_depend_on_their_batch_mates(routing: Routing) -> None:
    unet = make_unet("sd1")
    student = moved(student_of(unet, routing))
    network = student.network(unet)
    variant = Variant(Program(network), student.removed)
    sample, context = torch.randn(3, 4, 16, 16), torch.randn(3, 7, 16)
    times = [10, 500, 900]

    def run(at: slice, time: torch.Tensor) -> torch.Tensor:
        given, read = read_conditions(network, student.architecture, sample[at], time, context[at])
        assert (None if read.time is None else len(read.time)) == (time.numel() if routing == "time" else None)
        return variant(given, read, {})[0]

    with torch.no_grad():
        single = [run(slice(i, i + 1), torch.tensor(time)) for i, time in enumerate(times)]
        torch.testing.assert_close(run(slice(0, 3), torch.tensor(times)), torch.cat(single), rtol=1e-3, atol=1e-4)


def test_masks_inherit_on_a_student_with_experts_by_the_teacher_s_names() -> None:
    pipe = make_pipeline()
    plan = strategy("DC0/P3", steps=5, unet=pipe.unet).with_cast("m1@0.6, teacher")

    def latents(student: Student) -> torch.Tensor:
        with inherit(pipe, plan, students={"m1": student}):
            generator = torch.Generator().manual_seed(3)
            return pipe(**embeds(), num_inference_steps=5, output_type="latent", generator=generator).images

    plain = latents(Student.named("M1", pipe.unet))
    assert torch.equal(latents(with_first_alone(student_of(pipe.unet, "time"))), plain)
    torch.testing.assert_close(
        latents(with_first_alone(student_of(pipe.unet, "input"))), plain, rtol=1e-3, atol=1e-4
    )  # fmt: skip
    assert not torch.allclose(latents(moved(student_of(pipe.unet, "time"))), plain, rtol=1e-2)


def test_experts_are_in_the_trained_blocks_that_are_larger_than_a_pixel() -> None:
    unet = make_unet("sd1", sample_size=8)
    base = replace(Student.named("Base", unet), experts=Experts())
    every = base.conditional(base.architecture.blocks)
    assert {path.rsplit(".", 3)[0] for path in every} == {
        "down_blocks.0", "down_blocks.1", "down_blocks.2", "up_blocks.1", "up_blocks.2", "up_blocks.3",
    }  # fmt: skip
    assert base.conditional(("dn3", "mid", "up0")) == ()
    assert base.conditional(("dn1",)) == ("down_blocks.1.resnets.0.conv1", "down_blocks.1.resnets.0.conv2")
    larger = replace(Student.named("Base", make_unet("sd1", sample_size=16)), experts=Experts())
    assert "mid_block.resnets.1.conv2" in larger.conditional(("mid",))


@pytest.mark.parametrize("routing", ROUTINGS)
def test_parameters_and_macs_count_the_experts_and_their_mixing(routing: Routing) -> None:
    unet = make_unet("sd1")
    count = 3
    student = student_of(unet, routing, count)
    plain = Student.named("M1", unet)
    network = student.network(unet)
    convs = [module for module in network.modules() if isinstance(module, ConditionalConv)]
    assert len(convs) == 2 * (1 + 2) and len(convs) == len(student.conditional(BLOCKS))
    widths = [conv.in_channels if routing == "input" else 64 for conv in convs]  # 4 times the first level's channels
    kernels = [math.prod(conv.weight.shape) for conv in convs]
    more = sum((count - 1) * kernel + count * (width + 1) for kernel, width in zip(kernels, widths, strict=True))
    assert student.parameters - plain.parameters == more
    mixing = sum(count * (kernel + width) for kernel, width in zip(kernels, widths, strict=True))
    assert student.macs(16, 16) - plain.macs(16, 16) == mixing


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_student_with_experts_is_read_as_it_was_written(tmp_path: Path, routing: Routing) -> None:
    unet = make_unet("sd1")
    student = moved(student_of(unet, routing))
    found = Student.load(student.save(tmp_path))
    assert found.experts == Experts(2, routing) and found.tensors.keys() == student.tensors.keys()
    assert json.loads((tmp_path / "student.json").read_text())["experts"] == {"count": 2, "routing": routing}
    assert torch.equal(by_plan(found, unet), by_plan(student, unet))


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"count": 1, "routing": "input"}, "2 to 8 experts"),
        ({"count": 10**9, "routing": "input"}, "2 to 8 experts"),
        ({"count": True, "routing": "input"}, "2 to 8 experts"),
        ({"count": 2, "routing": "dice"}, "input or time"),
        ({"count": 3, "routing": "input"}, "is missing"),
        ({"count": 2}, "is missing|shape"),
        ([2], "is no student"),
        ({"size": 2}, "is no student"),
    ],
)
def test_a_changed_document_is_refused(tmp_path: Path, experts: Any, message: str) -> None:
    unet = make_unet("sd1")
    student_of(unet, "time").save(tmp_path)
    path = tmp_path / "student.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experts": experts}))
    with pytest.raises(ModelError, match=message):
        Student.load(tmp_path).network(unet)


def test_experts_without_their_document_are_refused(tmp_path: Path) -> None:
    unet = make_unet("sd1")
    student_of(unet).save(tmp_path)
    path = tmp_path / "student.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experts": None}))
    with pytest.raises(ModelError, match="which its teacher has not"):
        Student.load(tmp_path).network(unet)


def test_experts_are_not_exported_to_diffusers(tmp_path: Path) -> None:
    pipe = make_pipeline()
    with pytest.raises(ModelError, match=r"6 of its convolutions are mixed from experts.*run it by a plan"):
        student_of(pipe.unet).export(tmp_path / "a", pipe)
    assert not (tmp_path / "a").exists()


def test_diffusers_own_forward_has_no_time_for_the_experts() -> None:
    unet = make_unet("sd1")
    network = student_of(unet, "time").network(unet)
    with pytest.raises(ModelError, match="run this UNet by a plan"):
        call(network)
