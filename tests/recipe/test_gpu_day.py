"""The recipe in calls of minutes: all of it at tiny size on the CPU, and going on from what came back."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from explorer.errors import TrainingError
from recipe import gpu_day
from recipe.networks import faster
from recipe.networks.faster import TookTooLongError, quicker, within
from recipe.networks.unet import PREDICTIONS, target_of, train_unet, weights_of
from recipe.packing.parcels import pack_data, unpack_parcel
from tests.recipe.conftest import CHANNELS
from training.loop import Average, Budget, Training
from training.muon import Muon

TINY = ["--preset", "gpu-tiny", "--device", "cpu", "--no-compile", "--reserve", "0"]


def steps_of(work: Path) -> int:
    with safe_open(work / "unet" / "checkpoint.safetensors", "pt") as opened:
        return int(opened.metadata()["step"])


@pytest.fixture(scope="module")
def first_call(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `carried`, and `work` and `out` as the first call left them."""
    there = tmp_path_factory.mktemp("day")
    pack_data(prepared, there / "carried" / "data")
    gpu_day.main(
        ["train", "--work", str(there / "work"), "--out", str(there / "out"), "--carried", str(there / "carried"),
         "--minutes", "3", "--unet-minutes", "0.02", *TINY]
    )  # fmt: skip
    return there


def test_the_first_call_leaves_what_the_next_needs(first_call: Path) -> None:
    work = first_call / "work"
    assert (work / "autoencoder2" / "model").is_dir() and (work / "clip" / "model").is_dir()
    assert steps_of(work) >= 1
    assert json.loads((work / "device.json").read_text())["kind"] == "cpu"
    names = sorted(path.name for path in (first_call / "out").iterdir())
    assert names == ["trained.00", "trained.json"]


def test_finish_goes_on_from_what_came_back_and_measures(first_call: Path, tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    shutil.copytree(first_call / "carried", carried)
    for path in (first_call / "out").iterdir():
        shutil.copy(path, carried)
    before = steps_of(first_call / "work")
    out = tmp_path / "out"
    gpu_day.main(
        ["finish", "--work", str(tmp_path / "work"), "--out", str(out), "--carried", str(carried), "--minutes", "0.05",
         "--embedded", str(tmp_path / "embedded"), "--count", "6", "--steps", "6", *TINY]
    )  # fmt: skip
    assert steps_of(tmp_path / "work") >= before
    found = json.loads((out / "evaluation.json").read_text())
    assert found["placed"] is True and {"tradeoff", "guidances", "alignment"} <= set(found)
    assert not list(out.glob("trained.*"))
    unpack_parcel(out / "embedded", tmp_path / "back")
    assert (tmp_path / "back" / "embedded" / "emoji" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert (tmp_path / "back" / "embedded" / "card" / "samples-training.png").exists()
    assert (tmp_path / "back" / "embedded" / "card" / "device.json").exists()


def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: 'toaster' is not a device"):
        gpu_day.main(["train", "--out", str(tmp_path / "out"), "--device", "toaster"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_prediction_is_trained_kept_and_exported(trained: Path, tmp_path: Path, prediction: str) -> None:
    from recipe.packing.export import build_pipeline

    for name in ("data", "autoencoder2"):
        (tmp_path / name).symlink_to(trained / name)
    options = {"channels": CHANNELS, "batch": 4, "prediction": prediction, "placings": 2}
    train_unet(tmp_path, Budget(steps=2), **options)  # type: ignore[arg-type]
    assert build_pipeline(tmp_path, CHANNELS, "autoencoder2").scheduler.config.prediction_type == prediction
    other = next(each for each in PREDICTIONS if each != prediction)
    with pytest.raises(TrainingError, match=prediction):
        train_unet(tmp_path, Budget(steps=3), **{**options, "prediction": other})  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_targets_and_weights_are_one_loss_on_the_picture(prediction: str) -> None:
    """Either weight times its squared error is min(SNR, 5) times the squared error of the clean picture."""
    clean, noise, error = (torch.randn(1, 3) for _ in range(3))
    for alpha in (torch.tensor(0.02), torch.tensor(0.5), torch.tensor(0.99)):
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        made = target_of(prediction, clean, noise, alpha) + error
        if prediction == "epsilon":
            drawn = (noisy - (1 - alpha).sqrt() * made) / alpha.sqrt()
        else:
            drawn = alpha.sqrt() * noisy - (1 - alpha).sqrt() * made
        snr = alpha / (1 - alpha)
        expected = snr.clamp(max=5) * (drawn - clean).square()
        torch.testing.assert_close(weights_of(prediction, snr) * error.square(), expected, rtol=1e-3, atol=1e-4)


def training_of(model: torch.nn.Module, tmp_path: Path) -> Training:
    parameters = dict(model.named_parameters())
    return Training(tmp_path, parameters, Muon(parameters.values(), 0.1), Average(parameters, 0.9), Budget(steps=5))


def test_a_training_stops_at_its_moment_and_is_kept(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 3)
    training = training_of(model, tmp_path)
    saved = []
    training.stop_at, training.on_save = time.monotonic() - 1, lambda: saved.append(training.step)
    assert list(training.run(lambda *_: {"loss": model(torch.ones(1, 3)).sum()}, 0.1, 1)) == []
    assert saved == [0] and training.path.exists() and training.step == 0


@pytest.mark.parametrize("what", ["fails", "takes too long", "is slower", "is faster"])
def test_the_compiler_is_never_in_the_way(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(3, 3)
    training = training_of(model, tmp_path)
    before = [p.detach().clone() for p in model.parameters()]

    def compile(given: torch.nn.Module, **_: bool) -> torch.nn.Module:
        if what == "fails":
            raise RuntimeError("no such backend")
        if what == "takes too long":
            time.sleep(20)
        return torch.nn.Sequential(given)

    monkeypatch.setattr(torch, "compile", compile)
    times = {torch.nn.Linear: 1.0, torch.nn.Sequential: 0.5 if what == "is faster" else 2.0}
    monkeypatch.setattr(faster, "seconds_a_step", lambda loss, _: times[type(loss(0, slice(None))["model"])])

    def loss_by(given: torch.nn.Module):  # type: ignore[no-untyped-def]
        return lambda step, share: {"loss": given(torch.ones(1, 3)).sum(), "model": given}

    chosen = quicker(model, loss_by, training, 0.2)(0, slice(None))["model"]
    assert isinstance(chosen, torch.nn.Sequential if what == "is faster" else torch.nn.Linear)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_block_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TookTooLongError), within(0.05):
        time.sleep(5)
    time.sleep(0.06)  # no alarm is left behind
