"""Processes that `accelerate launch` started: each computes a share of the batch, on its own device.

The gradients of the shares are summed, so that all processes make the update of the complete batch. Nothing is wrapped:
the network's parts can be called as the engine calls them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from training.muon import Muon
from training.team import Loss


class Processes:
    """One of several processes of a training; of one alone, plain training.

    Args:
        parameters: Of the network, the same in every process.
        optimizer: Of these.
        loss_of: Gives the losses of a share of a step's batch; those of all shares add up to the batch's.
        accelerator: An `accelerate.Accelerator`, which knows the processes, the device and the precision.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], optimizer: Muon, loss_of: Loss, accelerator: Any) -> None:
        self.parameters, self.optimizer, self.loss_of, self.accelerator = parameters, optimizer, loss_of, accelerator

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """One training step; the losses are the batch's."""
        losses = self.backward(number)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step_at(rate)
        return losses

    def backward(self, number: int) -> dict[str, torch.Tensor]:
        """Compute the losses and the gradients of the complete batch of a step."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            losses = self.loss_of(number, slice(self.accelerator.process_index, None, self.accelerator.num_processes))
        losses["loss"].backward()
        found = {name: value.detach() for name, value in losses.items()}
        if self.accelerator.num_processes > 1:
            for p in self.parameters:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
                dist.all_reduce(p.grad)
            for value in found.values():
                dist.all_reduce(value)
        return found

    def agree(self, seconds: float) -> float:
        """The first process's clock, by which all end together."""
        if self.accelerator.num_processes == 1:
            return seconds
        told = torch.tensor([seconds], dtype=torch.float64, device=self.accelerator.device)
        dist.broadcast(told, 0)
        return float(told)

    def end(self) -> None:
        """Nothing is held between steps."""
