"""Whole runs of `explorer autotune` on the embedded model."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from explorer import InheritancePlan, PlanError
from studies import Store, trials
from studies.autotune import sharing
from studies.autotune.autotune import (  # fmt: skip
    OBJECTIVES,
    TRY_SEEDS,
    Tuning,
    _certificate,
    finish,
    search,
)
from studies.autotune.sharing import Split
from studies.certificates.held_out import FRESH_SEED, held_out
from studies.choosing.judgement import FAILS, HOLDS, OPEN, QualityLimits
from studies.choosing.pick import candidates
from studies.cli import run
from studies.config import SearchConfig
from studies.scoring.evaluator import CandidateEvaluator
from studies.searching.session import Session, open_session
from tests.studies.scored_study import fill


def test_a_calibrated_search_proposes_races_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted on its way and begun again, as `explorer search` would do with the same study."""
    from studies.autotune import autotune
    from studies.searching import calibrate

    used: list[CandidateEvaluator] = []
    run_worker = autotune.run_worker
    monkeypatch.setattr(autotune, "run_worker", lambda *args, **how: used.append(args[3]) or run_worker(*args, **how))
    monkeypatch.setattr(sharing, "LEAST_PLANS", 1)
    monkeypatch.setattr(calibrate, "PICTURES", 1)
    monkeypatch.setattr(calibrate, "POINTS", 2)
    said: list[str] = []

    def say(last: str, text: str) -> None:
        said.append(text)
        if text.startswith(last):
            raise KeyboardInterrupt

    config = SearchConfig(
        objectives=OBJECTIVES, reference="baseline", steps=3, pairs=3, prompt_count=2, calibrate=True, study="tune"
    )
    session = open_session(config)
    with Store.open(tmp_path / "explorer.db") as store:
        for last in ("search, plan 3:", "search, plan 4:"):
            tuning = Tuning(config, QualityLimits(), 10_000.0, tmp_path / "out", partial(say, last), held_out(config))
            tuning.split = Split(2, 3, 2, 1.0, 10.0, 8, 1.0, calibration=1.0)
            session = replace(session, evaluator=session.evaluator.reseeded(config.seed))
            with pytest.raises(KeyboardInterrupt):
                search(tuning, session, store)
            assert used[-1].race is not None and used[-1].maker.saved is not None
            assert list(used[-1].maker.saved.folder.glob("*.safetensors"))
        found = trials(store, store.study("tune"))
        assert store.study("tune").settings.extra["calibrated"]
    finished = [row for row in found if row.state in ("done", "screened")]
    assert len(finished) == 4 and finished[0].name == "plain@3"
    assert all(row.proposed_by and "predicted_drift" in row.scores for row in finished if row.origin == "search")
    assert sum(row.origin == "search" for row in finished) == 3
    kinds = [words.split(",")[0] for words in said]
    assert kinds[0] == "calibration" and "calibration" not in kinds[kinds.index("search") :], "what stands is kept"


