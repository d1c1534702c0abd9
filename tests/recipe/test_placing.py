"""Pictures in many places: sizes, mirrors, seeds; and the parcels in which data and weights travel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import TrainingError
from recipe.data.items import Item
from recipe.data.placing import SMALLEST, copies, copy, copy_numbers, may_mirror, place, real_pictures
from recipe.data.prepare import load_dataset
from recipe.packing.parcels import pack_data, trained_files, unpack_parcel, write_parcel
from training.tensors import load_tensors


def black(count: int) -> torch.Tensor:
    """Pictures whose left half is black and whose right half is grey."""
    pictures = torch.zeros(count, 3, 64, 64, dtype=torch.uint8)
    pictures[:, :, :, 32:] = 100
    return pictures


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_placed_picture_is_whole_and_on_white(seed: int) -> None:
    pictures = black(12)
    placed = place(pictures, torch.zeros(12, dtype=torch.bool), torch.Generator().manual_seed(seed))
    for picture in placed:
        inside = (picture[0] < 200).nonzero()
        top, left = inside.min(0).values.tolist()
        bottom, right = inside.max(0).values.tolist()
        assert bottom - top == right - left and SMALLEST <= bottom - top + 1 <= 64
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[top : bottom + 1, left : right + 1] = False
        assert (picture[:, outside] == 255).all()
        # the black half is at the left: it was not mirrored
        assert picture[0, (top + bottom) // 2, left + 3] < 20 and picture[0, (top + bottom) // 2, right - 3] > 80


def test_sizes_places_and_mirrors_vary() -> None:
    placed = copies(black(8), torch.ones(8, dtype=torch.bool), 8).flatten(0, 1)
    areas = (placed[:, 0] < 200).sum((1, 2))
    assert len(areas.unique()) > 10
    rows = [(p[0] < 200).nonzero() for p in placed]
    assert len({tuple(r.min(0).values.tolist()) for r in rows}) > 30
    mirrored = sum(
        int(p[0, int(r.float().mean(0)[0]), int(r[:, 1].min()) + 3]) > 80 for p, r in zip(placed, rows, strict=True)
    )
    assert 16 < mirrored < 48


def test_a_copy_is_its_seed_and_number_alone() -> None:
    pictures, mirror = black(5), torch.ones(5, dtype=torch.bool)
    assert torch.equal(copies(pictures, mirror, 3)[2], copy(pictures, mirror, 2))
    assert not torch.equal(copy(pictures, mirror, 0), copy(pictures, mirror, 1))
    assert torch.equal(copy_numbers(4, 9, 2, 5), copy_numbers(4, 9, 2, 5))
    assert not copy_numbers(1, 9, 2, 5).any() and copy_numbers(7, 200, 2, 5).unique().tolist() == list(range(7))


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("cat face", True),
        ("pizza", True),
        ("left facing fist", False),
        ("leftwards hand", False),
        ("eight ball", False),
        ("world map", False),
        ("first place medal", False),
        ("taxi", False),
        ("leafy green", True),
        ("diamond", True),
    ],
)
def test_what_reads_wrong_in_a_mirror_is_not_mirrored(name: str, may: bool) -> None:
    assert bool(may_mirror([Item(name, "", "", "flat style", name, "train", "train")])[0]) is may


def test_real_pictures_stay_as_they_are_unless_placed(prepared: Path) -> None:
    data = load_dataset(prepared)
    assert torch.equal(real_pictures(data, [1, 4], False), data.pictures[[1, 4]])
    placed = real_pictures(data, [1, 4], True)
    assert placed.shape == (2, 3, 64, 64) and torch.equal(placed, real_pictures(data, [1, 4], True))


def test_packed_data_comes_back_to_the_bit(prepared: Path, tmp_path: Path) -> None:
    paths = pack_data(prepared, tmp_path / "there" / "data")
    whole = (prepared / "data" / "pictures.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in paths) < whole / 3
    unpack_parcel(tmp_path / "there" / "data", tmp_path / "work")
    before, after = load_dataset(prepared), load_dataset(tmp_path / "work")
    assert torch.equal(before.pictures, after.pictures) and before.items == after.items


def test_a_parcel_is_cut_joined_and_checked(tmp_path: Path) -> None:
    files = {"a/b": bytes(range(256)) * 20, "c": b""}
    paths = write_parcel(files, tmp_path / "x", part=4000)
    assert len(paths) > 3 and all(path.stat().st_size <= 4000 for path in paths)
    unpack_parcel(tmp_path / "x", tmp_path / "out")
    assert {
        str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == files
    paths[0].write_bytes(b"x" * 4000)
    with pytest.raises(TrainingError, match="damaged"):
        unpack_parcel(tmp_path / "x", tmp_path / "out")
    paths[0].unlink()
    with pytest.raises(TrainingError, match="not whole"):
        unpack_parcel(tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_parcel_stays_within_its_folder(name: str, tmp_path: Path) -> None:
    write_parcel({name: b"x"}, tmp_path / "x")
    with pytest.raises(TrainingError, match="plain files of the work folder"):
        unpack_parcel(tmp_path / "x", tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("outside"))


def test_what_travels_of_a_training_is_its_average(trained: Path, tmp_path: Path) -> None:
    write_parcel(trained_files(trained), tmp_path / "trained")
    unpack_parcel(tmp_path / "trained", tmp_path / "work")
    name = "unet/checkpoint.safetensors"
    travelled, whole = load_tensors(tmp_path / "work" / name), load_tensors(trained / name)
    assert set(travelled) == {key for key in whole if key.startswith("a/")}
    assert all(torch.equal(value, whole[key].half()) for key, value in travelled.items())
    assert (tmp_path / "work" / "clip" / "model" / "open_clip_model.safetensors").exists()
