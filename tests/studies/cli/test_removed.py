"""What earlier versions had: one sentence that names the replacement, and studies that still open and show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.errors import StudyError
from studies import SamplerSettings, Store, run_worker, trials
from studies.cli import run
from studies.cli.commands.certify import certificate_config
from studies.removed import PROXY_VARIABLE, SAMPLER
from studies.results.lineage import lineage
from studies.storage.tables import PARENTS
from tests.studies.scored_study import fill
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "--model", "emoji", "--budget", "30m"], "`explorer tune` is now `explorer autotune`"),
        (["tune", "--help"], "its folders resume"),
        (["proxy"], "give every worker the PostgreSQL URL in EXPLORER_STORAGE"),
        (["show", "mine", "--wish", "at most 1% CLIP loss"], "give --max-clip-loss 1%, --max-drift X, --min METRIC=X"),
        (["show", "--wish=at least 2x", "mine"], "--min METRIC=X or --max METRIC=X"),
        (["proxy", "--storage", "postgresql://db/explorer", "--port", "13000"], "gRPC proxy was removed"),
    ],
)
def test_a_removed_command_or_option_names_its_replacement(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and words in error


def test_workers_that_expect_a_proxy_are_told_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Store.open(tmp_path / "mine.db"))
    monkeypatch.setenv(PROXY_VARIABLE, "db:13000")
    with pytest.raises(StudyError, match=f"{PROXY_VARIABLE} is set: .* unset it"):
        Store.open(tmp_path / "explorer.db")
    assert not (tmp_path / "explorer.db").exists()
    assert run(["show", "small", "--storage", str(tmp_path / "mine.db")]) == 0, "reading never used it"


def test_a_study_of_the_removed_sampler_shows_and_does_not_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "explorer.db"
    with Store.open(file) as store:
        study = fill(store, sampler=SamplerSettings(SAMPLER, {}, 3))
        optuna_study = store.optuna_study(study)
        for _ in range(4):
            optuna_study.ask().set_user_attr(PARENTS, [0, 1])
        before = trials(store, study)
        assert certificate_config(study.settings, "certificate", {}).sampler == SAMPLER, (
            "certifying draws nothing of it"
        )
        assert "crossed from trial 0 and trial 1" in lineage(store, study, before[2]).words()
    there = ["--storage", str(file)]
    assert run(["show", "small", *there]) == 0 and run(["list", *there]) == 0
    assert run(["export", "small", "--trial", "1", "--out", str(tmp_path / "out"), *there]) == 0
    capsys.readouterr()
    for command in (["search", "--study"], ["worker", "--study"], ["calibrate", "--study"]):
        assert run([*command, "small", *there]) == 1
        assert "can be shown, exported and certified, not resumed" in capsys.readouterr().err
    assert run(["show", "small", *there, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == len(before)


def test_the_removed_sampler_begins_no_study(
    store_file: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", "--sampler", SAMPLER, "--storage", str(tmp_path / "new.db")]) == 1
    assert "nsgaii for Optuna's own NSGA-II" in capsys.readouterr().err
    store_file.create_study("s", toy_settings(sampler=SamplerSettings(SAMPLER)))
    with pytest.raises(StudyError, match="start a new one with --sampler tpe"):
        run_worker(store_file, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=1)
