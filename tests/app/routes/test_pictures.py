"""Pictures and reports of jobs."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

from PIL import Image
from starlette.testclient import TestClient

from app.specs import StopReason
from app.store import JobStore
from tests.app.routes.test_analysis import LOSSES
from tests.values import EVALUATION, RUNTIME, claimed, files, row


def finished(api: TestClient, store: JobStore, name: str = "a <b>bold</b> job") -> str:
    """A job that has succeeded."""
    job_id = str(api.post("/jobs", json={"name": name}).json()["id"])
    lease = claimed(store).lease
    store.record_runtime(lease, RUNTIME, ())
    for epoch, loss in enumerate(LOSSES, 1):
        store.record_epoch(lease, row(epoch, loss), files(epoch), {}, ())
    store.succeed(lease, StopReason.STAGNATION, EVALUATION, ())
    return job_id


def test_the_plot_is_an_svg_or_a_png_of_the_curves(api: TestClient, api_store: JobStore) -> None:
    job_id = finished(api, api_store)
    svg = api.get(f"/jobs/{job_id}/plot.svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    ET.fromstring(svg.text)
    for words in ("train_loss", "val_loss", "train_acc", "val_acc", "best epoch", "stopped: stagnation"):
        assert words in svg.text
    assert "<b>" not in svg.text
    assert svg.content == api.get(f"/jobs/{job_id}/plot.svg").content, "the same job gives the same picture"
    png = api.get(f"/jobs/{job_id}/plot.png")
    assert Image.open(io.BytesIO(png.content)).size[0] > 600


def test_the_confusion_matrix_is_a_picture_too(api: TestClient, api_store: JobStore) -> None:
    job_id = finished(api, api_store)
    text = api.get(f"/jobs/{job_id}/confusion.svg").text
    ET.fromstring(text)
    assert "taken for" in text


def test_the_report_is_one_file_that_needs_nothing_else(api: TestClient, api_store: JobStore) -> None:
    job_id = finished(api, api_store)
    answer = api.get(f"/jobs/{job_id}/report")
    text = answer.text
    assert answer.headers["content-type"].startswith("text/html")
    for words in ("Stopped after epoch 10 for stagnation", "90.00%", "a CPU", "load_model", "kind: mlp", "<svg"):
        assert words in text, words
    assert "<b>bold</b>" not in text
    assert "&lt;b&gt;bold" in text
    elsewhere = [url for url in re.findall(r"""(?:src|href)=["']([^"'#]+)""", text) if not url.startswith("data:")]
    assert elsewhere == []
    assert "script" not in answer.headers["content-security-policy"]


def test_what_is_not_there_yet_is_told(api: TestClient) -> None:
    job_id = api.post("/jobs", json={}).json()["id"]
    assert "no epoch yet" in api.get(f"/jobs/{job_id}/plot.svg").json()["detail"]
    assert api.get(f"/jobs/{job_id}/confusion.svg").status_code == 404
    assert "No epoch has been trained yet" in api.get(f"/jobs/{job_id}/report").text
    assert api.get(f"/jobs/{job_id}/plot.gif").status_code == 422
    assert api.get("/jobs/nothing/plot.svg").json()["code"] == "job_not_found"


def test_early_stopping_is_told_in_numbers_and_words(api: TestClient, api_store: JobStore) -> None:
    job_id = api.post("/jobs", json={"early_stopping": {"patience": 4}}).json()["id"]
    assert api.get(f"/jobs/{job_id}/early-stopping").json()["explanation"] == "No epoch has been trained yet."
    lease = claimed(api_store).lease
    for epoch, loss in enumerate(LOSSES[:6], 1):
        api_store.record_epoch(lease, row(epoch, loss), files(epoch), {}, ())
    found = api.get(f"/jobs/{job_id}/early-stopping").json()
    assert (found["epoch"], found["stagnation"], found["overfitting"], found["reference"]) == (6, 2, 0, 0.4)
    assert "stagnation 2/4" in found["explanation"]


def test_a_list_may_have_the_course_of_val_loss(api: TestClient, api_store: JobStore) -> None:
    job_id = finished(api, api_store)
    (plain,) = api.get("/jobs").json()["data"]
    assert plain["sparkline"] is None
    (listed,) = api.get("/jobs", params={"sparkline": 50}).json()["data"]
    assert (listed["id"], listed["sparkline"]) == (job_id, LOSSES)
    (thin,) = api.get("/jobs", params={"sparkline": 4}).json()["data"]
    assert thin["sparkline"] == [LOSSES[2], LOSSES[5], LOSSES[8]]


def test_a_stretch_of_rows_and_the_newest_events_can_be_asked_for(api: TestClient, api_store: JobStore) -> None:
    job_id = finished(api, api_store)
    rows = api.get(f"/jobs/{job_id}/metrics", params={"after_epoch": 3, "before_epoch": 6}).json()["data"]
    assert [each["epoch"] for each in rows] == [4, 5]
    assert api.get(f"/jobs/{job_id}/metrics", params={"after_epoch": 6, "before_epoch": 2}).json()["data"] == []
    every = api.get(f"/jobs/{job_id}/events").json()["data"]
    newest = api.get(f"/jobs/{job_id}/events", params={"newest": 3}).json()["data"]
    assert newest == every[-3:]


def test_examples_are_specs_that_the_service_takes(api: TestClient) -> None:
    examples = api.get("/examples").json()["data"]
    assert {"exercise-1", "digits", "cifar10-fast"} <= {each["name"] for each in examples}
    for each in examples:
        assert each["summary"]
        answer = api.post("/jobs?dry_run=true", content=each["text"], headers={"Content-Type": "application/yaml"})
        assert answer.status_code == 200 or "init_from" in answer.json()["detail"], each["name"]
