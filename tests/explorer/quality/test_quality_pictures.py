"""Pictures in and out, paired drift, and references from folders and files."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.errors import ScoreError
from explorer.models.pictures import as_png, check_informative, find_pictures, generate, read_batches, read_picture
from explorer.quality import paired
from explorer.quality.features import Features, check_pictures
from explorer.quality.reference import Reference, load_reference
from tests.explorer.scores_fixtures import random_pictures, tiny_pipeline

PROMPTS = ["a red car", "two dogs", "a blue cup", "rain", "the sea"]


class Averages:
    """A real extractor without a network: colours averaged over a 4 x 4 grid."""

    name = "averages"
    resizer = "torch-area-4"

    def __call__(self, pictures: torch.Tensor) -> Features:
        small = torch.nn.functional.interpolate(check_pictures(pictures).double(), (4, 4), mode="area")
        return Features(small.flatten(1).numpy() / 64)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_pipeline()


def save_pictures(pictures: torch.Tensor, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04d}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(as_png(picture)[0])
    return paths


def made(pipe: Any, prompts: list[str] = PROMPTS, **changes: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"seed": 7, "steps": 3, "guidance": 5.0, "batch_size": 2, **changes}
    return generate(pipe, prompts, **settings)


def test_pictures_do_not_depend_on_the_batch_size(pipe: Any) -> None:
    pictures = made(pipe)
    assert pictures.shape == (5, 3, 32, 32) and pictures.dtype == torch.uint8
    for size in (1, 5):
        difference = made(pipe, batch_size=size).int() - pictures.int()
        assert difference.abs().max() <= 1
    assert made(pipe).equal(pictures)
    assert not made(pipe, seed=8).equal(pictures)


def test_a_picture_is_what_the_stock_pipeline_makes_of_its_seed(pipe: Any) -> None:
    expected = pipe(
        "a blue cup", num_inference_steps=3, guidance_scale=5.0, generator=torch.Generator().manual_seed(7 + 2)
    ).images[0]
    difference = np.array(expected).astype(int) - made(pipe)[2].permute(1, 2, 0).numpy()
    assert abs(difference).max() <= 1


def test_size_progress_and_the_progress_bar_setting(pipe: Any) -> None:
    seen: list[tuple[int, int]] = []
    pipe.set_progress_bar_config(desc="mine", disable=True)
    pictures = made(pipe, size=(48, 32), progress=lambda done, count: seen.append((done, count)))
    assert pictures.shape == (5, 3, 48, 32)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert pipe._progress_bar_config == {"desc": "mine", "disable": True}


@pytest.mark.parametrize("batch_size", [1, 2, len(PROMPTS)])
def test_bytes_made_while_the_next_batch_is_generated_are_the_same(pipe: Any, batch_size: int) -> None:
    assert torch.equal(made(pipe, batch_size=batch_size, overlap=True), made(pipe, batch_size=batch_size))


def test_trouble_beside_generation_stops_the_run(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad first batch ends the run before all others are made; an interrupt leaves no thread behind."""
    from explorer.models import pictures

    runs: list[int] = []
    run = pictures.run
    monkeypatch.setattr(pictures, "run", lambda *a, **k: runs.append(1) or run(*a, **k) * float("nan"))
    with pytest.raises(ScoreError, match="Picture 0 holds"):
        made(pipe, [*PROMPTS, *PROMPTS], batch_size=1, overlap=True)
    assert len(runs) == 3
    monkeypatch.setattr(pictures, "run", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        made(pipe, overlap=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_overflowing_pictures_are_refused(pipe: Any) -> None:
    weight = pipe.vae.decoder.conv_out.bias
    before = weight.data.clone()
    weight.data.fill_(float("nan"))
    try:
        with pytest.raises(ScoreError, match="Picture 0 holds infinities or NaNs"):
            made(pipe)
    finally:
        weight.data.copy_(before)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch_size": 0}, {"steps": -2}])
def test_numbers_below_one_are_refused(pipe: Any, changes: dict[str, int]) -> None:
    with pytest.raises(ScoreError, match="at least 1"):
        made(pipe, **changes)
    with pytest.raises(ScoreError, match="No prompts"):
        made(pipe, [])


def test_png_files_are_the_pictures_and_have_thumbnails(tmp_path: Path) -> None:
    pictures = random_pictures(3, 200)
    paths = save_pictures(pictures, tmp_path)
    assert find_pictures(tmp_path) == paths
    assert torch.cat(list(read_batches(paths))).equal(pictures)
    with Image.open(io.BytesIO(as_png(pictures[1])[1])) as small:
        assert small.size == (96, 96)


def test_transparent_becomes_white_and_grey_becomes_colour(tmp_path: Path) -> None:
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[:2, :, 3] = 255
    Image.fromarray(array, "RGBA").save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture[:, :2].eq(0).all() and picture[:, 2:].eq(255).all()
    for mode in ("L", "P", "LA", "1"):
        Image.new(mode, (5, 3)).save(tmp_path / "b.png")
        assert read_picture(tmp_path / "b.png").shape == (3, 3, 5)


def test_batches_break_where_the_size_changes(tmp_path: Path) -> None:
    for number, (side, suffix) in enumerate([(8, "png"), (8, "webp"), (8, "jpg"), (9, "JPEG"), (8, "PNG")]):
        Image.new("RGB", (side, 8)).save(tmp_path / f"{number}.{suffix}")
    (tmp_path / "notes.txt").write_text("not a picture")
    batches = list(read_batches(find_pictures(tmp_path), batch_size=2))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 9), (1, 3, 8, 8)]


