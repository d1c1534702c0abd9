"""What a study saves for all of its processes: the same to the bit, made once, and never half a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import StudyError, strategy
from explorer.models.pictures import as_png, generate
from explorer.quality.features import default_extractor, load_extractor
from studies.config import SearchConfig
from studies.searching.session import Session, open_session
from studies.storage import saved as saved_module
from studies.storage.saved import Saved
from tests.studies.toy_study import toy_settings

CONFIG = SearchConfig(steps=3, prompt_count=3, objectives=("latency", "psnr"), baselines="none", batch=2, pairs=3)
EXTRACTOR = default_extractor(embedded=True)


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(CONFIG)


def test_tensors_come_back_to_the_bit_and_are_made_once(tmp_path: Path) -> None:
    saved, made = Saved.of(tmp_path, "s", toy_settings()), []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.randn(3, 5).half(), "b": torch.arange(6).reshape(2, 3).T}

    first = saved.get("x", make)
    again = Saved.of(tmp_path, "s", toy_settings()).get("x", make)
    assert len(made) == 1 and all(torch.equal(first[k], again[k]) and first[k].dtype == again[k].dtype for k in first)
    (path,) = saved.folder.glob("*")  # no part of a file is left
    path.write_bytes(path.read_bytes()[:-3])
    saved.get("x", make)
    assert len(made) == 2 and len(saved.get("x", make)) == 2 and len(made) == 2


@pytest.mark.parametrize(
    ("change", "same"),
    [({"space": "joint"}, True), ({"seed": 5}, False), ({"steps": 20}, False), ({"guidance": 3.0}, False)],
)
def test_the_folder_is_of_what_pictures_depend_on(tmp_path: Path, change: dict[str, Any], same: bool) -> None:
    one, other = toy_settings(), replace(toy_settings(), **change)
    assert (Saved.of(tmp_path, "s", one).folder == Saved.of(tmp_path, "s", other).folder) is same


def test_the_folder_is_bounded_and_refusals_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_module, "MAX_BYTES", 100)
    saved = Saved(tmp_path / "s")
    assert saved.get("large", lambda: {"a": torch.zeros(100)})["a"].shape == (100,)
    assert not list(saved.folder.glob("*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write"):
        Saved(tmp_path / "file" / "s").get("x", lambda: {"a": torch.zeros(1)})


def test_pictures_are_those_of_the_pipeline_itself(session: Session, tmp_path: Path) -> None:
    """Un-accelerated and accelerated, with embeddings of the first process and out of the second one's file."""
    evaluator = session.evaluator
    how: dict[str, Any] = {
        "seed": 0, "steps": 3, "guidance": evaluator.guidance, "batch_size": 2, "size": evaluator.size,
    }  # fmt: skip
    expected = generate(evaluator.pipe, evaluator.prompts, **how)
    encoded = []
    encode = evaluator.pipe.text_encoder.forward
    evaluator.pipe.text_encoder.forward = lambda *a, **k: encoded.append(1) or encode(*a, **k)
    try:
        counts = []
        for _ in range(2):
            # with no embeddings and no pictures yet, as a new process has it
            maker = replace(session.evaluator.maker.with_saved(Saved(tmp_path / "s")), embeddings={})
            evaluator = replace(session.evaluator, maker=maker)
            assert torch.equal(evaluator.baseline_pictures(), expected)
            assert torch.equal(maker.pictures(evaluator.pipelines.candidate, 3), expected)
            counts.append(len(encoded))
    finally:
        del evaluator.pipe.text_encoder.forward
    assert counts[0] > 0 and counts[1] == counts[0]
    with_plan = evaluator.score(strategy("DC0", mode="P2", steps=3, unet=session.architecture))
    assert 0 < with_plan.estimates["psnr"].value < 100


