"""Muon (Jordan 2024): momentum whose matrix is orthogonalised; AdamW for vectors. Far fewer steps for convolutions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

ROUNDS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TABLE = 1300  # matrices of more rows are embeddings, whose rows are seen one at a time: no matrix to orthogonalise


def orthogonal(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """About the nearest semi-orthogonal matrix of each, by Newton-Schulz with Jordan's quintic coefficients.

    Every iterate is a polynomial of the Gram matrix times the matrix, so only the small square Gram matrices are
    iterated, those of one size together: a fraction of the work, and few calls.
    """
    wide = [m.T if m.shape[0] > m.shape[1] else m for m in matrices]
    wide = [m / (m.norm() + 1e-7) for m in wide]
    sizes: dict[int, list[int]] = defaultdict(list)
    for i, m in enumerate(wide):
        sizes[m.shape[0]].append(i)
    results: list[torch.Tensor] = [matrices[0]] * len(matrices)
    for rows in sizes.values():
        product = _polynomial(torch.stack([wide[i] @ wide[i].T for i in rows]))
        for i, factor in zip(rows, product, strict=True):
            made = factor @ wide[i]
            results[i] = made.T if matrices[i].shape[0] > matrices[i].shape[1] else made
    return results


def _polynomial(gram: torch.Tensor) -> torch.Tensor:
    """[n, m, m]: the factor that Newton-Schulz applies to matrices of these Gram matrices."""
    first, third, fifth = COEFFICIENTS
    product: torch.Tensor | None = None
    for i in range(ROUNDS):
        factor = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        factor.diagonal(dim1=1, dim2=2).add_(first)
        product = factor if product is None else factor @ product
        if i < ROUNDS - 1:
            gram = factor @ gram @ factor
    assert product is not None
    return product


def is_matrix(p: torch.Tensor) -> bool:
    """Whether Muon orthogonalises the update of a parameter."""
    return p.ndim >= 2 and p.shape[0] < TABLE


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two dimensions and more (convolutions as out x rest), AdamW for the others and for tables.

    The orthogonal update is scaled to AdamW's usual size (0.2 sqrt(max(rows, columns)), Liu et al. 2025), so both share
    one learning rate.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        self.step_at(self.param_groups[0]["lr"])

    @torch.no_grad()
    def step_at(self, rate: float, parameters: list[torch.nn.Parameter] | None = None) -> None:
        """One update at a learning rate, of some of the parameters (None: of all)."""
        given = [p for p in parameters or self.param_groups[0]["params"] if p.grad is not None]
        matrices = [p for p in given if is_matrix(p)]
        torch._foreach_mul_(given, 1 - rate * self.param_groups[0]["decay"])
        self._matrices(matrices, rate)
        self._others([p for p in given if not is_matrix(p)], rate)

    def prepare(self) -> None:
        """Make every moment now rather than at the first step."""
        for p in self.param_groups[0]["params"]:
            self._state([p], "exp_avg")
            if not is_matrix(p):
                self._state([p], "exp_avg_sq")
                self.state[p].setdefault("step", torch.zeros(()))

    def _state(self, parameters: list[torch.nn.Parameter], name: str) -> list[torch.Tensor]:
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]

    def _matrices(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        if not parameters:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        momenta = self._state(parameters, "exp_avg")
        torch._foreach_lerp_(momenta, grads, 0.05)
        updates = orthogonal([u.flatten(1) for u in torch._foreach_lerp(grads, momenta, 0.95)])
        for p, update in zip(parameters, updates, strict=True):
            p.add_(update.reshape(p.shape), alpha=-rate * 0.2 * max(update.shape) ** 0.5)

    def _others(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        if not parameters:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        first, second = self._state(parameters, "exp_avg"), self._state(parameters, "exp_avg_sq")
        counts = [float(self.state[p].setdefault("step", torch.zeros(())).add_(1)) for p in parameters]
        torch._foreach_lerp_(first, grads, 0.1)
        torch._foreach_lerp_(second, torch._foreach_mul(grads, grads), 0.01)
        scales = torch._foreach_div(second, [1 - 0.99**count for count in counts])
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, 1e-8)
        torch._foreach_addcdiv_(
            list[torch.Tensor](parameters), first, scales, [-rate / (1 - 0.9**count) for count in counts]
        )