def test_psnr_and_ssim_of_known_pictures() -> None:
    baseline = random_pictures(20, 24)
    moved = baseline.clone()
    moved[3] = (moved[3].int() + 10).clamp(max=255).to(torch.uint8)
    error = ((moved[3].double() - baseline[3].double()) ** 2).mean()
    values = paired.psnr(moved, baseline)
    assert values[3] == pytest.approx(float(10 * torch.log10(255**2 / error)), abs=1e-3)
    assert np.delete(values, 3) == pytest.approx(paired.PSNR_LIMIT)
    similarity = paired.ssim(moved, baseline)
    assert similarity[3] < 0.9999 and np.delete(similarity, 3) == pytest.approx(1)


def test_ssim_against_its_formula() -> None:
    """Wang et al. 2004, Eq. 13, with scipy's filter; the border is mirrored."""
    from scipy.ndimage import correlate

    one, other = random_pictures(1, 16, 1), random_pictures(1, 16, 2)
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(kernel, kernel) / kernel.sum() ** 2

    def blur(channel: Any) -> Any:
        return correlate(channel, window, mode="mirror")

    values = []
    for a, b in zip(one[0].double().numpy() / 255, other[0].double().numpy() / 255, strict=True):
        m, n = blur(a), blur(b)
        va, vb, both = blur(a * a) - m * m, blur(b * b) - n * n, blur(a * b) - m * n
        values.append((2 * m * n + 1e-4) * (2 * both + 9e-4) / ((m * m + n * n + 1e-4) * (va + vb + 9e-4)))
    assert paired.ssim(one, other)[0] == pytest.approx(np.mean(values), abs=1e-3)


def test_more_drift_is_less_similar() -> None:
    baseline = random_pictures(6, 32)
    noise = torch.randn(baseline.shape, generator=torch.Generator().manual_seed(0))
    levels = [(baseline + strength * noise).clamp(0, 255).to(torch.uint8) for strength in (2, 10, 40)]
    for metric in (paired.psnr, paired.ssim):
        means = [metric(level, baseline).mean() for level in levels]
        assert means[0] > means[1] > means[2]


def test_pictures_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ScoreError, match="one size"):
        paired.psnr(random_pictures(3), random_pictures(2))
    with pytest.raises(ScoreError, match="11 pixels"):
        paired.ssim(random_pictures(2, 8), random_pictures(2, 8))


def test_a_folder_and_its_stored_statistics_are_one_reference(tmp_path: Path) -> None:
    pictures = random_pictures(70)
    save_pictures(pictures, tmp_path / "real")
    reference = load_reference(tmp_path / "real", Averages())
    assert reference.count == 70
    assert reference.features == pytest.approx(Averages()(pictures).values)
    assert reference.cov == pytest.approx(np.cov(reference.features, rowvar=False))
    reference.save(tmp_path / "new" / "stored.safetensors")
    again = load_reference(tmp_path / "new" / "stored.safetensors", Averages())
    assert (again.name, again.extractor, again.resizer) == (reference.name, "averages", "torch-area-4")
    for ours, theirs in (
        (again.features, reference.features),
        (again.mean, reference.mean),
        (again.cov, reference.cov),
    ):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    assert not again.paired and Reference.from_pictures(pictures, Averages()).paired


def test_statistics_of_another_extractor_are_refused(tmp_path: Path) -> None:
    class Other(Averages):
        resizer = "torch-nearest-4"

    reference = Reference.from_pictures(random_pictures(5), Averages())
    reference.save(tmp_path / "s.safetensors")
    with pytest.raises(ScoreError, match=r"torch-area-4.*torch-nearest-4"):
        load_reference(tmp_path / "s.safetensors", Other())


def test_what_stands_beside_the_floor_is_drawn_as_it_is() -> None:
    reference = Reference.from_pictures(random_pictures(60), Averages())
    alike = reference.beside_floor(Averages()(random_pictures(90, seed=5)).values)
    other = reference.beside_floor(Averages()(random_pictures(90, seed=5)).values + 100)
    assert alike.n == reference.floor().n == 30
    assert alike.value < other.value
    # a reference's own features, all of them, are two sets of the same kind
    own = reference.beside_floor(reference.features)
    assert own.value < other.value
    with pytest.raises(ScoreError, match="fewer than the 30"):
        reference.beside_floor(reference.features[:20])


