"""Data sets over HTTP: those that are there, uploads, and uploads by somebody who means harm."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.prepared import prepared_file
from app.settings import Settings
from worker.imagefolder import read_images
from worker.training.prepare import Own, prepare

TAR, ZIP = {"Content-Type": "application/x-tar"}, {"Content-Type": "application/zip"}
Members = dict[str, bytes]


def png(colour: int = 9, size: tuple[int, int] = (9, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, colour).save(out, "PNG")
    return out.getvalue()


def good() -> Members:
    places = [f"{split}/{label}/{number}.png" for split in ("train", "test") for label in "ab" for number in range(5)]
    return {place: png(10 * index) for index, place in enumerate(places)}


def tar(members: Members, *extra: tarfile.TarInfo, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def zipped(members: Members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link() -> bytes:
    out = io.BytesIO(zipped(good()))
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("train/a/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def huge_png() -> bytes:
    """A few bytes that say that they are 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def lying_zip() -> bytes:
    """An entry that says 10 bytes and unpacks to 200 MB."""
    made = bytearray(zipped({**good(), "train/a/bomb.png": bytes(200 << 20)}))
    size = struct.pack("<I", 200 << 20)
    while (place := made.find(size)) >= 0:
        made[place : place + 4] = struct.pack("<I", 10)
    return bytes(made)


