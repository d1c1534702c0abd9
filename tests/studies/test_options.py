"""Options are declared once: what derives from a declaration, and what is refused by it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from explorer.errors import StudyError
from explorer.models.sizes import parse_resolution, resolution_text
from studies.cli import app, run
from studies.config import BENCHED, CERTIFIED, OPTIONS, WORKER, SearchConfig, kept, make_config, restored
from studies.option import POSITIVE, Group, arguments, declared, option
from studies.storage.store import Store

ROOT = Path(__file__).parents[2]


def parameters(command: str) -> dict[str, Any]:
    root: Any = get_command(app)
    return {parameter.name: parameter for parameter in root.commands[command].params}


@dataclass(frozen=True)
class Toy:
    """An option is a field: everything else derives from it."""

    count: int = option(3, Group.RUNS, "How many.", bounds=POSITIVE, worker=True)
    share: float | None = option(None, Group.MEASURES, "A share.", unset="all", bounds={"ge": 0, "le": 1}, kept="part")
    kind: str = option("a", Group.SAMPLES, "Which.", choices=("a", "b"))
    flag: bool = option(False, Group.RUNS, "Whether.")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", 0, "--count must be more than zero, and a number, got 0."),
        ("count", 2**60, "--count must be more than zero, and a number"),
        ("count", 1.5, "count must be a int, got 1.5."),
        ("count", True, "count must be a int, got True."),
        ("count", "3", "count must be a int, got '3'."),
        ("count", None, "count must be a int, got None."),
        ("share", float("nan"), "--share must be more than zero, and a number, got nan."),
        ("share", [1], r"share must be a float, got \[1\]."),
        ("kind", "c", "unknown --kind 'c'; use one of a, b."),
        ("kind", 3, "unknown --kind 3; use one of a, b."),
        ("flag", 1, "flag must be a bool, got 1."),
    ],
)
def test_a_value_is_checked_by_its_declaration_in_one_sentence(name: str, value: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words) as caught:
        declared(Toy)[name].checked(value)
    assert "\n" not in str(caught.value)


def test_help_and_arguments_derive_from_the_declaration() -> None:
    found = declared(Toy)
    assert [each.help for each in found.values()] == [
        "How many [3].",
        "A share [all].",
        "Which [a].",
        "Whether [False].",
    ]
    assert arguments(Toy(share=0.5), ["count", "share", "kind"]) == ["--count", "3", "--share", "0.5", "--kind", "a"]
    assert arguments(Toy(), ["share", "kind"]) == ["--kind", "a"]
    assert found["share"].checked(1) == 1.0 and found["share"].checked(None) is None


def test_a_search_takes_every_option_and_a_calibration_what_a_study_is() -> None:
    """A study that is calibrated first can be searched with whatever a search may ask for."""
    assert parameters("search").keys() - {"file", "as_json", "help"} == OPTIONS.keys()
    study = {name for name, of in OPTIONS.items() if of.option.group in (Group.MEASURES, Group.SAMPLES)}
    assert study | {"study", "storage"} == parameters("calibrate").keys() & OPTIONS.keys()
    assert {*WORKER, "study", "storage"} == parameters("worker").keys() & OPTIONS.keys()
    assert set(BENCHED) == parameters("bench").keys() & OPTIONS.keys() - {"batch"}
    assert set(CERTIFIED) <= parameters("certify").keys()


def test_a_worker_reads_what_its_search_writes() -> None:
    config = SearchConfig(trials=7, timeout=2.5, device="cpu", proposals="seeds", racing="off", replay=0)
    root: Any = get_command(app)
    words = arguments(config, WORKER)
    parsed = root.commands["worker"].make_context("worker", ["--study", "s", *words]).params
    assert {name: OPTIONS[name].checked(parsed[name]) for name in WORKER} == {
        name: getattr(config, name) for name in WORKER
    }


@pytest.mark.parametrize(
    "config",
    [
        SearchConfig(),
        SearchConfig(
            objectives=("latency", "psnr"), resolution=(64, 96), batch=4, guidance=0.0, compile="default",
            schedulers=("own", "DPMSolverMultistepScheduler"), max_cache_mib=1.5, seed=5, variant="fp16",
            negative_prompt="a lion, 'blurry'", lora=("a b.safetensors:0.5", "c.safetensors"),
        ),
    ],
)  # fmt: skip
def test_the_command_line_gives_a_config_again(config: SearchConfig, tmp_path: Path) -> None:
    root: Any = get_command(app)
    names = [name for name in OPTIONS if name != "calibrate"]
    parsed = root.commands["search"].make_context("search", arguments(config, names)).params
    assert make_config({name: parsed[name] for name in names}) == config
    lines = [f"{name} = {json.dumps(value)}" for name in names if (value := getattr(config, name)) is not None]
    (tmp_path / "s.toml").write_text("\n".join(lines))
    assert make_config({}, tmp_path / "s.toml") == config


def test_what_a_study_keeps_of_its_options_is_restored() -> None:
    config = SearchConfig(
        pairs=5,
        latency_batch=2,
        max_age=3,
        variant="fp16",
        prompt_count=9,
        clip_model="emojiclip",
        lora=("/a/b.safetensors:2",),
    )
    stored = kept(config)
    assert stored == json.loads(json.dumps(stored)) == {
        "prompt count": 9, "variant": "fp16", "latency batch": 2, "timed pairs": 5, "CLIP model": "emojiclip",
        "max age": 3, "LoRA": ["/a/b.safetensors:2"],
    }  # fmt: skip
    assert SearchConfig(**restored({**stored, "threads": 2})) == config
    assert "max age" not in kept(SearchConfig())  # as in studies from before the option


@pytest.mark.parametrize(
    ("given", "size", "text"),
    [(64, (64, 64), "64"), ("64", (64, 64), "64"), ("64x96", (64, 96), "64x96"), ([96, 64], (96, 64), "96x64")],
)
def test_a_resolution_is_a_side_or_height_and_width(given: Any, size: tuple[int, int], text: str) -> None:
    assert parse_resolution(given) == size and resolution_text(size) == text
    assert make_config({"resolution": given}).resolution == size


@pytest.mark.parametrize("given", ["64x", "x64", "64x64x64", "", 0, "0x64", -8, True, 1.5, [1, 2, 3], "9" * 40, 10**9])
def test_a_resolution_of_another_kind_is_refused(given: Any) -> None:
    with pytest.raises(StudyError, match="--resolution must be"):
        make_config({"resolution": given})


def test_a_picture_that_is_not_square_is_asked_for_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    costs = {}
    for size in ("64", "64x128", "128x64"):
        assert run(["anatomy", "--resolution", size, "--json"]) == 0
        costs[size] = json.loads(capsys.readouterr().out)["macs"]
        assert run(["strategies", "--resolution", size, "--json"]) == 0
        capsys.readouterr()
    assert costs["64x128"] == costs["128x64"] > costs["64"]
    for command in ("search", "calibrate", "certify", "bench", "autotune", "profile", "anatomy", "strategies"):
        assert parameters(command)["resolution"].metavar == "HxW"
    assert run(["anatomy", "--resolution", "64y"]) == 1
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


IMPOSSIBLE = {
    "sampler": ["--sampler", "magic"],
    "space": ["--space", "cube"],
    "study name": ["--study", "../up"],
    "guidance": ["--guidance", "-1"],
    "resolution": ["--resolution", "100"],
    "compile": ["--compile", "quick"],
    "steps": ["--steps", "1"],
    "schedulers": ["--schedulers", "own,Magic"],
    "objective": ["--objectives", "latency,beauty"],
    "objective twice": ["--objectives", "latency,fd,fd_emojiclip"],
    "inception score": ["--objectives", "latency,is"],
    "too few prompts": ["--prompt-count", "2"],
    "negative prompt without guidance": ["--negative-prompt", "a lion", "--guidance", "1"],
    "no such LoRA": ["--lora", "none.safetensors:0.5"],
    "LoRA of another kind": ["--lora", "style.ckpt"],
    "no such prompts": ["--prompts", "none.txt"],
    "random weights": ["--model", "arch:sd15"],
    "place of the storage": ["--storage", "not/there/x.db"],
}


def test_options_that_cannot_be_are_told_without_torch_and_leave_nothing(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom studies.cli import run\n"
        "cases = [[command, *words] for words in json.loads(sys.argv[1]) for command in ('search', 'calibrate')]\n"
        "print(json.dumps([run(words) for words in cases]), 'torch' in sys.modules, 'diffusers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(IMPOSSIBLE.values()))], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"{json.dumps([1] * 2 * len(IMPOSSIBLE))} False False", done.stderr
    told = done.stderr.splitlines()
    assert len(told) == 2 * len(IMPOSSIBLE) and all(line.startswith("error: ") for line in told)
    assert list(tmp_path.iterdir()) == []


def test_what_a_stored_study_says_counts_before_it_is_refused(tmp_path: Path) -> None:
    """Two prompts are too few for the default objectives, and enough for those of the study."""
    from studies.searching.asking import config_asked
    from tests.studies.scored_study import fill

    storage = str(tmp_path / "explorer.db")
    with Store.open(storage) as store:
        study = fill(store, model="emoji")
    config = config_asked({"study": study.name, "storage": storage, "trials": 99})
    assert config.objectives == tuple(each.name for each in study.settings.objectives)


def test_a_study_that_was_calibrated_first_is_searched_as_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = ["--study", "s", "--steps", "4", "--clip-model", "emojiclip", "--reference", "baseline", "--pairs", "3"]
    study += ["--batch", "2", "--objectives", "latency,psnr", "--prompt-count", "2", "--device", "cpu"]
    study += ["--sampler", "random", "--resolution", "64x96", "--negative-prompt", "a lion"]
    assert run(["calibrate", *study, "--pictures", "1", "--points", "2"]) == 0, capsys.readouterr().err
    assert run(["search", *study, "--trials", "1", "--baselines", "none"]) == 0, capsys.readouterr().err
    with Store.open(tmp_path / "explorer.db", read_only=True) as store:
        settings = store.study("s").settings
    assert settings.extra["calibrated"] and settings.resolution == (64, 96)
    assert settings.extra["negative prompt"] == "a lion"
    capsys.readouterr()
    assert run(["search", "--study", "s", "--clip-model", "ViT-g-14", "--trials", "1"]) == 1
    assert "measures something else" in capsys.readouterr().err


def test_no_command_collects_its_options_by_the_names_of_its_variables() -> None:
    for path in (ROOT / "studies" / "cli").rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert "locals" not in names, path
