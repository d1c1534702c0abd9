"""Speed-up adapters in training: what is recorded, what the losses ask for, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.errors import TrainingError
from explorer.networks.speedup import SpeedUp
from explorer.networks.speedup_branch import SpeedUpUse
from explorer.networks.student import unet_fingerprint
from tests.explorer.tiny_pipelines import sd, sdxl
from training.guided_runs import GuidedRuns, guided_runs
from training.loop import Budget, Training
from training.speed_up import SpeedUpSettings, Steps, adapted, make_loss, train_speed_up
from training.teacher_data import under_ddim

PROMPTS, NEGATIVES = ["a cat", "a dog", "the sea"], ["red", "a cat"]
HOW: dict[str, Any] = {"steps": 4, "most": 5.0, "batch": 3}
SETTINGS = SpeedUpSettings(batch=6, rate=5e-3, anchors=2)
USE = SpeedUpUse(guidance=3.0, most=5.0, steps=2)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.fixture(scope="module")
def runs(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> GuidedRuns:
    return guided_runs(pipe, PROMPTS, NEGATIVES, 6, tmp_path_factory.mktemp("runs"), **HOW)


def test_runs_are_recorded_over_scales_and_negative_prompts_and_gone_on_with(
    pipe: Any, runs: GuidedRuns, tmp_path: Path
) -> None:
    assert runs.states.shape[:2] == (5, 6) and list(runs.times) == sorted(runs.times, reverse=True)
    assert runs.guidance.unique().numel() == 2 and runs.guidance.min() > 1 and runs.guidance.max() <= 5
    assert len({tuple(each.flatten().tolist()) for each in runs.negative}) > 1
    guided_runs(pipe, PROMPTS, NEGATIVES, 3, tmp_path, **HOW)
    assert torch.equal(guided_runs(pipe, PROMPTS, NEGATIVES, 6, tmp_path, **HOW).states, runs.states)
    with pytest.raises(TrainingError, match="of another model or of other settings"):
        guided_runs(pipe, PROMPTS, NEGATIVES, 3, tmp_path, **{**HOW, "most": 4.0})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_velocity_that_the_guidance_loss_asks_for_is_the_guided_prediction(prediction: str, tmp_path: Path) -> None:
    pipe = sd()
    pipe.scheduler.register_to_config(prediction_type=prediction)
    found = guided_runs(pipe, PROMPTS, NEGATIVES, 3, tmp_path, **HOW)
    ddim, rows = Steps(under_ddim(pipe).scheduler), torch.arange(3)
    times = torch.cat([found.times, torch.tensor([-1.0])])
    for i in range(4):
        sample, landing = found.states[i].float(), found.states[i + 1].float()
        alpha, later = (ddim.alpha(times[at].expand(3)) for at in (i, i + 1))
        with torch.no_grad():
            text, negative = (
                pipe.unet(sample, times[i].expand(3), states[rows].float()).sample
                for states in (found.context, found.negative)
            )
        guided = negative + found.guidance.reshape(-1, 1, 1, 1) * (text - negative)
        wanted = ddim.velocity(guided, sample, alpha)
        scale = wanted.square().mean().sqrt()
        torch.testing.assert_close(
            ddim.wanted(sample, landing, alpha, later) / scale, wanted / scale, atol=0.05, rtol=0
        )
        torch.testing.assert_close(ddim.land(sample, ddim.wanted(sample, landing, alpha, later), alpha, later), landing)


@pytest.mark.parametrize("settings", [{"guidance": 1.0}, {"guidance": 0.0, "own": 0.0}, {"guidance": 0.0, "own": 1.0}])
@pytest.mark.parametrize("kind", [sd, sdxl])
def test_training_lowers_the_loss_and_leaves_the_base_alone(
    kind: Any, settings: dict[str, float], tmp_path: Path
) -> None:
    pipe = kind()
    found = guided_runs(pipe, PROMPTS, NEGATIVES, 6, tmp_path / "runs", **HOW)
    chosen = SpeedUpSettings(batch=6, rate=5e-3, anchors=2, **settings)
    before = unet_fingerprint(pipe.unet)
    made = train_speed_up(pipe, found, tmp_path / "adapter", Budget(steps=12), chosen, USE)

    def loss_of(adapter: SpeedUp) -> float:
        with adapted(pipe.unet, adapter) as scale, torch.no_grad():
            loss = make_loss(
                pipe.unet, scale, found, under_ddim(pipe).scheduler, SpeedUpSettings(24, 1e-3, 9, 2, **settings)
            )
            return float(loss(0, slice(None))["loss"])

    assert loss_of(made) < loss_of(SpeedUp.untrained(pipe.unet, USE))
    assert unet_fingerprint(pipe.unet) == before == made.use.base
    assert SpeedUp.load(tmp_path / "adapter").use == made.use


def test_a_kill_and_a_resume_give_the_weights_of_an_unbroken_training(
    pipe: Any, runs: GuidedRuns, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(training: Training) -> None:
        if training.step == 4:
            training.save()
            raise Killed

    unbroken = train_speed_up(pipe, runs, tmp_path / "a", Budget(steps=6), SETTINGS, USE)
    with pytest.raises(Killed):
        train_speed_up(pipe, runs, tmp_path / "b", Budget(steps=6), SETTINGS, USE, on_step=kill)
    resumed = train_speed_up(pipe, runs, tmp_path / "b", Budget(steps=6), SETTINGS, USE)
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(TrainingError, match="was trained with"):
        train_speed_up(pipe, runs, tmp_path / "b", Budget(steps=6), SpeedUpSettings(batch=5, anchors=2), USE)


def test_shares_of_a_batch_add_up_to_it(pipe: Any, runs: GuidedRuns) -> None:
    with adapted(pipe.unet, SpeedUp.untrained(pipe.unet, USE)) as scale, torch.no_grad():
        loss = make_loss(pipe.unet, scale, runs, under_ddim(pipe).scheduler, SETTINGS)
        for step in range(3):
            both = sum(float(loss(step, slice(part, None, 2))["loss"]) for part in (0, 1))
            assert both == pytest.approx(float(loss(step, slice(None))["loss"]), rel=1e-4)


def test_what_cannot_be_trained_is_refused(pipe: Any, runs: GuidedRuns, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no 3 anchors"):
        train_speed_up(pipe, runs, tmp_path, Budget(steps=1), SpeedUpSettings(anchors=3), USE)
    with pytest.raises(TrainingError, match="shares"):
        SpeedUpSettings(guidance=1.5)
    with pytest.raises(TrainingError, match="a guidance above 1"):
        guided_runs(pipe, PROMPTS, NEGATIVES, 3, tmp_path, steps=4, most=1.0)