def test_a_calibration_leaves_time_for_plans_or_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the command is given again with more time, it goes on with the parts that stand."""
    from studies.autotune import autotune
    from studies.predicting import calibration
    from studies.searching import calibrate

    monkeypatch.setattr(sharing, "LEAST_PLANS", 1)
    monkeypatch.setattr(calibrate, "PICTURES", 1)
    monkeypatch.setattr(calibrate, "POINTS", 2)
    said: list[str] = []
    config = SearchConfig(
        objectives=OBJECTIVES, reference="baseline", steps=3, pairs=3, prompt_count=2, calibrate=True, study="tune"
    )
    session = open_session(config)
    with Store.open(tmp_path / "explorer.db") as store:
        for budget in (11.5, 10_000.0):
            tuning = Tuning(config, QualityLimits(), budget, tmp_path / "out", said.append, held_out(config))
            tuning.split = Split(2, 3, 2, 1.0, 10.0, 8, 1.0, calibration=1.0)
            session = replace(session, evaluator=session.evaluator.reseeded(config.seed))
            if budget > 100:
                monkeypatch.setattr(autotune, "run_worker", lambda *given, **named: None)
            searched, study = search(tuning, session, store)
            whole = calibration.load(store, study)
            assert (whole is not None) == (budget > 100) == (searched.evaluator.predictor is not None)
            if whole is None:
                parts = len(calibration.parts(store, study))
                assert any(f"not complete: {parts} of" in words for words in said)
                assert [row.state for row in trials(store, study) if row.finished] == ["done"]


def test_an_autotune_from_beginning_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generous limit, so that something is chosen from few pictures; then the same command again."""

    monkeypatch.setattr(sharing, "LEAST_PLANS", 2)
    out = tmp_path / "mine"
    command = ["autotune", "--steps", "4", "--max-clip-loss", "95%", "--out", str(out), "--json"]
    command += ["--schedulers", "own,DPMSolverMultistep", "--budget"]
    assert run([*command, "1s"]) == 1 and not out.exists()
    budget = float(capsys.readouterr().err.split("give --budget ")[1].split("s")[0]) * 1.2  # what fits on this machine
    command.append(f"{budget:.0f}s")
    said, first = "", {"plain@2", "plain@2/DPMSolverMultistep", "DC0/P3+f2"}
    for _ in range(5):  # on a machine that got busier meanwhile the same command goes on with a larger budget
        started = time.monotonic()
        status = run(command)
        took = time.monotonic() - started
        captured = capsys.readouterr()
        if status == 1 and "give --budget" in captured.err:
            budget *= 2
            command[-1] = f"{budget:.0f}s"
            continue
        assert status == 0
        document, said = json.loads(captured.out), said + captured.err
        # What is begun is ended, so a machine that stalls in between makes it longer; for ever is caught.
        assert took < 5 * budget + 60
        with Store.open(out / ".tune" / "explorer.db", read_only=True) as work:
            study = work.study("tune")
            names = {row.name for row in trials(work, study)}
        if document["plans"] >= 2 and first <= names:  # there may be room for fewer
            break
        budget *= 2
        command[-1] = f"{budget:.0f}s"
    assert document["plans"] >= 2 and first <= names
    assert document["words"][0].startswith(("Chosen", "Nothing was chosen"))
    assert "left] certificate of" in said and re.search(r"left\] search, plan [01]: plain@4", said), said
    assert study.settings.extra["schedulers"] == ["own", "DPMSolverMultistepScheduler"]
    if document["chosen"] is None:
        assert not (out / "inheritance.json").exists()
        return
    plan = InheritancePlan.from_pretrained(out)
    assert plan.made_for is not None and plan.made_for.model == "emoji"
    assert "## Certificate" in (out / "README.md").read_text() and (out / "certificate.html").is_file()
    assert run(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["chosen"] == document["chosen"] and again["plans"] == document["plans"]
    tries = [json.loads(path.read_text()) for path in out.glob(".tune/explorer-certificates/*/*/certificate.json")]
    assert {each["settings"]["seed"] for each in tries} == {FRESH_SEED + i * TRY_SEEDS for i in range(len(tries))}
    # A limit that nothing keeps: the export that stands must not pass for one that does.
    strict = [word for word in command if word not in ("--max-clip-loss", "95%")]
    assert run([*strict, "--max-clip-loss", "0%", "--max-drift", "1e-9"]) == 0
    captured = capsys.readouterr()
    none = json.loads(captured.out)
    assert none["chosen"] is None and none["moved_aside"] == str(out / "earlier")
    assert "holds the export of an earlier run, until this one has chosen" in captured.err
    assert any(f"was moved to {out / 'earlier'}" in words for words in none["words"])
    assert sorted(path.name for path in out.iterdir()) == [".tune", "earlier"]
    assert InheritancePlan.from_pretrained(out / "earlier") == plan
    with pytest.raises(PlanError):
        InheritancePlan.from_pretrained(out)


def test_every_try_has_seeds_of_its_own_and_keeps_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates that shared their pictures would be judged by what chose them. Measuring them is another test."""
    study = fill(store)
    _, found = candidates(store, study, "clip_emojiclip")
    small = SearchConfig(objectives=("latency", "clip"), reference="baseline", steps=4, pairs=3, seed=5)
    certifying = held_out(small)
    session = open_session(certifying)
    made: list[tuple[int, int, list[str]]] = []

    def certify(session: Session, plan: Any, words: str, folder: Path, **named: Any) -> dict[str, Any]:
        made.append((session.settings.seed, session.evaluator.seed, named["also_certified"]))
        return {"claim": {"verdict": FAILS}}

    monkeypatch.setattr("studies.autotune.autotune.certify", certify)
    split = Split(8, 3, 6, 1.0, 10.0, 8, 1.0)

    def go_on(*chosen: int) -> None:
        tuning = Tuning(small, QualityLimits(), 1000.0, tmp_path / "out", lambda _: None, certifying)
        tuning.load()
        tuning.split = split
        for number in chosen:
            _certificate(tuning, session, store, study, found[number], found)

    first = FRESH_SEED + 5
    go_on(0, 1)
    go_on(2, 1)  # a later run: what was tried keeps its seeds, and what is new gets others
    names = [each.row.words for each in found]
    assert [(seed, others) for seed, _, others in made] == [
        (first, []),
        (first + TRY_SEEDS, names[:1]),
        (first + 2 * TRY_SEEDS, names[:2]),
        (first + TRY_SEEDS, [names[0], names[2]]),
    ]
    assert all(seed == drawn for seed, drawn, _ in made) and session.evaluator.seed == first


def test_a_certificate_that_stands_is_chosen_by_without_time_left(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again, whose budget is used, chooses what it chose. Measuring is another test."""
    study = fill(store)
    small = SearchConfig(objectives=("latency", "clip"), reference="baseline", steps=4, pairs=3, seed=5)
    session = open_session(held_out(small))
    exported: list[str] = []
    verdicts: dict[str, str] = {}

    def certify(session: Session, plan: Any, words: str, folder: Path, **named: Any) -> dict[str, Any]:
        return {"claim": {"verdict": verdicts.setdefault(words, HOLDS if verdicts else OPEN)}}

    monkeypatch.setattr("studies.autotune.autotune.certify", certify)
    monkeypatch.setattr(
        "studies.autotune.autotune.write_export", lambda _a, _b, row, *_c, **_d: exported.append(row.key)
    )
    chosen = []
    for budget in (10_000.0, 0.1):
        limits = QualityLimits(clip_loss=0.95)
        tuning = Tuning(small, limits, budget, tmp_path / "out", lambda _: None, held_out(small))
        tuning.load()
        tuning.split = Split(8, 3, 6, 1.0, 10.0, 8, 1.0)
        result = finish(tuning, session, store, study)
        assert result.chosen is not None
        chosen.append(result.chosen.row.key)
    assert tuning.left < 0 and chosen[0] == chosen[1] == exported[0] and len(tuning.tried) == 2


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"spent": 1, "budget": 9}', '{"spent": "x", "budget": 9, "split": {}}',
        '{"spent": 1, "budget": 0, "split": {}}', '{"spent": 1, "budget": 9, "split": {"prompts": 8}}',
        json.dumps({"spent": 1, "budget": 9, "split": Split(8, 3, 6, 1.0, 1.0, 8, 1.0).to_json() | {"prompts": None}}),
        json.dumps({"spent": 1, "budget": 9, "split": Split(8, 3, 6, 1.0, 1.0, 8, 1.0).to_json() | {"pairs": -1}}),
    ],
)  # fmt: skip
def test_a_spoilt_state_is_one_sentence(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".tune").mkdir()
    (tmp_path / ".tune" / "tune.json").write_text(content)
    assert run(["autotune", "--steps", "4", "--out", str(tmp_path), "--budget", "1h"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "tune.json cannot be read" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "soon"], "--budget must be a time"),
        (["--budget", "3s"], "too small"),
        (["--model", "arch:sd15"], "random weights"),
        (["--model", "nothing"], "no such model 'nothing'"),
        (["--max-clip-loss", "200%"], "--max-clip-loss must be a share"),
        (["--max-drift", "0"], "more than 0 and at most 1, got 0"),
        (["--prompts", "mine.txt"], "no held-out set is known"),
        (["--out", "full"], "not empty and not of an earlier"),
        (["--out", "file"], "is a file"),
        (["--steps", "0"], "--steps must be more than zero"),
        (["--schedulers", "own,os.system"], "--schedulers: a plan may not name the scheduler 'os.system'"),
        (["--schedulers", "DDIM"], "--schedulers must have own among its names"),
    ],
)
def test_bad_autotunes_are_one_sentence_and_leave_nothing(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "mine.txt").write_text("a\nb\n")
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    assert run(["autotune", "--steps", "4", *arguments]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and words in errors[0]
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
