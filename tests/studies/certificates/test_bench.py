"""`explorer bench`: the plan, the stock pipeline and DeepCache in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.estimate import Estimate
from explorer.timing.latency import Latency
from studies import Store
from studies.certificates import bench
from studies.certificates.export import find_trial, write_export
from studies.cli import run
from studies.config import SearchConfig
from studies.searching.session import open_session
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


def test_a_compiled_bench_compares_like_with_like(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stock pipeline against itself is about 1, compiled on both sides; the compiler's gain has its own row."""
    from explorer.timing.latency import compare

    sides: list[tuple[bool, bool]] = []
    with pytest.MonkeyPatch.context() as patch:
        # The backend is not what is tested: an eager one takes a second where inductor takes minutes.
        patch.setattr("explorer.runtime.targets.check_compiler", lambda device: None)
        patch.setattr("explorer.runtime.eager.Compiled", lambda variant, number: Marked(variant))

        def watched(baseline: Any, candidate: Any, **options: Any) -> Any:
            def ran(call: Any) -> bool:
                before = Marked.calls
                call()
                return Marked.calls > before

            sides.append((ran(baseline), ran(candidate)))
            return compare(baseline, candidate, **options)

        patch.setattr("studies.scoring.latency_meter.compare", watched)
        capsys.readouterr()
        assert run(["bench", str(exported), *SMALL, "--compile", "default", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in document["contenders"]]
    assert [row["role"] for row in document["contenders"]][:2] == ["stock", "eager"]
    assert names[:2] == ["plain@4", "plain@4, not compiled"]
    assert {"DeepCache, interval 3, not compiled", "DeepCache, interval 5, not compiled"} <= set(names)
    # In the order of timing: the plan, the stock pipeline, the eager one, DeepCache twice.
    assert sides == [(True, True), (True, True), (True, False), (True, False), (True, False)]


class Marked:
    """A variant that counts its calls, in place of a compiled one."""

    calls = 0

    def __init__(self, variant: Any) -> None:
        self.variant = variant

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        Marked.calls += 1
        return self.variant(*inputs, **named)


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (Estimate(0.5, 0.45, 0.55, 3), "2.00x [1.82, 2.22] as fast as it is without the compiler"),
        (Estimate(1.1, 1.05, 1.2, 3), "slower than it is without the compiler (0.91x [0.83, 0.95])"),
    ],
)
def test_the_gain_of_the_compiler_alone_is_said(speed: Estimate, words: str) -> None:
    row = bench.BenchRow(bench.EAGER, "plain@4, not compiled", 4, Latency(speed, speed, ((1.0, 2.0),) * 3, 1, 5))
    assert words in bench.compiler_words([row]) and bench.compiler_words([]) == ""


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
    for module in ("studies.certificates.bench", "studies.cli.commands.bench"):
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
