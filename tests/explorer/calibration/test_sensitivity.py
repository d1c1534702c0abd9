"""The change of each unit's residual from step to step, against what hooks on the stock modules see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from explorer.calibration.recorder import Recorder
from explorer.calibration.sensitivity import Sensitivity, measure
from explorer.errors import ScoreError
from explorer.unet.architecture import Architecture
from explorer.unet.program import Program
from tests.conftest import embeds, make_pipeline
from tests.explorer.runtime.small_runs import latents


def branches_of(pipe: Any, steps: int, batch: int) -> dict[str, list[torch.Tensor]]:
    """Each unit's residual at each evaluation, seen by hooks on the stock modules."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = []
    modules = Program(pipe.unet).modules
    for unit in Architecture.of(pipe.unet).units:
        values = seen.setdefault(unit, [])
        if unit.endswith("attn"):
            take: Any = lambda _m, given, made, values=values: values.append(made[0] - given[0])  # noqa: E731
            hooks.append(modules[unit].register_forward_hook(take))
        else:
            keep: Any = lambda _m, _given, made, values=values: values.append(made)  # noqa: E731
            hooks.append(modules[unit].conv2.register_forward_hook(keep))
    latents(pipe, steps, batch)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("batch", [1, 2])
def test_the_change_is_that_of_the_stock_modules(batch: int) -> None:
    pipe = make_pipeline()
    plain = latents(pipe, 4, batch)
    pictures: list[torch.Tensor] = []
    found = measure(pipe, lambda: pictures.append(latents(pipe, 4, batch)), batch)
    assert torch.equal(pictures[0], plain)
    assert found.units == Architecture.of(pipe.unet).units and found.evaluations == 4 and found.pictures == batch
    assert np.isnan(found.values[:, 0]).all() and (found.values[:, 1:] > 0).all()
    for unit, values in branches_of(pipe, 4, batch).items():
        for i in range(1, 4):
            now, before = values[i].flatten(1).double(), values[i - 1].flatten(1).double()
            expected = ((now - before).norm(dim=1) / now.norm(dim=1)).mean()
            assert found.values[found.units.index(unit), i] == pytest.approx(float(expected), rel=1e-3)


def test_the_pipeline_is_as_before_and_nothing_is_held() -> None:
    pipe = make_pipeline()
    plain = latents(pipe)
    recorder = Recorder(pipe)
    with recorder:
        latents(pipe)
        assert len(recorder._before) == len(recorder.units)  # one evaluation's residuals
    assert not recorder._before
    assert torch.equal(latents(pipe), plain)
    assert "forward" not in pipe.unet.__dict__


def test_a_run_without_an_evaluation_is_refused() -> None:
    with pytest.raises(ScoreError, match="never evaluated"):
        measure(make_pipeline(), lambda: None, 1)


def test_a_shape_that_changes_is_refused() -> None:
    pipe = make_pipeline()

    def run() -> None:
        pipe.scheduler.set_timesteps(2)
        for side in (16, 8):
            context = embeds()["prompt_embeds"]
            pipe.unet(torch.zeros(1, 4, side, side), 1, context)

    with pytest.raises(ScoreError, match="changed its shape"):
        measure(pipe, run, 1)


@given(arrays.arrays(np.float64, (3, 4), elements=some.floats(0, 10)))
def test_it_is_kept_as_json(values: np.ndarray) -> None:
    values[:, 0] = np.nan
    before = Sensitivity(("a", "b", "c"), values, 2, 1.0)
    after = Sensitivity.from_json(before.to_json())
    assert after.units == before.units and np.isnan(after.values[:, 0]).all()
    np.testing.assert_allclose(after.values[:, 1:], values[:, 1:], atol=1e-6)
    assert after.of_units()["b"] == pytest.approx(values[1, 1:].mean(), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"values": None}, {"values": [[1.0]]}, {"values": [[1.0], [1.0, 2.0]]}, {"units": 3}, {"values": [["x"], ["y"]]}],
)
def test_damaged_json_is_one_sentence(change: dict[str, Any]) -> None:
    whole = Sensitivity(("a", "b"), np.ones((2, 3)), 2, 1.0).to_json()
    with pytest.raises(ScoreError, match="measure it again"):
        Sensitivity.from_json(whole | change)