def test_the_floor_falls_with_the_count_and_stays_above_zero() -> None:
    reference = Reference.from_pictures(random_pictures(200), Averages())
    small, large = reference.floor(20), reference.floor()
    assert (small.n, large.n) == (20, 100)
    assert small.value > large.value > 0
    assert small.low <= small.value <= small.high
    assert reference.floor(20) == small
    with pytest.raises(ScoreError, match="has 3"):
        Reference.from_pictures(random_pictures(3), Averages()).floor()


def test_bad_reference_folders(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="no picture folder"):
        load_reference(tmp_path / "missing", Averages())
    with pytest.raises(ScoreError, match="holds no pictures"):
        load_reference(tmp_path, Averages())
    save_pictures(random_pictures(1), tmp_path / "few")
    with pytest.raises(ScoreError, match=r"holds 1 picture\(s\), and the metric needs at least 2"):
        load_reference(tmp_path / "few", Averages())
    for content in (b"", b"\x89PNG\r\n\x1a\nbroken", b"text"):
        (tmp_path / "few" / "0001.png").write_bytes(content)
        with pytest.raises(ScoreError, match=r"0001\.png cannot be read"):
            load_reference(tmp_path / "few", Averages())


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    (path,) = save_pictures(random_pictures(1, 64), tmp_path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ScoreError, match="cannot be read"):
        read_picture(path)


def tampered(path: Path, change: str) -> None:
    """Statistics that are broken in one way."""
    from safetensors.numpy import save_file

    reference = Reference.from_pictures(random_pictures(5), Averages())
    reference.save(path)
    tensors = {"features": reference.features, "mean": reference.mean, "cov": reference.cov}
    metadata = {"format": "inheritance-explorer statistics 1", "name": "x", "extractor": "averages", "resizer": "r"}
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "text":
        path.write_text(json.dumps({"features": []}))
    else:
        if change == "lacks cov":
            del tensors["cov"]
        elif change == "infinities":
            tensors["mean"] = tensors["mean"] * np.inf
        elif change == "does not fit together":
            tensors["mean"] = tensors["mean"][:-1]
        elif change == "format":
            metadata["format"] = "inheritance-explorer statistics 2"
        elif change == "lacks resizer":
            del metadata["resizer"]
        save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [(each, each) for each in ("lacks cov", "infinities", "does not fit together", "format", "lacks resizer")]
    + [("truncated", "cannot be read"), ("text", "cannot be read")],
)
def test_broken_statistics_are_refused(change: str, message: str, tmp_path: Path) -> None:
    tampered(tmp_path / "s.safetensors", change)
    with pytest.raises(ScoreError, match=message):
        Reference.load(tmp_path / "s.safetensors")


def test_missing_statistics(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="no statistics file"):
        load_reference(tmp_path / "s.safetensors", Averages())


@pytest.mark.parametrize(
    "pictures",
    [torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)],
)
def test_what_is_no_pictures_is_refused(pictures: torch.Tensor) -> None:
    with pytest.raises(ScoreError, match="bytes of shape"):
        check_pictures(pictures)


BLANKS = {
    "black": (torch.zeros(4, 3, 8, 8), "4 of 4 pictures are of one colour (the first is black)"),
    "grey, but for rounding": (127 + torch.arange(64).reshape(8, 8) % 2 + torch.zeros(2, 3, 8, 8), "RGB [128, 128"),
    "a colour": (torch.tensor([9.0, 200.0, 30.0])[:, None, None] + torch.zeros(3, 3, 8, 8), "RGB [9, 200, 30]"),
    "most of them": (torch.cat([torch.zeros(3, 3, 8, 8), random_pictures(2, 8).float()]), "3 of 5 pictures"),
    "all alike": (random_pictures(1, 8).float() + torch.zeros(3, 1, 1, 1), "All 3 pictures are alike"),
}


@pytest.mark.parametrize("kind", BLANKS)
def test_pictures_without_information_are_refused(kind: str) -> None:
    pictures, expected = BLANKS[kind]
    with pytest.raises(ScoreError) as error:
        check_informative(pictures.to(torch.uint8), torch.float32)
    assert expected in str(error.value) and "precision is not the cause" in str(error.value)
    with pytest.raises(ScoreError, match="half precision needs --dtype float32 or bfloat16"):
        check_informative(pictures.to(torch.uint8), torch.float16)


def test_a_blank_picture_among_others_and_a_single_one_are_pictures() -> None:
    blank = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    check_informative(torch.cat([blank, random_pictures(3, 8)]), torch.float32)
    check_informative(random_pictures(1, 8), torch.float32)
