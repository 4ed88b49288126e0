"""Data sets: prepared once, split without a leak."""

from __future__ import annotations

import gzip
import itertools
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from app.specs import DatasetSpec
from tests.worker.training.conftest import CPU, never
from worker.imagefolder import read_images
from worker.training.data import Data, DatasetBroken, load, split_indices
from worker.training.prepare import Own, prepare


@given(
    classes=st.lists(st.integers(10, 80), min_size=2, max_size=6),
    val_fraction=st.floats(0.1, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_is_disjoint_whole_and_stratified(classes: list[int], val_fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(classes)), classes)
    train, val = split_indices(labels, val_fraction, seed)
    assert sorted([*train, *val]) == list(range(len(labels)))
    for label, count in enumerate(classes):
        assert abs((labels[val] == label).sum() - count * len(val) / len(labels)) <= 1
    again, _ = split_indices(labels, val_fraction, seed)
    assert (again == train).all()


def test_digits_are_the_real_ones(digits: Data) -> None:
    original = load_digits()
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1293, 144, 360)
    assert digits.shape == (1, 8, 8)
    assert digits.train.images.dtype == torch.uint8
    images = torch.cat([digits.train.images, digits.test.images])
    assert len(images) == len(original.images)
    # every original image is there once, brightest 16 as 255
    ours = {image.numpy().tobytes() for image in images}
    assert ours == {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in original.images}


def test_training_validation_and_test_images_are_never_mixed(digits: Data) -> None:
    assert not set(digits.train.index.tolist()) & set(digits.val.index.tolist())
    assert digits.train.images.data_ptr() != digits.test.images.data_ptr()


def test_normalisation_is_of_the_training_split_alone(digits: Data) -> None:
    pixels = digits.train.images[digits.train.index].double() / 255
    assert digits.mean.item() == pytest.approx(pixels.mean().item(), rel=1e-6)
    assert digits.std.item() == pytest.approx(pixels.std(correction=0).item(), rel=1e-6)


def test_another_split_seed_holds_out_other_images(digits_file: Path, digits: Data) -> None:
    other = load(digits_file, DatasetSpec(name="digits", split_seed=1), CPU)
    assert other.val.index.tolist() != digits.val.index.tolist()


def test_eight_jobs_at_once_prepare_a_data_set_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        files = set(pool.map(lambda _: prepare("digits", (), None, tmp_path / "digits.safetensors", never), range(8)))
    (file,) = files
    written = file.stat().st_mtime_ns
    assert prepare("digits", (), None, tmp_path / "digits.safetensors", never).stat().st_mtime_ns == written
    assert not list(tmp_path.glob(".writing-*"))


def own_data(folder: Path, images_a_class: int) -> Path:
    """Pictures of two classes, in image-folder layout."""
    for split, label, number in itertools.product(("train", "test"), ("a", "b"), range(images_a_class)):
        path = folder / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), 100 * (label == "b") + number).save(path)
    return folder


def test_own_images_are_prepared_again_when_they_have_changed(tmp_path: Path) -> None:
    archive = tmp_path / "own.tar"
    for count in (5, 10):
        shutil.make_archive(str(tmp_path / "own"), "tar", own_data(tmp_path / f"images-{count}", count))
        file = prepare("own", (), Own(archive, read_images), tmp_path / "prepared" / "own", never)
        found = load(file, DatasetSpec(name="own", val_fraction=0.4), CPU)
        assert (len(found.train) + len(found.val), len(found.test)) == (2 * count, 2 * count)
        assert found.classes == ("a", "b")
        written = file.stat().st_mtime_ns
        assert (
            prepare("own", (), Own(archive, read_images), tmp_path / "prepared" / "own", never).stat().st_mtime_ns
            == written
        )
        time.sleep(0.02)


def test_a_split_that_leaves_a_class_out_is_told_with_what_to_do(tmp_path: Path) -> None:
    file = prepare("own", (), Own(own_data(tmp_path / "own", 4), read_images), tmp_path / "prepared" / "own", never)
    with pytest.raises(
        DatasetBroken, match=r"^own cannot be split with dataset.val_fraction 0.1: .* another val_fraction.$"
    ):
        load(file, DatasetSpec(name="own", val_fraction=0.1), CPU)


def test_images_of_a_built_in_data_set_must_be_all_of_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetBroken, match="holds 8 training and 8 test images; cifar10 has 50000 and 10000"):
        prepare("cifar10", (), Own(own_data(tmp_path / "cifar10", 4), read_images), tmp_path / "cifar", never)


def test_a_damaged_prepared_file_is_told_with_what_to_do(digits_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / digits_file.name
    damaged.write_bytes(digits_file.read_bytes()[:5000])
    with pytest.raises(DatasetBroken, match="Delete it; it will be prepared again"):
        load(damaged, DatasetSpec(name="digits"), CPU)


def test_a_damaged_split_is_told_by_its_own_name(digits_file: Path, tmp_path: Path) -> None:
    file = tmp_path / digits_file.name
    file.write_bytes(digits_file.read_bytes())
    load(file, DatasetSpec(name="digits"), CPU)
    (split,) = tmp_path.glob("*-split-*")
    split.write_bytes(split.read_bytes()[:100])
    with pytest.raises(DatasetBroken, match=f"{split} is damaged"):
        load(file, DatasetSpec(name="digits"), CPU)


def test_raw_files_that_are_there_are_used_from_a_read_only_folder(mnist_root: Path, tmp_path: Path) -> None:
    file = prepare("mnist", (mnist_root,), None, tmp_path / "mnist.safetensors", never)
    found = load(file, DatasetSpec(), CPU)
    assert (len(found.train), len(found.val), len(found.test)) == (54_000, 6_000, 10_000)
    # the published statistics of the 60,000 training images
    assert found.mean.item() == pytest.approx(0.1307, abs=5e-4)
    assert found.std.item() == pytest.approx(0.3081, abs=5e-4)
    assert found.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_raw_files_that_are_cut_off_are_told_with_their_folder(mnist_root: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "MNIST" / "raw"
    shutil.copytree(mnist_root / "MNIST" / "raw", raw)
    for packed in raw.glob("*.gz"):
        target = raw / packed.stem
        if not target.exists():
            target.write_bytes(gzip.decompress(packed.read_bytes()))
    labels = raw / "train-labels-idx1-ubyte"
    labels.chmod(0o644)
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(DatasetBroken, match="Delete"):
        prepare("mnist", (tmp_path / "raw",), None, tmp_path / "prepared" / "mnist.safetensors", never)
    assert not list((tmp_path / "prepared").glob("*.safetensors"))
