"""Plans with students: which network runs at which evaluation, to the bit, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from explorer import Architecture, InheritancePlan, Student, inherit, strategy
from explorer.errors import ModelError, PlanError
from explorer.networks.student import block_of
from explorer.plans.rules import Rule
from tests.conftest import embeds, make_pipeline

STEPS = 7


def distilled(unet: Any, name: str, *blocks: str) -> Student:
    """A student whose blocks have other weights than its teacher's."""
    moved = {n: (p.detach() * 1.1).half().float() for n, p in unet.named_parameters() if block_of(n) in blocks}
    return Student.named(name, unet).trained_as(moved, blocks)


def latents(pipe: Any, **more: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return pipe(
        **embeds(), num_inference_steps=STEPS, output_type="latent", generator=generator, height=32, width=32, **more
    ).images


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


@pytest.fixture(scope="module")
def student(pipe: Any) -> Student:
    return distilled(pipe.unet, "M2", "dn0", "dn1", "up3")


@pytest.fixture(scope="module")
def smaller(pipe: Any, student: Student, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The student as an ordinary UNet."""
    folder = student.export(tmp_path_factory.mktemp("m2"), pipe)
    return UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()


def of(unet: Any, name: str = "plain", **more: Any) -> InheritancePlan:
    if name == "plain":
        return InheritancePlan(Architecture.of(unet), STEPS)
    return strategy(name, steps=STEPS, unet=unet, **more)


def with_unet(pipe: Any, unet: Any) -> Any:
    return type(pipe)(**{**pipe.components, "unet": unet}, requires_safety_checker=False)


def test_a_student_alone_is_the_pipeline_with_the_smaller_unet(pipe: Any, student: Student, smaller: Any) -> None:
    stock = latents(pipe)
    with inherit(pipe, of(pipe.unet).with_cast("m2"), students={"m2": student}):
        found = latents(pipe)
    assert torch.equal(found, latents(with_unet(pipe, smaller)))
    assert torch.equal(latents(pipe), stock) and not torch.equal(found, stock)


@pytest.mark.parametrize(("cast", "switch", "first"), [("m2@0.4", 3, "m2"), ("teacher@0.6, m2", 5, "teacher")])
def test_a_cast_is_the_loop_that_switches_unets_by_hand(
    pipe: Any, student: Student, smaller: Any, cast: str, switch: int, first: str
) -> None:
    other = with_unet(pipe, pipe.unet)
    pair = (smaller, pipe.unet) if first == "m2" else (pipe.unet, smaller)
    other.unet = pair[0]

    def switched(running: Any, step: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == switch:
            running.unet = pair[1]
        return values

    by_hand = latents(other, callback_on_step_end=switched)
    with inherit(pipe, of(pipe.unet).with_cast(cast), students={"m2": student}):
        assert torch.equal(latents(pipe), by_hand)


@pytest.mark.parametrize("rule", [Rule(), Rule("forecast", 1)], ids=["copy", "forecast"])
@pytest.mark.parametrize("name", ["DC0/P3", "DC1/P2"])
def test_masks_work_on_a_student_by_the_teacher_s_names(
    pipe: Any, student: Student, smaller: Any, name: str, rule: Rule
) -> None:
    plan = of(pipe.unet, name).with_rule(rule)
    with inherit(pipe, plan.with_cast("m2"), students={"m2": student}):
        found = latents(pipe)
    other = with_unet(pipe, smaller)
    with inherit(other, plan, transfer=True):
        assert torch.equal(found, latents(other))


def test_nothing_of_one_network_is_kept_for_another(pipe: Any, student: Student) -> None:
    held: list[bool] = []
    with inherit(pipe, of(pipe.unet, "DC0/P7").with_cast("m2@0.4"), students={"m2": student}) as handle:

        def look(running: Any, step: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
            held.append(handle.cache_bytes > 0)
            return values

        latents(pipe, callback_on_step_end=look)
    assert held == [True, True, False, True, True, True, False]  # m2 runs the first three evaluations


def test_a_student_is_given_by_its_folder(pipe: Any, student: Student, tmp_path: Path) -> None:
    student.save(tmp_path)
    plan = of(pipe.unet).with_cast("m2")
    with inherit(pipe, plan, students={"m2": student}):
        found = latents(pipe)
    with inherit(pipe, plan, students={"m2": tmp_path}):
        assert torch.equal(latents(pipe), found)


def test_students_beside_a_plan_are_found_and_those_that_are_given_count(
    pipe: Any, student: Student, tmp_path: Path
) -> None:
    plan = of(pipe.unet).with_cast("m2@0.4")
    plan.save_pretrained(tmp_path)
    with pytest.raises(PlanError, match="needs the student 'm2'"):
        inherit(pipe, tmp_path)
    student.save(tmp_path / "students" / "m2")
    with inherit(pipe, plan, students={"m2": student}):
        found = latents(pipe)
    for place in (tmp_path, tmp_path / "inheritance.json"):
        with inherit(pipe, place):
            assert torch.equal(latents(pipe), found)
    other = Student.named("M2", pipe.unet)
    with inherit(pipe, tmp_path, students={"m2": other}):
        assert not torch.equal(latents(pipe), found)
    stranger = make_pipeline().unet
    with torch.no_grad():
        stranger.conv_in.weight += 1
    distilled(stranger, "M2", "dn0").save(tmp_path / "students" / "m2")
    with pytest.raises(ModelError, match=r"the student 'M2' was made from the UNet with the fingerprint \w+, and this"):
        inherit(pipe, tmp_path)


@pytest.mark.parametrize("blocks", [("conv_in",), ("dn0",)])
def test_a_student_goes_along_with_its_teacher_s_precision(blocks: tuple[str, ...]) -> None:
    pipe = make_pipeline()
    plan, student = of(pipe.unet).with_cast("m2"), distilled(pipe.unet, "M2", *blocks)
    with inherit(pipe, plan, students={"m2": student}):
        before = latents(pipe)
        pipe.unet.to(torch.float64)
        given = {name: value.double() for name, value in embeds().items()}
        after = pipe(**given, num_inference_steps=STEPS, output_type="latent", height=32, width=32,
                     generator=torch.Generator().manual_seed(3)).images  # fmt: skip
    assert before.dtype == torch.float32 and after.dtype == torch.float64 and bool(torch.isfinite(after).all())


def test_what_cannot_run_with_students_is_refused(pipe: Any, student: Student) -> None:
    plan = of(pipe.unet).with_cast("m2@0.4")
    with pytest.raises(PlanError, match="needs the student 'm2'"):
        inherit(pipe, plan, students={"base": student})
    with pytest.raises(ModelError, match="cast of several networks"):
        inherit(pipe, plan, students={"m2": student}, compile="cudagraphs-eager")
    other = make_pipeline()
    with torch.no_grad():
        other.unet.conv_in.weight += 1
    with pytest.raises(ModelError, match="another fine-tune"):
        inherit(other, plan, students={"m2": student})
    with pytest.raises(ModelError, match="holds no student"):
        inherit(pipe, plan, students={"m2": "nowhere"})
    other = make_pipeline()
    other.enable_sequential_cpu_offload = None
    other.unet._hf_hook = object()
    with pytest.raises(PlanError, match="offloaded"):
        inherit(other, plan, students={"m2": student})
    latents(pipe)  # nothing of a refused plan is left


def test_a_lora_and_a_student_are_refused_together(student: Student) -> None:
    from peft import LoraConfig

    pipe = make_pipeline()
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(PlanError, match="LoRA 'default'"):
        inherit(pipe, of(pipe.unet).with_cast("m2"), students={"m2": student})
