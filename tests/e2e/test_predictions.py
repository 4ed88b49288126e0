"""Predictions of finished jobs, and the images that they are asked about."""

from __future__ import annotations

import io
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from tests.e2e.service import Service
from worker.training import load_model

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def job_id(shared: Service) -> str:
    """A job on digits."""
    made = shared.submit({"dataset": {"name": "digits"}, "tracking": None})
    shared.succeeded(made)
    return made


def test_a_prediction_is_what_the_weights_say(shared: Service, job_id: str, tmp_path: Path) -> None:
    (tmp_path / "best_model.pth").write_bytes(shared.weights(job_id))
    model = load_model(tmp_path / "best_model.pth")
    right = 0
    for index in range(20):
        png = shared.http.get(f"/datasets/digits/test/{index}.png").content
        answer = shared.http.post(f"/jobs/{job_id}/predict", content=png, headers=PNG).json()
        probability = {each["label"]: each["probability"] for each in answer["data"]}
        pixels = torch.frombuffer(bytearray(Image.open(io.BytesIO(png)).tobytes()), dtype=torch.uint8).view(1, 1, 8, 8)
        with torch.inference_mode():
            expected = model(pixels).softmax(1)[0]
        assert [probability[label] for label in range(10)] == pytest.approx(expected.tolist(), abs=1e-5)
        assert answer["data"][0]["label"] == int(expected.argmax())
        assert answer["seen"].startswith("data:image/png;base64,")
        right += 1
    assert right == 20


def test_mistakes_are_images_that_the_weights_get_wrong(shared: Service, job_id: str) -> None:
    mistakes = shared.job(job_id)["evaluation"]["mistakes"]
    assert mistakes
    assert [each["confidence"] for each in mistakes] == sorted((each["confidence"] for each in mistakes), reverse=True)
    for each in mistakes[:5]:
        png = shared.http.get(f"/datasets/digits/test/{each['index']}.png").content
        answer = shared.http.post(f"/jobs/{job_id}/predict", content=png, headers=PNG).json()["data"][0]
        assert answer["label"] == each["predicted"] != each["label"]
        assert answer["probability"] == pytest.approx(each["confidence"], abs=1e-4)


def bomb() -> bytes:
    """A small file with 900 megapixels."""
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"", "image/png", 422, ""),
        (b"nothing", "image/png", 422, "no image that can be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "image/png", 422, "no image that can be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 422, "no image"),
        (b"{}", "application/json", 415, "image/png"),
        (b"x" * (17 << 20), "image/png", 413, "scale the image down"),
    ],
    ids=["empty", "text", "cut off", "svg", "json", "too large"],
)
def test_what_is_no_image_is_refused(
    shared: Service, job_id: str, content: bytes, kind: str, status: int, words: str
) -> None:
    answer = shared.http.post(f"/jobs/{job_id}/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_a_bomb_is_not_unpacked(shared: Service, job_id: str) -> None:
    api = psutil.Process(shared.processes[0].pid)
    before = api.memory_info().rss
    answer = shared.http.post(f"/jobs/{job_id}/predict", content=bomb(), headers=PNG)
    assert answer.status_code == 422, answer.text
    assert api.memory_info().rss - before < 100 << 20


def test_a_job_without_weights_says_so(shared: Service) -> None:
    waiting = shared.submit({"not_before": "2040-01-01T00:00:00Z"})
    answer = shared.http.post(f"/jobs/{waiting}/predict", content=b"x", headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_recorded")
    shared.http.post(f"/jobs/{waiting}/cancel")
    assert shared.http.get("/datasets/digits/test/360.png").status_code == 404
