"""Own images through the whole service: uploaded, trained on, fine-tuned, probed."""

from __future__ import annotations

import io
import socket
import tarfile

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.e2e.service import Service, until

TAR = {"Content-Type": "application/x-tar"}


def shapes() -> bytes:
    """An archive of real digits, 0 to 4, as pictures: another data set than `digits`, with half as many classes."""
    found, out = load_digits(n_class=5), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
            content = io.BytesIO()
            Image.fromarray((image * 15).astype(np.uint8)).save(content, "PNG")
            info = tarfile.TarInfo(f"{'test' if number % 5 == 0 else 'train'}/digit-{label}/{number}.png")
            info.size = content.tell()
            content.seek(0)
            archive.addfile(info, content)
    return out.getvalue()


def test_uploaded_images_are_trained_on_and_a_probe_and_fine_tuning_go_on_from_a_parent(shared: Service) -> None:
    model = {"kind": "cnn", "channels": [8, 16], "blocks": 1}
    parent = shared.submit(
        {"dataset": {"name": "digits"}, "model": model, "training": {"max_epochs": 12}, "tracking": None}
    )
    name = "half-the-digits"
    assert shared.http.post(f"/datasets?name={name}", content=shapes(), headers=TAR).status_code == 201
    assert shared.succeeded(parent)["evaluation"]["accuracy"] > 0.6
    common = {"dataset": {"name": name}, "init_from": {"job": parent}, "tracking": None}
    dry = shared.http.post("/jobs?dry_run=true", json={**common, "model": {"kind": "linear_probe"}}).json()
    assert dry["model"]["backbone"]["kind"] == "cnn", "a dry run resolves what only the parent knows"
    probe = shared.submit({**common, "model": {"kind": "linear_probe"}})
    tuned = shared.submit({**common, "model": model, "training": {"max_epochs": 4}})
    for job_id in (probe, tuned):
        job = shared.succeeded(job_id)
        assert job["evaluation"]["accuracy"] > 0.85
        assert [figure["name"] for figure in job["evaluation"]["per_class"]] == [f"digit-{n}" for n in range(5)]
    assert shared.job(probe)["spec"]["model"]["backbone"] == dry["model"]["backbone"]
    assert (shared.job(probe)["progress"]["epoch"], shared.job(probe)["stop_reason"]) == (1, "max_epochs")
    assert set(shared.job(parent)["children"]) == {probe, tuned}
    described = shared.get(f"/datasets/{name}")
    assert described["prepared"]
    assert sum(label["train"] + label["test"] for label in described["classes"]) == 901
    sheet = shared.http.get(f"/datasets/{name}/contact-sheet.png")
    assert Image.open(io.BytesIO(sheet.content)).height == 5 * (64 + 2) - 2


def test_an_upload_whose_line_goes_down_leaves_nothing(shared: Service) -> None:
    uploads = shared.data / "datasets" / "uploaded"
    head = (
        f"POST /datasets?name=gone HTTP/1.1\r\nHost: x\r\nContent-Type: {TAR['Content-Type']}\r\nContent-Length: 99999"
    )
    with socket.create_connection(("127.0.0.1", shared.port)) as line:
        line.sendall(f"{head}\r\n\r\n".encode() + shapes()[:5000])
        until("the upload has begun", lambda: list(uploads.glob(".receiving-*")))
    until("what was received is deleted", lambda: not list(uploads.glob(".receiving-*")))
    assert shared.http.get("/datasets/gone").status_code == httpx.codes.NOT_FOUND


def test_pretrained_weights_that_cannot_be_had_fail_the_job_with_what_to_do(shared: Service) -> None:
    spec = {
        "dataset": {"name": "digits"},
        "model": {"kind": "torchvision", "name": "resnet18", "image_size": 32},
        "init_from": {"pretrained": "IMAGENET1K_V1", "freeze": "backbone"},
        "training": {"max_epochs": 1},
        "tracking": None,
    }
    job = shared.ended(shared.submit(spec))
    if job["status"] == "failed":  # where there is no internet
        assert job["error"]["type"] == "weights_unavailable"
        assert "put resnet18-f37072fd.pth into" in job["error"]["message"]
