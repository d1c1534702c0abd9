"""Distillation by several processes, as `accelerate launch` starts them: two on the CPU, joined by gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from explorer import Student
from tests.explorer.tiny_pipelines import sd
from training.distill import Pair, Settings, distill, initial, make_loss
from training.loop import Budget
from training.muon import Muon
from training.processes import Processes
from training.teacher_data import teacher_runs
from training.tensors import load_tensors, save_tensors

BLOCKS = ("dn0", "up3")
STEPS = 3


def member(folder: Path) -> None:
    """What each process does: the gradients of one step, then a short distillation."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    pipe = sd()
    with accelerator.main_process_first():
        examples = teacher_runs(pipe, ["a cat", "a dog"], 4, folder / "runs", guidance=3.0)
    student, settings = Student.named("M1", pipe.unet), Settings(batch=6)
    begun = initial(student, pipe.unet, BLOCKS)
    network = begun.network(pipe.unet)
    parameters = {name: p for name, p in network.named_parameters() if name in begun.tensors}
    loss = make_loss(Pair(pipe.unet, network, student.removed), examples, pipe.scheduler, settings)
    crew = Processes(list(parameters.values()), Muon(parameters.values(), 1e-3), loss, accelerator)
    losses = crew.backward(2)
    if accelerator.is_main_process:
        found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        save_tensors(found | {"loss": losses["loss"].reshape(1)}, folder / "gradients.safetensors")
    distill(pipe, student, examples, folder / "m1", Budget(STEPS, 60), settings, blocks=BLOCKS, accelerator=accelerator)


def launched(folder: Path, processes: int) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    code = f"from pathlib import Path; from tests.training.test_processes import member; member(Path({str(folder)!r}))"
    members = []
    for rank in range(processes):
        placed = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        given = {name: str(value) for name, value in placed.items()} if processes > 1 else {}
        given |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        members.append(subprocess.Popen([sys.executable, "-c", code], env=os.environ | given))
    assert [each.wait(timeout=300) for each in members] == [0] * processes


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    for processes in (1, 2):
        launched(tmp_path / str(processes), processes)
    one, two = (load_tensors(tmp_path / name / "gradients.safetensors") for name in ("1", "2"))
    assert one.keys() == two.keys() and len(one) > 10
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6)
    ended = [(tmp_path / name / "m1" / "checkpoint" / "losses.csv").read_text().count("\n") for name in ("1", "2")]
    assert ended == [2, 2]  # the head and the last step's row, once
    weights = [Student.load(tmp_path / name / "m1").tensors for name in ("1", "2")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-2, atol=1e-3)
