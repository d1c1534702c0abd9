"""Scoring a plan on a pipeline: what is timed, what is left untouched, and what a worker builds from a study."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from explorer import ExplorerError, InheritancePlan, inherit, strategy
from explorer.devices import describe
from explorer.errors import StudyError
from explorer.estimate import Estimate
from explorer.models.workload import twin
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import evaluations_of
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from studies.config import SearchConfig, make_config
from studies.device_lock import lock_path, on_device
from studies.scoring.assembly import make_evaluator
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.pipelines import DenoisingLoop
from studies.scoring.sheet import shared_out
from studies.searching.asking import config_of
from studies.searching.session import open_session
from studies.storage.saved import Saved
from tests.conftest import embeds, make_pipeline

CPU = torch.device("cpu")


def evaluator_of(pipe: Any, steps: int = 4) -> CandidateEvaluator:
    return make_evaluator(
        pipe, steps=steps, guidance=2.0, prompts=(), scorer=None, device=CPU, info=describe(CPU), pairs=3,
        size=(32, 32), embeds=embeds(),
    )  # fmt: skip


def latents(pipe: Any, steps: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(**embeds(), num_inference_steps=steps, output_type="latent", generator=generator).images


def test_a_twin_shares_weights_and_nothing_else() -> None:
    pipe = make_pipeline()
    plain = latents(pipe)
    other = twin(pipe)
    with inherit(other, strategy("DC0", mode="P2", steps=4, unet=pipe.unet)):
        inherited = latents(other)
        assert torch.equal(latents(pipe), plain)
    assert not torch.equal(inherited, plain)
    assert torch.equal(latents(other), plain)
    assert all(a is b for a, b in zip(pipe.unet.parameters(), other.unet.parameters(), strict=True))


def test_latency_alone() -> None:
    pipe = make_pipeline()
    evaluator = evaluator_of(pipe)
    scored = evaluator.score(strategy("CO6", mode="P2", steps=4, unet=pipe.unet))
    assert set(scored.estimates) == {"latency", "speedup", "cache_mib"}
    assert len(scored.samples["latency"]) == 3 and scored.pictures == ()
    ratios = sorted(baseline / candidate for baseline, candidate in scored.samples["latency"])
    assert scored.estimates["speedup"].value == pytest.approx(ratios[1])
    assert "forward" not in pipe.unet.__dict__


def test_the_time_of_pictures_and_features_is_shared_by_the_scores() -> None:
    from explorer.quality.scorer import Scores

    scores = Scores()
    for name in ("clip", "psnr"):
        scores[name] = Estimate(1.0, 0.0, 2.0, 3)
    scores.seconds.update({"features": 3.0, "clip": 0.5, "psnr": 0.25})
    shared = shared_out(scores, making=7.0)
    assert shared == {"clip": 5.5, "psnr": 5.25} and sum(shared.values()) == 7.0 + 3.0 + 0.5 + 0.25


def test_a_painter_makes_the_plan_s_and_the_stock_pictures() -> None:
    session = open_session(
        SearchConfig(steps=3, prompt_count=4, objectives=("latency", "psnr"), reference="baseline", batch=2)
    )
    evaluator = session.evaluator
    prompts = evaluator.prompts[:2]
    with evaluator.painter(strategy("DC0", mode="P2", steps=3, unet=evaluator.pipe.unet)) as paint:
        ours, plain = paint(prompts, 9), paint(prompts, 9, 3)
        assert (paint(prompts[1:], 10).int() - ours[1:].int()).abs().max() <= 1 and not torch.equal(ours, plain)
    assert torch.equal(evaluator.maker.pictures(evaluator.pipe, 3, prompts, 9), plain)


def test_shared_beginnings_are_computed_once_and_change_nothing() -> None:
    """Two schedules that differ in their tail: equal scores and pictures with and without replay, and not while a
    latency is measured."""
    session = open_session(
        SearchConfig(steps=6, prompt_count=3, objectives=("latency", "psnr"), reference="baseline", batch=2, pairs=3)
    )
    evaluator = session.evaluator
    plans = [strategy("DC0", mode=mode, steps=6, unet=session.architecture) for mode in ("P4", "P4†")]
    recording = evaluator.maker.recording
    without = replace(evaluator, maker=replace(evaluator.maker, recording=None))
    alone = [without.score(plan, "quality") for plan in plans]
    assert recording is not None and recording.computed == 0
    for plan, expected in zip(plans, alone, strict=True):
        found = evaluator.score(plan, "quality")
        assert found.samples == expected.samples
        assert [picture.png for picture in found.pictures] == [picture.png for picture in expected.pictures]
    count, batches = evaluator.evaluations(plans[0]), 2
    shared = recording.replayed // batches
    assert 0 < shared < count and recording.computed == batches * (2 * count - shared)
    before = recording.computed + recording.replayed
    evaluator.latency(plans[0])
    assert recording.computed + recording.replayed == before


def test_a_plan_that_does_not_fit_fails_and_leaves_the_pipeline_whole() -> None:
    pipe = make_pipeline()
    evaluator = evaluator_of(pipe)
    architecture = Architecture.of(pipe.unet)
    with pytest.raises(ExplorerError, match="9 UNet evaluations"):
        evaluator.score(InheritancePlan(architecture, 4, (Mask.of(["mid.attn"]),), Segments(((0, 1), (1, 8)))))
    assert evaluator.score(strategy("CO6", mode="P2", steps=4, unet=pipe.unet)).estimates["latency"].n == 3


def test_nothing_is_assigned_to_an_evaluator_after_it_was_made() -> None:
    evaluator = evaluator_of(make_pipeline())
    for part in (evaluator, *(getattr(evaluator, each.name) for each in fields(evaluator))):
        for each in fields(part) if is_dataclass(part) else ():
            with pytest.raises(FrozenInstanceError):
                setattr(part, each.name, None)


def test_another_part_makes_another_evaluator_that_shares_the_rest(tmp_path: Path) -> None:
    evaluator = evaluator_of(make_pipeline())
    quiet, profile, model, race = (object() for _ in range(4))
    shares: list[Any] = []
    made = {
        "loop maker": evaluator.reseeded(3),
        "maker": evaluator.with_saved(Saved(tmp_path)),
        "meter": evaluator.with_quiet(quiet),  # type: ignore[arg-type]
        "predictions": evaluator.with_profile(profile).with_drift_model(lambda share: shares.append(share) or model),  # type: ignore
        "make_race": evaluator.with_race(lambda share: shares.append(share) or race),  # type: ignore
    }
    for changed, other in made.items():
        for each in fields(evaluator):
            same = getattr(other, each.name) is getattr(evaluator, each.name)
            assert same is (each.name not in changed.split()), (changed, each.name)
    assert (evaluator.seed, made["loop maker"].seed, made["loop maker"].loop.seed) == (0, 3, 3)
    assert made["maker"].maker.saved is not None and made["maker"].reseeded(3).maker.saved is None
    assert made["meter"].meter.quiet is quiet and made["predictions"].profile is profile
    predictions = made["predictions"].predictions
    assert made["predictions"].predictor is model and shares == [predictions.time_share]
    assert made["make_race"].race is race and shares[1:] == [evaluator.predictions.cost_share]


def test_a_profile_and_a_calibration_reach_a_race_in_any_order() -> None:
    """The race and the drift model predict with what the evaluator has now, whichever it was given first."""

    class Profile:
        def predicted_latency(self, plan: InheritancePlan, evaluations: int, students: object = None) -> Estimate:
            return Estimate(evaluations, evaluations, evaluations, 1)

    class Model:
        def __init__(self, share: Any) -> None:
            self.cost = share

    class Meets:
        def __init__(self, share: Any) -> None:
            self.share = share

    pipe = make_pipeline()
    half = strategy("plain@2", unet=pipe.unet)
    ways = [
        lambda made: made.with_profile(Profile()),
        lambda made: made.with_drift_model(Model),
        lambda made: made.with_race(Meets),
    ]
    for order in permutations(ways):
        made: Any = evaluator_of(pipe)
        for way in order:
            made = way(made)
        assert made.predictor.cost(half) == made.race.share(half) == 0.5


def test_too_little_memory_on_a_gpu_is_said_in_one_sentence() -> None:
    pipe = make_pipeline()

    class Full(DenoisingLoop):
        def run(self, pipe: Any, steps: int) -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    evaluator = replace(evaluator_of(pipe), loop=Full(embeds, 2.0))
    with pytest.raises(ExplorerError, match="start a new study with a smaller --batch"):
        evaluator.score(strategy("CO6", mode="P2", steps=4, unet=pipe.unet))


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("DDIMScheduler", 10), ("PNDMScheduler", 11), ("HeunDiscreteScheduler", 19), ("UniPCMultistepScheduler", 10)],
)
def test_evaluations(scheduler: str, expected: int) -> None:
    options = {"skip_prk_steps": True} if scheduler == "PNDMScheduler" else {}
    assert evaluations_of(getattr(diffusers, scheduler)(**options), 10) == expected


def waits_for(path: Path, hold: str) -> bool:
    """Whether another process cannot hold the lock file at once. hold: `read_lock` (shared) or `write_lock` (alone)."""
    code = f"import filelock as f, sys\nwith f.ReadWriteLock(sys.argv[1]).{hold}(blocking=False): pass"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0 or "Timeout" in done.stderr, done.stderr
    return done.returncode != 0


def test_a_device_is_held_alone_or_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    info = describe(CPU)
    path = lock_path(info)
    with on_device(info, shared=True), on_device(info, shared=True):
        assert not waits_for(path, "read_lock") and waits_for(path, "write_lock")
    with on_device(info):
        assert path.parent == tmp_path and waits_for(path, "read_lock") and waits_for(path, "write_lock")
    assert not waits_for(path, "write_lock")


def test_a_killed_process_holds_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    info = describe(CPU)
    code = "import filelock as f, sys, time\nwith f.ReadWriteLock(sys.argv[1]).write_lock(): print(1, flush=True); "
    code += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(lock_path(info))], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert waits_for(lock_path(info), "read_lock")
        holder.kill()
    with on_device(info):
        pass


@pytest.mark.parametrize("spoil", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"no lock" * 100)])
def test_a_device_lock_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spoil(lock_path(describe(CPU)))
    with pytest.raises(StudyError, match="make it writable or remove it"), on_device(describe(CPU)):
        pass


def test_a_worker_measures_what_the_study_does(tmp_path: Path) -> None:
    """The options that are read back from a stored study give the same settings again."""
    config = SearchConfig(steps=7, prompt_count=8, objectives=("latency", "kid", "psnr"), seed=3, pairs=4, guidance=2.5)
    settings = open_session(config).settings
    stored = type(settings).from_json(settings.to_json())
    assert open_session(config_of(stored, config.study)).settings == settings


def test_a_limit_on_memory_is_that_of_the_loop_that_is_timed() -> None:
    config = SearchConfig(steps=3, prompt_count=4, objectives=("latency", "psnr"), pairs=3, latency_batch=2)
    plain = open_session(config)
    plan = strategy("DC0", mode="P2", steps=3, unet=plain.architecture)
    held = plain.evaluator.score(plan, "latency").estimates["cache_mib"].value
    assert plain.evaluator.rejection(plan) is None and held > 0
    for share, words in ((0.9, "MiB of features"), (1.1, None)):
        limited = open_session(replace(config, max_cache_mib=share * held), plain.evaluator.pipe)
        reason = limited.evaluator.rejection(plan)
        assert reason is None if words is None else words in str(reason)


def test_baselines_of_a_full_study_hold_the_69_rows() -> None:
    session = open_session(SearchConfig(prompt_count=8))
    names = [plan.name or "" for plan in session.baselines()]
    paper = [name for name in names if name.endswith(("/P5†", "/P2†", "/P5")) and not name.startswith(("DC", "EP"))]
    assert len(paper) == 69 and len(set(names)) == len(names) == 127
    assert {"plain@50", "plain@10", "DC0/N", "DC0/P3+f2", "EP/P2", "m2+plain@50", "S1"} <= set(names)
    short = open_session(SearchConfig(prompt_count=8, baselines="short"))
    assert sum(1 for _ in short.baselines()) == 41


def test_files_and_options_in_one_order(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("steps = 20\nguidance = 3\nprompt-count = 8\n")
    for given, batch in (({"batch": "auto"}, None), ({"batch": "4"}, 4), ({}, None)):
        assert make_config(given, file).batch == batch
        assert make_config(given, file, SearchConfig(batch=16)).batch == (batch or 16)  # a standing study's stays
    with pytest.raises(ExplorerError, match="batch must be a number or auto, got 'many'"):
        make_config({"batch": "many"})
    made = make_config({"steps": 10, "seed": None}, file)
    assert (made.steps, made.guidance, made.prompt_count, made.seed) == (10, 3, 8, 0)
