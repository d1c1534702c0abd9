"""Students: what they cost, what they compute to the bit, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from explorer import Architecture, InheritancePlan, Student, inherit
from explorer.errors import ModelError
from explorer.models.true_architectures import architecture
from explorer.networks.student_export import student_config
from explorer.plans.schedule import Every
from tests.conftest import make_pipeline, make_unet
from tests.explorer.unet.test_program import call

TABLE = {  # of SD1.5: millions of parameters, GMACs of a 64x64 latent (BK-SDM; A-SDM, Sec. IV)
    "Base": (579.38, 261.5),
    "Small": (482.35, 255.4),
    "Tiny": (323.38, 242.8),
    "M1": (848.8, 343.2),
    "M2": (809.5, 303.7),
    "M3": (659.7, 266.4),
}


@pytest.fixture(scope="module")
def sd15() -> Any:
    with torch.device("meta"):
        return UNet2DConditionModel(**architecture("arch:sd15")[0])


@pytest.mark.parametrize("name", TABLE)
def test_parameters_and_macs_are_those_of_the_papers(sd15: Any, name: str) -> None:
    student = Student.named(name, sd15)
    parameters, macs = TABLE[name]
    assert student.parameters / 1e6 == pytest.approx(parameters, abs=0.06)
    assert student.macs(64, 64) / 1e9 == pytest.approx(macs, abs=0.06)
    assert student.macs_share(64, 64) == pytest.approx(macs / 401.6, abs=2e-4)


def moved(student: Student, unet: Any, blocks: tuple[str, ...]) -> Student:
    """The student with other weights in some blocks, as half precision holds them."""
    from explorer.networks.student import block_of

    tensors = {
        name: (p.detach() + 0.01).half().float() for name, p in unet.named_parameters() if block_of(name) in blocks
    }
    return student.trained_as(tensors, blocks)


def by_plan(student: Student, unet: Any) -> torch.Tensor:
    network = student.network(unet)
    plan = InheritancePlan(Architecture.of(network), 1, (student.removed,), Every())
    with inherit(network, plan) as handle:
        handle.begin(1)
        return call(network, 0, (16, 16))


@pytest.mark.parametrize(("shape", "name"), [(s, n) for s in ("sd1", "sdxl") for n in ("Base", "Small", "M1")])
def test_an_export_computes_to_the_bit_what_the_student_does(tmp_path: Path, shape: str, name: str) -> None:
    unet = make_unet(shape)
    student = moved(Student.named(name, unet), unet, ("dn0", "mid", "up2"))
    pipe = make_pipeline()
    pipe.unet = unet
    folder = student.export(tmp_path / "exported", pipe)
    made = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    assert torch.equal(by_plan(student, unet), call(made, 0, (16, 16)))
    assert sum(p.numel() for p in made.parameters()) == student.parameters


def test_tiny_lacks_the_deepest_level() -> None:
    unet = make_unet("sd1")
    student = Student.named("tiny", unet)
    config = student_config(student)
    assert student.name == "Tiny" and len(config["down_block_types"]) == 3 and config["mid_block_type"] is None
    assert config["layers_per_block"] == [1, 1, 1]


def test_a_student_shares_what_it_did_not_train() -> None:
    unet = make_unet("sd1")
    student = moved(Student.named("M1", unet), unet, ("dn0",))
    network = student.network(unet)
    own = {name for name, p in network.named_parameters() if p is not unet.get_parameter(name)}
    assert own == set(student.tensors)
    assert all(torch.equal(network.get_parameter(name), tensor) for name, tensor in student.tensors.items())
    assert not any(torch.equal(unet.get_parameter(name), tensor) for name, tensor in student.tensors.items())


@pytest.mark.parametrize("blocks", [(), ("dn0", "up3", "time")])
def test_a_student_is_read_as_it_was_written(tmp_path: Path, blocks: tuple[str, ...]) -> None:
    unet = make_unet("sd1")
    student = moved(Student.named("M2", unet), unet, blocks)
    found = Student.load(student.save(tmp_path / "m2"))
    assert (found.name, found.removed, found.teacher, found.trained) == (
        student.name, student.removed, student.teacher, student.trained,
    )  # fmt: skip
    assert found.tensors.keys() == student.tensors.keys()
    assert torch.equal(by_plan(found, unet), by_plan(student, unet))
    assert (tmp_path / "m2" / "student.safetensors").exists() == bool(blocks)


def test_another_fine_tune_is_refused_and_both_are_named() -> None:
    unet, other = make_unet("sd1"), make_unet("sd1")
    with torch.no_grad():
        other.conv_in.weight += 1
    student, fine_tune = Student.named("Base", unet), Student.named("Base", other)
    with pytest.raises(ModelError, match=f"{student.teacher}.*{fine_tune.teacher}"):
        student.network(other)
    with pytest.raises(ModelError, match="channels"):
        student.network(make_unet("sdxl"))


def test_what_no_configuration_describes_is_not_exported(tmp_path: Path) -> None:
    pipe = make_pipeline()
    zero = Student.removing(pipe.unet, {"dn0.l1.res": "zero"})
    with pytest.raises(ModelError, match=r"dn0\.l1\.res keeps its identity path"):
        zero.export(tmp_path / "a", pipe)
    unit = Student.removing(pipe.unet, {"dn0.l1.attn": "bypass"})
    with pytest.raises(ModelError, match="no diffusers configuration"):
        unit.export(tmp_path / "a", pipe)
    half = Student.removing(pipe.unet, {"dn0.l1.res": "bypass", "dn0.l1.attn": "bypass"})
    with pytest.raises(ModelError, match="level 0 would have 1 layers on the way down and 3 on the way up"):
        half.export(tmp_path / "a", pipe)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"dn9.l0.res": "bypass"}, "unknown unit"),
        ({"dn0.l1.res": "residual"}, "inheritance is a plan's"),
        ({"dn1.l0.res": "bypass"}, "would read"),
        ({"up3.l2.cat": "output"}, "inheritance is a plan's"),
    ],
)
def test_what_cannot_be_removed_is_told(nodes: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Student.removing(make_unet("sd1"), nodes)


@pytest.mark.parametrize("name", ["M4", "", "base2"])
def test_an_unknown_name_is_told(name: str) -> None:
    with pytest.raises(ModelError, match="Base, Small, Tiny, M1, M2, M3"):
        Student.named(name, make_unet("sd1"))


def test_too_few_levels_are_told() -> None:
    with pytest.raises(ModelError, match="M3 thins 3 levels"):
        Student.named("M3", make_unet("sdxl"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [], "is no student"),
        (lambda data: data | {"format": "other"}, "no student's document"),
        (lambda data: data | {"schema": 9}, "upgrade"),
        (lambda data: data | {"name": "a b"}, "is called by"),
        (lambda data: data | {"removed": {"dn0.l1.res": "nothing"}}, "is none"),
        (lambda data: data | {"removed": {"conv_in": "bypass"}}, "every UNet needs it"),
        (lambda data: data | {"trained": ["mid"]}, "in none of the blocks"),
        (lambda data: data | {"timesteps": [0.5, 0.5]}, "part of the run"),
        (lambda data: data | {"tensors": 3}, "tensors where 3 were saved"),
        (lambda data: data | {"config": {"sample_size": 8}}, "cannot be read"),
        (lambda data: data | {"teacher": 12}, "fingerprint"),
        (lambda data: {k: v for k, v in data.items() if k != "removed"}, "is no student"),
    ],
)
def test_a_changed_document_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    unet = make_unet("sd1")
    moved(Student.named("M1", unet), unet, ("dn0",)).save(tmp_path)
    path = tmp_path / "student.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match=message):
        Student.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_document_or_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    unet = make_unet("sd1")
    moved(Student.named("M1", unet), unet, ("dn0",)).save(tmp_path)
    (tmp_path / "student.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        Student.load(tmp_path)
    (tmp_path / "student.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        Student.load(tmp_path)
    with pytest.raises(ModelError, match="holds no student"):
        Student.load(tmp_path / "none")


def test_weights_of_another_shape_are_refused() -> None:
    unet = make_unet("sd1")
    student = Student.named("M1", unet).trained_as({"conv_in.weight": torch.zeros(1)}, ("conv_in",))
    with pytest.raises(ModelError, match=r"conv_in\.weight of shape \(1,\)"):
        student.network(unet)