def test_features_of_references_are_taken_once_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the un-accelerated pictures and of a folder; a changed file is read anew. Scores are equal to the bit."""
    from explorer.quality import reference as reference_module
    from explorer.quality.reference import Reference
    from explorer.quality.scorer import Scorer

    taken: list[str] = []

    def counted(name: str, make: Any) -> Any:
        return lambda *args: taken.append(name) or make(*args)

    monkeypatch.setattr(Reference, "from_pictures", counted("pictures", Reference.from_pictures))
    monkeypatch.setattr(reference_module, "read_batches", counted("folder", reference_module.read_batches))
    random = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 255, (8, 3, 64, 64), dtype=torch.uint8, generator=random) for _ in range(3)]
    folder = tmp_path / "real"
    folder.mkdir()
    for i, picture in enumerate(pictures[0]):
        (folder / f"{i}.png").write_bytes(as_png(picture)[0])

    def scores(kept: Path | None) -> list[Any]:
        """As a new process does."""
        keep = None if kept is None else Saved(kept).get
        extract = load_extractor(EXTRACTOR, torch.device("cpu"))
        found = []
        for against in (None, Reference.from_folder(folder, extract, keep=keep)):
            scorer = Scorer(["fd", "kid"], EXTRACTOR, against, None, torch.device("cpu"))
            found.append(dict(scorer.score(pictures[1], (), pictures[2], keep)))
        return found

    first = scores(tmp_path / "kept")
    assert sorted(taken) == ["folder", "pictures"]
    assert scores(tmp_path / "kept") == first and len(taken) == 2
    assert scores(None) == first and len(taken) == 4
    (folder / "0.png").write_bytes(as_png(pictures[2][0])[0])
    assert scores(tmp_path / "kept")[1] != first[1] and taken[4:] == ["folder"]


def test_a_second_session_and_its_evaluator_take_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.quality import reference as reference_module
    from explorer.quality.reference import Reference

    folder = tmp_path / "real"
    folder.mkdir()
    random = torch.Generator().manual_seed(1)
    for i in range(4):
        picture = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8, generator=random)
        (folder / f"{i}.png").write_bytes(as_png(picture)[0])
    pipe, settings = None, []
    for reference in (str(folder), "baseline"):
        config = replace(CONFIG, objectives=("latency", "kid"), reference=reference, prompt_count=8)
        for number in range(2):
            if number:
                for name in ("from_pictures", "from_features"):
                    monkeypatch.setattr(Reference, name, None)
                monkeypatch.setattr(reference_module, "read_batches", None)
            opened = open_session(config, pipe, Saved(tmp_path / reference[-4:]))
            pipe = opened.evaluator.pipe
            evaluator = opened.evaluator.with_saved(Saved.of(tmp_path, "s", opened.settings))
            plan = strategy("DC0", mode="P2", steps=3, unet=opened.architecture)
            assert evaluator.score(plan, "quality").estimates
            settings.append(opened.settings)
        monkeypatch.undo()
    assert settings[0] == settings[1] and settings[2] == settings[3]


def test_a_second_worker_begins_where_the_first_one_did(session: Session, tmp_path: Path) -> None:
    """Beginnings that one process computed are replayed by another one, and both make the same pictures."""
    plans = [strategy("DC0", mode=mode, steps=6, unet=session.architecture) for mode in ("P4", "P4†")]
    config = replace(CONFIG, steps=6, objectives=("latency", "psnr"), reference="baseline")
    found = []
    for plan in plans:
        evaluator = open_session(config, session.evaluator.pipe).evaluator.with_saved(Saved(tmp_path / "s"))
        assert evaluator.maker.recording is not None
        found.append((evaluator.score(plan, "quality"), evaluator.maker.recording))
    assert found[0][1].replayed == 0 < found[1][1].replayed
    alone = open_session(replace(config, replay=0), session.evaluator.pipe).evaluator.score(plans[1], "quality")
    assert [each.png for each in found[1][0].pictures] == [each.png for each in alone.pictures]
