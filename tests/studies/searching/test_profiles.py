"""`explorer profile`, what is kept of it, and what a search makes of it, on a tiny architecture."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.models import loading, true_architectures
from explorer.plans.strategies import STRATEGIES
from explorer.timing.profile import Profile
from studies.cli import run
from studies.config import SearchConfig
from studies.searching import profiles
from studies.searching.profiles import find_profile, newest_profile, standing_profile, with_profile
from studies.searching.session import Session, open_session
from studies.storage.store import Store
from tests.conftest import make_pipeline

SMALL = ["--steps", "4", "--rounds", "3", "--device", "cpu"]


MODEL = "arch:tiny"
TINY = {
    "sample_size": 8,
    "block_out_channels": (16, 32, 32, 32),
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
}


def tiny_pipeline(_name: str, dtype: Any, _device: Any) -> Any:
    """As `load_pipeline` makes one of an `arch:` name, with an autoencoder that takes no second to make."""
    from diffusers import AutoencoderKL

    pipe = make_pipeline(**TINY)
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipe.register_modules(vae=vae)
    pipe.vae_scale_factor = 8
    return pipe if dtype == pipe.unet.dtype else pipe.to(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for storages, while a tiny architecture can be named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(true_architectures.ARCHITECTURES, MODEL, (TINY, "epsilon"))
        patch.setattr(loading, "random_pipeline", tiny_pipeline)
        yield tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def stored(folder: Path) -> Path:
    """A storage with a profile that was interrupted after its second round, and gone on with."""
    storage = folder / "explorer.db"
    kept: list[int] = []
    save = profiles.save_profile

    def save_twice(store: Store, profile: Profile) -> None:
        save(store, profile)
        kept.append(profile.step_samples.rounds)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "save_profile", save_twice)
        command = ["profile", "--model", MODEL, "--storage", str(storage), *SMALL]
        assert run(command) == 130
        assert run(command) == 0
    assert kept[:4] == [1, 2, 3, 3] and len(kept) == 9
    return storage


@pytest.fixture
def small_profile(folder: Path, stored: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert run(["profile", "--model", MODEL, "--storage", str(stored), *SMALL, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def session_of() -> Session:
    return open_session(SearchConfig(model=MODEL, steps=4, objectives=("latency",), pairs=3, device="cpu"))


def test_a_profile_that_stands_is_shown_and_not_measured(
    folder: Path, stored: Path, small_profile: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from explorer.timing import profiling

    monkeypatch.setattr(profiling, "time_steps", lambda *_, **__: pytest.fail("measured again"))
    command = ["profile", "--model", MODEL, "--storage", str(stored), *SMALL]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == small_profile
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "none of which they were fitted to" in " ".join(shown.split())
    assert all(name in shown for name in STRATEGIES)


def test_the_document(small_profile: Any) -> None:
    assert [row["name"] for row in small_profile["strategies"]] == list(STRATEGIES)
    for row in small_profile["strategies"]:
        assert row["error"] == pytest.approx(row["predicted_seconds"] / row["seconds"] - 1)
        assert row["cache_mib"] == row["measured_cache_mib"] > 0
    assert all(loop["cache_mib"] == loop["measured_cache_mib"] > 0 for loop in small_profile["loops"])
    assert len(small_profile["nodes"]) == 58
    assert small_profile["errors"]["steps"]["count"] == 27 and small_profile["errors"]["loops"]["count"] == 3
    assert small_profile["workload"]["resolution"] == [64, 64]
    sum_of_parts = small_profile["cost_model"]["fixed"] + sum(node["seconds"] for node in small_profile["nodes"])
    assert sum_of_parts == pytest.approx(small_profile["extract_seconds"], rel=0.1)


def test_another_workload_is_another_profile(folder: Path, stored: Path) -> None:
    session = session_of()
    with Store.open(stored) as store:
        found = standing_profile(session, store)
        assert found is not None and found.complete
        key = profiles.profile_key(found.fingerprint, found.workload, found.device)
        assert find_profile(store, key) is not None
        evaluator = session.evaluator
        larger = replace(evaluator, meter=replace(evaluator.meter, images=2))
        assert standing_profile(replace(session, evaluator=larger), store) is None
        compiled = replace(evaluator, pipelines=replace(evaluator.pipelines, compile="default"))
        assert standing_profile(replace(session, evaluator=compiled), store) is None
        again = standing_profile(session, store)
        assert again is not None and again.to_json() == found.to_json()
        signature = session.architecture.signature
        assert newest_profile(store, MODEL, signature, (64, 64)) is not None
        assert newest_profile(store, MODEL, signature, (128, 128)) is None
        assert newest_profile(store, "another", signature) is None
        device = f"{found.device.kind}: {found.device.name}"
        given: dict[str, Any] = {"device": device, "dtype": found.workload.dtype, "compile": "off"}
        assert newest_profile(store, MODEL, signature, **given) is not None
        for change in ({"device": "cuda: another"}, {"dtype": "float16"}, {"compile": "default"}):
            assert newest_profile(store, MODEL, signature, **given | change) is None


def test_a_search_keeps_predictions_and_screens_by_them(folder: Path, stored: Path) -> None:
    from explorer import InheritancePlan, strategy

    session = session_of()
    evaluator, architecture = session.evaluator, session.architecture
    plan = strategy("CO6", mode="P2", steps=4, unet=architecture)
    longer = InheritancePlan(architecture, 12)
    without = evaluator.score(plan).estimates
    assert "predicted_latency" not in without and evaluator.rejection(longer) is None
    with Store.open(stored) as store:
        evaluator = with_profile(session, store).evaluator
    profile = evaluator.profile
    assert profile is not None
    scored = evaluator.score(plan).estimates
    predicted = profile.predicted_latency(plan, 4)
    assert scored["predicted_latency"] == predicted and scored["latency"] != predicted
    assert (
        scored["cache_mib"].value == pytest.approx(profile.cache_bytes(plan, 4) / 2**20) and scored["cache_mib"].value
    )
    assert evaluator.rejection(plan) is None and evaluator.rejection(InheritancePlan(architecture, 4)) is None
    if predicted.high / predicted.value < 2:  # a very noisy machine lets more through
        assert "as long as the un-accelerated" in str(evaluator.rejection(longer))


def test_strategies_and_anatomy_show_times_where_a_profile_stands(
    folder: Path, stored: Path, small_profile: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for storage, stands in ((str(stored), True), (str(folder / "none.db"), False)):
        assert run(["strategies", "--model", MODEL, "--storage", storage, "--steps", "20", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert all((row["timed_speedup"] is not None) == stands for row in rows)
        assert all(row["cache_mib"] > 0 for row in rows)
        expected = {row["name"]: row["measured_cache_mib"] for row in small_profile["strategies"]} if stands else {}
        assert all(row["measured_cache_mib"] == expected.get(row["name"]) for row in rows)
        other = ["strategies", "--model", MODEL, "--storage", storage, "--steps", "20", "--batch", "2"]
        assert run([*other, "--json"]) == 0
        assert all(row["measured_cache_mib"] is None for row in json.loads(capsys.readouterr().out))
        assert run(["anatomy", "--model", MODEL, "--storage", storage, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        seconds = {node["name"]: node["seconds"] for node in found["nodes"]}
        expected = {node["name"]: node["seconds"] if stands else None for node in small_profile["nodes"]}
        assert seconds == expected and (found["profile"] is not None) == stands
        assert run(["anatomy", "--model", MODEL, "--storage", storage]) == 0
        assert ("Times are from the profile" in capsys.readouterr().out) == stands
    assert not (folder / "none.db").exists()


def test_anatomy_takes_the_model_s_own_factor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pipeline().save_pretrained(tmp_path / "tiny")
    tiny = str(tmp_path / "tiny")
    for model, side, latent in ((tiny, 44, 22), ("emoji", 128, 16), ("arch:sd15", 512, 64)):
        assert run(["anatomy", "--model", model, "--resolution", str(side), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["latent"] == [latent, latent]
    for side in ("45", "100000000"):
        assert run(["anatomy", "--model", tiny, "--resolution", side]) == 1
        assert "positive multiple of 2 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "gpu"], "is not a device"),
        (["--dtype", "half"], "is not a dtype"),
        (["--compile", "cudagraphs", "--device", "cpu"], "need a CUDA GPU"),
        (["--compile", "fast"], "unknown compile mode"),
        (["--batch", "0"], "at least 1"),
        (["--steps", "0"], "at least 1"),
        (["--rounds", "2"], "at least 3"),
        (["--resolution", "45"], "multiple of 8 pixels"),
        (["--model", "no-such-model"], "no such model"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    command = ["profile", "--model", MODEL, "--storage", str(folder / "refused.db"), *SMALL, *options]
    assert run(command) == 1
    said = capsys.readouterr()
    assert words in said.err and said.err.count("error:") == 1 and not said.out


def test_a_compiler_that_fails_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def backend(*_: Any) -> Any:
        raise FileNotFoundError("Python.h is missing")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    command = ["profile", "--model", MODEL, "--storage", str(folder / "refused.db"), *SMALL, "--compile", "default"]
    assert run(command) == 1
    said = capsys.readouterr()
    assert "error: the compile mode default cannot be had: the compiler failed" in said.err and not said.out
    assert "Python.h is missing" in said.err and "Traceback" not in said.err


def test_too_little_memory_is_said_before_loading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from explorer import memory

    monkeypatch.setattr(memory, "free_memory", lambda _: 2**30)
    monkeypatch.setattr(loading, "random_pipeline", lambda *_, **__: pytest.fail("loaded"))
    assert run(["profile", "--model", "arch:sd15", "--storage", str(folder / "refused.db"), *SMALL]) == 1
    said = capsys.readouterr().err
    assert "arch:sd15 in float32 needs about 4.4 GiB (unet 3.2, vae 0.31 and headroom) and 1.0 GiB are free" in said
    assert "take a smaller model" in said and "--batch" not in said
