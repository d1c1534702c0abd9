"""Several single-threaded processes that train one model on a CPU: each a share of the batch, then of the update.

Threads of one process wait for each other at every operation, which is slow wherever other programs run on the same
cores; these processes wait three times a step. Parameters, gradients and moments lie in shared memory, so nothing is
copied. The sum of the shares' gradients is that of the whole batch.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import torch

from explorer.errors import TrainingError
from training.muon import Muon

Loss = Callable[[int, slice], dict[str, torch.Tensor]]


class Team:
    """`size` processes of which this one is the first; a team of one is plain training.

    `loss_of(step, share)` gives the losses of a share of the step's batch, scaled so that the shares' "loss" add up to
    the batch's.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], optimizer: Muon, loss_of: Loss, size: int) -> None:
        self.parameters, self.optimizer, self.loss_of, self.size = parameters, optimizer, loss_of, size
        self.helpers: list[Any] = []
        if size == 1:
            return
        if torch.get_num_threads() != 1:
            raise TrainingError(f"a team of {size} needs one thread a process; this one has {torch.get_num_threads()}.")
        optimizer.prepare()
        for p in parameters:
            p.data.share_memory_()
            for value in optimizer.state[p].values():
                value.share_memory_()
        self.gradients = [[torch.zeros_like(p).share_memory_() for p in parameters] for _ in range(size)]
        self.squares = torch.zeros(size).share_memory_()
        self.order = torch.zeros(2, dtype=torch.float64).share_memory_()  # step, rate
        context = multiprocessing.get_context("fork")
        self.barrier = context.Barrier(size)
        # shares of about equal work: what an update costs grows with the size of the smaller side
        costs = sorted(range(len(parameters)), key=lambda i: -self._cost(parameters[i]))
        self.shares = [sorted(costs[i::size]) for i in range(size)]
        for number in range(1, size):
            process = context.Process(target=self._help, args=(number, os.getpid()), daemon=True)
            process.start()
            self.helpers.append(process)

    @staticmethod
    def _cost(p: torch.nn.Parameter) -> float:
        return p.numel() * min(p.shape[0], p.numel() // p.shape[0]) if p.ndim > 1 else 0.0

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """One training step of the whole team; the losses are those of this process's share, scaled to a batch. Raises
        TrainingError when one of the others has ended."""
        if self.size == 1:
            return self._alone(number, rate)
        self.order.copy_(torch.tensor([number, rate], dtype=torch.float64))
        try:
            self._wait()
            losses = self._together(0, number, rate)
        except threading.BrokenBarrierError as error:
            raise TrainingError("a process of the training has ended; the same command goes on with it.") from error
        return {name: value * (self.size if name == "loss" else 1) for name, value in losses.items()}

    def agree(self, seconds: float) -> float:
        """The clock by which the training ends: this process's, as the others follow it."""
        return seconds

    def end(self) -> None:
        """Let the helpers go, wherever they are: an interrupt may have come in the middle of a step."""
        if self.helpers:
            self.barrier.abort()
            for process in self.helpers:
                process.join()
            self.helpers = []

    def _wait(self) -> None:
        self.barrier.wait(timeout=600)

    def _alone(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.loss_of(number, slice(None))
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step_at(rate)
        return losses

    def _together(self, member: int, number: int, rate: float) -> dict[str, torch.Tensor]:
        own = self.gradients[member]
        torch._foreach_zero_(own)
        for p, gradient in zip(self.parameters, own, strict=True):
            p.grad = gradient
        losses = self.loss_of(number, slice(member, None, self.size))
        losses["loss"].backward()
        self._wait()
        share = self.shares[member]
        mine = [own[i] for i in share]
        for other in range(self.size):
            if other != member:
                torch._foreach_add_(mine, [self.gradients[other][i] for i in share])
        self.squares[member] = torch.stack(torch._foreach_norm(mine)).square().sum()
        self._wait()
        torch._foreach_mul_(mine, float((1.0 / (self.squares.sum().sqrt() + 1e-6)).clamp(max=1.0)))
        self.optimizer.step_at(rate, [self.parameters[i] for i in share])
        self._wait()
        return losses

    def _help(self, member: int, parent: int) -> None:
        try:
            while True:
                self._wait()
                if os.getppid() != parent:
                    return
                self._together(member, int(self.order[0]), float(self.order[1]))
        except (KeyboardInterrupt, threading.BrokenBarrierError):  # the end, or another's
            self.barrier.abort()
        except BaseException:
            self.barrier.abort()  # the others would wait for this one
            raise