def encrypted_zip() -> bytes:
    made = bytearray(zipped(good()))
    made[made.find(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


def without(*prefixes: str) -> Members:
    return {name: content for name, content in good().items() if not name.startswith(prefixes)}


# What it is: the body, and words that the refusal must have.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a name that leads out": (lambda: tar({**good(), "../../evil.png": png()}), "'../../evil.png' leads out"),
    "an absolute name": (lambda: tar({**good(), "/etc/evil.png": png()}), "'/etc/evil.png' leads out"),
    "a name of Windows": (lambda: tar({**good(), "train\\a\\x.png": png()}), "leads out of the archive"),
    "a name that leads out, zipped": (lambda: zipped({**good(), "train/a/../../../x.png": png()}), "leads out"),
    "a control character": (lambda: tar({**good(), "train/a/x\n.png": png()}), "control characters"),
    "a symbolic link": (
        lambda: tar(good(), special("train/a/l.png", tarfile.SYMTYPE, "/etc/passwd")),
        "train/a/l.png is a link",
    ),
    "a hard link": (
        lambda: tar(good(), special("train/a/h.png", tarfile.LNKTYPE, "train/a/0.png")),
        "train/a/h.png is a link",
    ),
    "a device": (lambda: tar(good(), special("train/a/d.png", tarfile.CHRTYPE)), "train/a/d.png is a device"),
    "a pipe": (lambda: tar(good(), special("train/a/p.png", tarfile.FIFOTYPE)), "train/a/p.png is a device or pipe"),
    "a link, zipped": (zip_link, "train/a/link.png is a link"),
    "a bomb": (lambda: zipped({**good(), "train/a/z.png": bytes(70 << 20)}), "train/a/z.png has 73,400,320 bytes"),
    "a bomb of many": (
        lambda: zipped({**good(), **{f"train/a/z{n}.png": bytes(40 << 20) for n in range(4)}}),
        "unpacks to far more|is no image",
    ),
    "a bomb that lies about its size": (lying_zip, "bomb.png is no image|damaged"),
    "a bomb in gzip": (lambda: tar({**good(), "train/a/z.png": bytes(70 << 20)}, mode="w:gz"), "z.png has 73,400,320"),
    "huge dimensions": (lambda: tar({**good(), "train/a/big.png": huge_png()}), "big.png has far too many pixels"),
    "a tar that is cut off in a file": (lambda: tar(good())[:5000], "cut off"),
    "a tar that is cut off between files": (lambda: tar(good())[: 1024 * 20], "cut off: it has no end mark"),
    "a tar.gz that is cut off": (lambda: tar(good(), mode="w:gz")[:-50], "cut off"),
    "a zip that is cut off": (lambda: zipped(good())[:-40], "cut off"),
    "an encrypted zip": (encrypted_zip, "encrypted"),
    "text for an image": (lambda: tar({**good(), "train/a/no.png": b"no image"}), "train/a/no.png is no image"),
    "an image that is cut off": (
        lambda: tar({**good(), "train/a/cut.png": png(size=(90, 90))[:80]}),
        r"1 of 21 images cannot be decoded: train/a/cut.png",
    ),
    "a PostScript program": (lambda: tar({**good(), "train/a/x.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n"}), "is no image"),
    "an empty class": (lambda: tar(good(), special("train/c", tarfile.DIRTYPE)), "the class train/c is empty"),
    "one class": (lambda: tar(without("train/b", "test/b")), r"has 1 class \(a\)"),
    "a class of one image": (lambda: tar({**good(), "train/c/0.png": png()}), "a single training image of c"),
    "a test class that cannot be learnt": (
        lambda: tar({**good(), "test/c/0.png": png()}),
        "without training images: c",
    ),
    "no test images": (lambda: tar(without("test")), "no image in test/<class>/"),
    "no layout at all": (lambda: tar({"cat.png": png(), "dog.png": png()}), "no image in train/<class>/"),
    "the same name twice": (
        lambda: tar(good())[:-10240] + tar({"train/a/0.png": png()}),
        "holds train/a/0.png twice|cut off",
    ),
    "the same name in another spelling": (lambda: tar({**good(), "./train//a/0.png": png()}), "twice"),
    "images a level too deep": (
        lambda: tar({**good(), "train/a/deep/1.png": png()}),
        "is not at train/<class>/<image>",
    ),
    "two data sets": (
        lambda: tar({**{f"x/{n}": c for n, c in good().items()}, "y/train/a/0.png": png()}),
        "two data sets",
    ),
    "no archive": (lambda: b"GIF89a" + bytes(1000), "neither a .tar"),
    "nothing": (lambda: b"", "neither a .tar"),
}


@pytest.fixture
def api_folder(settings: Settings) -> Path:
    """The folder for data sets of `api`."""
    return settings.dataset_folders[-1]


def left_over(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_upload_is_refused_by_name_and_leaves_nothing(api: TestClient, api_folder: Path, what: str) -> None:
    make, words = HOSTILE[what]
    answer = api.post("/datasets?name=pets", content=make(), headers=TAR)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == "bad_dataset"
    assert re.search(words, problem["detail"]), problem["detail"]
    assert left_over(api_folder) == []
    assert not list(api_folder.parent.rglob("evil*"))
    assert api.get("/datasets/pets").status_code == 404


@pytest.mark.parametrize("pack", [tar, zipped, lambda members: tar(members, mode="w:gz")], ids=["tar", "zip", "tar.gz"])
def test_an_upload_is_looked_into_used_and_deleted(
    api: TestClient, api_folder: Path, pack: Callable[[Members], bytes]
) -> None:
    members = {f"pets/{name}": content for name, content in good().items()}
    members |= {"pets/README.md": b"Read me.", "pets/train/.DS_Store": b"x", "__MACOSX/pets/train/a/._0.png": b"x"}
    answer = api.post("/datasets?name=pets", content=pack(members), headers=TAR)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/datasets/pets"
    pets = answer.json()
    assert pets == api.get("/datasets/pets").json() == api.get("/datasets").json()["data"][-1]
    assert (pets["kind"], pets["prepared"], pets["shape"]) == ("own", False, [1, 8, 9])
    assert pets["classes"] == [{"name": label, "train": 5, "test": 5} for label in "ab"]
    assert api.post("/jobs", json={"dataset": {"name": "pets", "val_fraction": 0.4}}).status_code == 201
    assert api.post("/datasets?name=pets", content=pack(members), headers=TAR).json()["code"] == "dataset_exists"
    assert api.get("/datasets/pets/contact-sheet.png").json()["code"] == "not_prepared"

    (archive,) = [path for path in api_folder.iterdir() if path.is_file()]
    prepare("pets", (), Own(archive, read_images), prepared_file(api_folder, "pets"), Path)
    pets = api.get("/datasets/pets").json()
    assert pets["prepared"]
    assert pets["mean"] == [pytest.approx(sum(10 * index for index in range(10)) / 10 / 255, rel=1e-5)]
    sheet = api.get("/datasets/pets/contact-sheet.png")
    assert sheet.headers["content-type"] == "image/png"
    drawn = Image.open(io.BytesIO(sheet.content))
    assert drawn.size == (10 * (9 * 7 + 2) - 2, 2 * (8 * 7 + 2) - 2)
    assert [drawn.getpixel((65 * column + 1, 59)) for column in range(5)] == [(10 * n,) * 3 for n in range(5, 10)]

    assert api.delete("/datasets/pets").status_code == 204
    assert left_over(api_folder) == ["prepared/.pets.lock"]
    assert api.get("/datasets/pets").status_code == 404


def test_an_upload_has_a_limit_and_a_type_and_a_name(api: TestClient, api_folder: Path) -> None:
    api.app.state.max_upload_bytes = 1000  # type: ignore[attr-defined]
    answer = api.post("/datasets?name=pets", content=tar(good()), headers=TAR)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "WHISTLESTOP_MAX_UPLOAD_BYTES" in answer.json()["detail"]
    assert left_over(api_folder) == []
    form = api.post("/datasets?name=pets", content=b"", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    for name in ("../evil", "Pets", "a" * 64, ""):
        answer = api.post("/datasets", params={"name": name}, content=b"x", headers=TAR)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "name")
    assert api.post("/datasets?name=mnist", content=tar(good()), headers=TAR).status_code == 409


def test_a_built_in_data_set_and_one_that_was_placed_by_hand_cannot_be_deleted(
    api: TestClient, api_folder: Path
) -> None:
    (api_folder).mkdir(parents=True, exist_ok=True)
    (api_folder / "leaves.tar").write_bytes(tar(good()))
    for name, words in (("mnist", "is built in"), ("leaves", "placed on the machine by hand")):
        answer = api.delete(f"/datasets/{name}")
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_fixed")
        assert words in answer.json()["detail"]
    assert api.delete("/datasets/leafs").status_code == 404
    assert (api_folder / "leaves.tar").exists()


def test_an_own_data_set_can_be_named_by_a_job_as_soon_as_it_is_there(api: TestClient, api_folder: Path) -> None:
    spec = {"dataset": {"name": "fruit"}}
    assert api.post("/jobs", json=spec).json()["errors"][0]["pointer"] == "#/dataset/name"
    api_folder.mkdir(parents=True, exist_ok=True)
    (api_folder / "fruit.tar").touch()
    assert api.post("/jobs", json=spec).status_code == 201
    listed = api.get("/datasets").json()["data"]
    assert listed[-1] == api.get("/datasets/fruit").json()
    unknown = dict.fromkeys(("shape", "classes", "mean", "std"))
    assert listed[-1] == {**unknown, "name": "fruit", "kind": "own", "description": None, "prepared": False, "size": 0}
