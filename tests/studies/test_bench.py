"""`explorer bench`: the plan, the stock pipeline and DeepCache in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studies import Store, bench
from studies.cli import run
from studies.config import SearchConfig
from studies.export import find_trial, write_export
from studies.session import open_session
from tests.studies.scored_study import fill

SMALL = ["--pairs", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    with Store.open(folder / "explorer.db") as store:
        study = fill(store)
        write_export(store, study, find_trial(store, study, 2), folder / "plan")
    return folder / "plan"


def test_every_contender_is_timed_against_the_stock_pipeline(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["bench", str(exported), *SMALL, "--batch", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["role"]: row for row in document["contenders"]}
    assert set(rows) == {"stock", "plan", "deepcache-3", "deepcache-5"}
    assert document["contenders"][0]["role"] == "stock" and rows["plan"]["name"] == "DC0/P3+f2"
    for row in rows.values():
        latency = row["latency"]
        assert row["problem"] is None and len(latency["samples"]) == 3 and latency["images"] == 2
        ratios = sorted(stock / mine for stock, mine in latency["samples"])
        assert latency["speedup"]["value"] == pytest.approx(ratios[1])
    assert rows["deepcache-5"]["latency"]["speedup"]["value"] > rows["stock"]["latency"]["speedup"]["value"]
    assert document["settings"]["batch"] == 2 and document["versions"]["torch"]


def test_deepcache_leaves_the_stock_pipeline_as_it_was() -> None:
    session = open_session(
        SearchConfig(objectives=("latency",), reference="baseline", steps=3, pairs=3, prompt_count=4, space="named")
    )
    pipe = session.evaluator.pipe
    forwards = {name: module.__dict__.get("forward") for name, module in pipe.unet.named_modules()}
    with bench._patched(pipe, 3) as patched:
        assert any("forward" in module.__dict__ for module in patched.unet.modules())
        assert {name: module.__dict__.get("forward") for name, module in pipe.unet.named_modules()} == forwards


def test_without_deepcache_it_says_how_to_install_it(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    for module in ("studies.bench", "studies.commands.bench"):
        monkeypatch.setattr(
            f"{module}.find_spec", lambda name, *more: None if name == "DeepCache" else real(name, *more)
        )
    capsys.readouterr()
    assert run(["bench", str(exported), *SMALL]) == 0
    captured = capsys.readouterr()
    assert "pip install DeepCache" in captured.err
    assert "plain@4" in captured.out and "DC0/P3+f2" in captured.out and "DeepCache" not in captured.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["plan", "--pairs", "2"], "pairs=2; it needs at least 3"),
        (["plan", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["plan", "--model", "nothing"], "no such model 'nothing'"),
        (["plan", "--device", "abacus"], "'abacus' is not a device"),
    ],
)
def test_bad_benches_are_one_sentence(
    arguments: list[str], words: str, exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(exported.parent)
    capsys.readouterr()
    assert run(["bench", *arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and words in lines[0]
