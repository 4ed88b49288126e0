"""Image folders: real images in, one array out."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.imagefolder import find_images
from worker.imagefolder import read_images
from worker.training.data import DatasetBroken

MEMBERS = ("train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png", "test/a/1.png")
RED, GREEN = (250, 10, 10), (10, 250, 10)


def picture(size: tuple[int, int] = (10, 8), colour: tuple[int, int, int] | int = RED) -> Image.Image:
    return Image.new("L" if isinstance(colour, int) else "RGB", size, colour)


def put(root: Path, member: str, image: Image.Image) -> None:
    path = root / member
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "fruit"
    for number in range(3):
        put(root, f"train/apple/{number}.png", picture(colour=RED))
        put(root, f"train/pear/{number}.png", picture(colour=GREEN))
    put(root, "test/pear/9.png", picture(colour=GREEN))
    return root


@pytest.mark.parametrize("kind", ["folder", "tar", "gztar", "zip"])
def test_each_kind_of_source_gives_the_same_images(folder: Path, kind: str) -> None:
    if kind != "folder":
        shutil.make_archive(str(folder), kind, folder.parent, folder.name)
        shutil.rmtree(folder)
    source = find_images("fruit", (folder.parent / "elsewhere", folder.parent))
    assert source is not None
    found = read_images(source)
    assert found.classes == ("apple", "pear")
    assert found.train_images.shape == (6, 3, 8, 10)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test_labels.tolist() == [1]
    assert found.train_images[0, :, 0, 0].tolist() == list(RED)
    assert found.test_images[0, :, 0, 0].tolist() == list(GREEN)


def test_images_take_the_most_frequent_size_and_are_cut_at_the_centre(folder: Path) -> None:
    wide = picture((40, 8), GREEN)
    wide.paste(RED, (0, 0, 10, 8))
    put(folder, "train/pear/wide.png", wide)
    found = read_images(folder)
    assert found.train_images.shape == (7, 3, 8, 10)
    assert (found.train_images[-1].transpose(1, 2, 0) == GREEN).all(), "the red end is cut off"


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    for member in MEMBERS:
        put(tmp_path, f"d/{member}", picture((448, 224)))
    assert read_images(tmp_path / "d").train_images.shape == (4, 3, 112, 224)


def test_grey_images_have_one_channel_unless_one_has_colour(tmp_path: Path) -> None:
    for member in MEMBERS:
        put(tmp_path, f"d/{member}", picture(colour=77))
    grey = read_images(tmp_path / "d")
    assert grey.train_images.shape == (4, 1, 8, 10)
    assert (grey.train_images == 77).all()
    put(tmp_path, "d/train/a/3.png", picture())
    assert read_images(tmp_path / "d").train_images.shape == (5, 3, 8, 10)


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("train/pear/text.png", b"no image", "text.png is no image"),
        ("train/pear/cut.png", None, "cut.png cannot be decoded"),
        ("train/plum/1.png", "image", "a single training image of plum"),
        ("test/plum/1.png", "image", "test images of classes without training images: plum"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, member: str, content: bytes | str | None, words: str) -> None:
    put(folder, member, Image.effect_noise((10, 8), 50))
    if isinstance(content, bytes):
        (folder / member).write_bytes(content)
    elif content is None:
        (folder / member).write_bytes((folder / member).read_bytes()[:60])
    with pytest.raises(DatasetBroken, match=words):
        read_images(folder)


def test_a_split_without_images_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    with pytest.raises(DatasetBroken, match="no image in test/<class>/"):
        read_images(folder)


def test_an_archive_that_is_cut_off_is_told(folder: Path) -> None:
    made = Path(shutil.make_archive(str(folder), "tar", folder.parent, folder.name))
    made.write_bytes(made.read_bytes()[:2000])
    with pytest.raises(DatasetBroken):
        read_images(made)


def test_real_cifar_images_are_read_as_they_are(mnist_root: Path, tmp_path: Path) -> None:
    source = mnist_root / "cifar100-subset.tar"
    if not source.exists():
        pytest.skip("WHISTLESTOP_TEST_DATASETS has no cifar100-subset.tar")
    found = read_images(source)
    assert found.train_images.shape == (10_000, 3, 32, 32)
    assert found.test_images.shape == (2_000, 3, 32, 32)
    assert len(found.classes) == 100
    assert np.bincount(found.train_labels).tolist() == [100] * 100
    with tarfile.open(source) as archive:
        member = min((m for m in archive if m.name.split("/")[1] == "train" and m.isreg()), key=lambda m: m.name)
        content = archive.extractfile(member)
        assert content is not None
        original = np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))
    assert (found.train_images[0].transpose(1, 2, 0) == original).all()
