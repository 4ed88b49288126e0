"""What a run says of itself: epoch rows, events, console, evaluation."""

from __future__ import annotations

import csv
import io
import math

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.routes.metrics import thin
from app.specs import EpochRow, StopReason
from app.store import JobStore
from tests.values import EVALUATION, claimed, files, row


def running(api: TestClient, store: JobStore, epochs: int) -> str:
    """The path of a job that runs, with so many epochs behind it."""
    here: str = api.post("/jobs", json={}).json()["links"]["self"]
    lease = claimed(store).lease
    for epoch in range(1, epochs + 1):
        store.record_epoch(
            lease, row(epoch, 1 / epoch), files(epoch), {"early_stopping": {"stagnation": 0}}, (f"epoch {epoch}",)
        )
    return here


def test_metrics_are_there_while_the_job_runs(api: TestClient, api_store: JobStore) -> None:
    here = running(api, api_store, 3)
    found = api.get(f"{here}/metrics").json()["data"]
    assert [EpochRow.model_validate(each) for each in found] == [row(epoch, 1 / epoch) for epoch in (1, 2, 3)]
    assert [each["epoch"] for each in api.get(f"{here}/metrics?after_epoch=2").json()["data"]] == [3]
    assert api.get(f"{here}/metrics?after_epoch=3").json() == {"data": []}


def test_metrics_as_csv(api: TestClient, api_store: JobStore) -> None:
    here = running(api, api_store, 2)
    answer = api.get(f"{here}/metrics?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(table[0]) == list(EpochRow.model_fields)
    assert [float(each["val_loss"]) for each in table] == [1.0, 0.5]


@given(
    losses=st.lists(st.floats(0, 10), min_size=1, max_size=300),
    max_points=st.integers(10, 60),
)
def test_thinned_curves_keep_ends_and_extremes(losses: list[float], max_points: int) -> None:
    rows = [row(epoch, loss) for epoch, loss in enumerate(losses, start=1)]
    kept = thin(rows, max_points)
    assert len(kept) <= max(max_points, 10)
    assert (kept[0], kept[-1]) == (rows[0], rows[-1])
    assert [each.epoch for each in kept] == sorted({each.epoch for each in kept})
    shown = [each.val_loss for each in kept]
    assert (min(shown), max(shown)) == (min(losses), max(losses))


def test_events_are_numbered_and_paged(api: TestClient, api_store: JobStore) -> None:
    here = running(api, api_store, 2)
    whole = api.get(f"{here}/events").json()
    assert [event["number"] for event in whole["data"]] == list(range(1, 7))
    assert whole["next"] is None
    seen, after = [], 0
    while after is not None:
        page = api.get(f"{here}/events?limit=2&after={after}").json()
        seen += page["data"]
        after = page["next"]
    assert seen == whole["data"]
    epoch = next(event for event in seen if event["type"] == "epoch")
    assert math.isclose(epoch["data"]["val_loss"], 1.0)
    assert epoch["data"]["early_stopping"] == {"stagnation": 0}


def test_the_console_is_there_as_json_and_as_text(api: TestClient, api_store: JobStore) -> None:
    here = running(api, api_store, 3)
    page = api.get(f"{here}/logs?limit=2").json()
    assert [line["text"] for line in page["data"]] == ["epoch 1", "epoch 2"]
    assert api.get(f"{here}/logs?after={page['next']}").json()["data"][0]["text"] == "epoch 3"
    text = api.get(f"{here}/logs?format=text")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text == "epoch 1\nepoch 2\nepoch 3\n"


def test_the_evaluation_is_there_when_the_job_has_ended(api: TestClient, api_store: JobStore) -> None:
    here: str = api.post("/jobs", json={}).json()["links"]["self"]
    lease = claimed(api_store).lease
    early = api.get(f"{here}/evaluation")
    assert (early.status_code, early.json()["code"]) == (404, "not_recorded")
    assert "evaluated when its training ends" in early.json()["detail"]
    api_store.succeed(lease, StopReason.OVERFITTING, EVALUATION)
    assert api.get(f"{here}/evaluation").json() == EVALUATION.model_dump(mode="json")
    assert api.get(here).json()["evaluation"] == EVALUATION.model_dump(mode="json")
