"""What can be done to a job under way, over HTTP; the tests play the worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from app.jobs import JobError, JobStatus
from app.specs import StopReason
from app.store import JobStore, LeaseLost
from tests.values import EVALUATION, claimed, files, row

BROKEN = JobError(type="diverged", message="train_loss is nan")


def submitted(api: TestClient, **spec: object) -> str:
    answer = api.post("/jobs", json=spec)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def in_status(api: TestClient, store: JobStore, status: JobStatus) -> str:
    """A job with one epoch, in a status."""
    job_id = submitted(api)
    lease = claimed(store).lease
    store.record_epoch(lease, row(1), files(1), {}, ())
    match status:
        case JobStatus.QUEUED:
            store.give_back(lease)
        case JobStatus.PAUSED:
            store.pause(job_id)
        case JobStatus.SUCCEEDED:
            store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
        case JobStatus.FAILED:
            store.fail(lease, BROKEN)
        case JobStatus.CANCELLED:
            store.cancel(job_id)
        case JobStatus.RUNNING:
            pass
    return job_id


Q, R, P, S, F, C = JobStatus
AFTER: dict[str, dict[JobStatus, JobStatus]] = {
    "stop": {Q: Q, R: R, P: Q},
    "pause": {Q: P, R: P},
    "resume": {P: Q},
    "cancel": {Q: C, R: C, P: C},
    "retry": {F: Q},
}


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("action", AFTER)
def test_each_call_is_allowed_in_its_statuses_and_409_in_all_others(
    api: TestClient, api_store: JobStore, action: str, status: JobStatus
) -> None:
    job_id = in_status(api, api_store, status)
    before = api.get(f"/jobs/{job_id}").json()
    answer = api.post(before["links"][action])
    if status in AFTER[action]:
        assert (answer.status_code, answer.json()["status"]) == (200, AFTER[action][status])
        return
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
    assert status in answer.json()["detail"]
    assert api.get(f"/jobs/{job_id}").json() == before


def test_a_stop_is_told_to_the_worker_and_to_the_next_attempt(api: TestClient, api_store: JobStore) -> None:
    job_id = in_status(api, api_store, JobStatus.RUNNING)
    (beat,) = api_store.beats()
    assert api_store.still_held([beat.lease]) == {beat.lease: False}
    for _ in range(2):
        assert api.post(f"/jobs/{job_id}/stop").json()["stop_requested"]
    assert api_store.still_held([beat.lease]) == {beat.lease: True}
    kinds = [event["type"] for event in api.get(f"/jobs/{job_id}/events").json()["data"]]
    assert kinds.count("stop_requested") == 1
    api_store.give_back(beat.lease)
    assert claimed(api_store).stop_requested


def test_a_stop_without_an_epoch_says_to_cancel(api: TestClient) -> None:
    answer = api.post(f"/jobs/{submitted(api)}/stop")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_stop")
    assert "Cancel it instead" in answer.json()["detail"]


def test_a_paused_job_is_not_claimed_and_its_worker_can_write_nothing(api: TestClient, api_store: JobStore) -> None:
    job_id = in_status(api, api_store, JobStatus.RUNNING)
    (beat,) = api_store.beats()
    assert api.post(f"/jobs/{job_id}/pause").json()["queue_position"] is None
    with pytest.raises(LeaseLost):
        api_store.record_epoch(beat.lease, row(2), files(2), {}, ())
    assert api_store.claim("worker-2") is None
    api.post(f"/jobs/{job_id}/resume")
    claim = claimed(api_store)
    assert (claim.lease.attempt, sorted(claim.checkpoints)) == (2, ["best_model.pth", "last.pth"])
    assert [attempt["outcome"] for attempt in api.get(f"/jobs/{job_id}/attempts").json()] == ["paused", None]


def test_a_retried_job_has_all_its_attempts_again_and_goes_on(api: TestClient, api_store: JobStore) -> None:
    job_id = submitted(api, max_attempts=1)
    lease = claimed(api_store).lease
    api_store.record_epoch(lease, row(1), files(1), {}, ())
    api_store.crash(lease, BROKEN)
    assert api.get(f"/jobs/{job_id}").json()["status"] == "failed"
    retried = api.post(f"/jobs/{job_id}/retry").json()
    assert (retried["status"], retried["error"], retried["finished_at"]) == ("queued", None, None)
    claim = claimed(api_store)
    assert claim.lease.attempt == 2
    assert claim.checkpoints
    api_store.crash(claim.lease, BROKEN)
    assert api.get(f"/jobs/{job_id}").json()["status"] == "failed"


def test_a_job_waits_for_its_time(api: TestClient, api_store: JobStore) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    job_id = submitted(api, not_before=soon.isoformat())
    assert api_store.claim("worker-1") is None
    assert datetime.fromisoformat(api.get(f"/jobs/{job_id}").json()["not_before"]) == soon
    past = submitted(api, not_before="2020-01-01T00:00:00Z")
    assert claimed(api_store).lease.job_id == past
    assert api.post("/jobs", json={"not_before": "tomorrow"}).json()["errors"][0]["pointer"] == "#/not_before"
    assert api.post("/jobs", json={"not_before": "2030-01-01T00:00:00"}).status_code == 422, "a time without a zone"


def test_a_job_runs_after_those_that_it_names_have_succeeded(api: TestClient, api_store: JobStore) -> None:
    first, second = submitted(api), submitted(api)
    waiter = submitted(api, after=[first, second], init_from={"job": first}, priority=9)
    for job_id in (first, second):
        lease = claimed(api_store).lease
        assert lease.job_id == job_id
        assert api_store.claim("worker-2") is None or job_id == first
        api_store.record_epoch(lease, row(1), files(1), {}, ())
        if job_id == first:
            other = api_store.beats()
            for beat in other:
                if beat.lease.job_id != first:
                    api_store.give_back(beat.lease)
        api_store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    claim = claimed(api_store)
    assert claim.lease.job_id == waiter
    assert claim.parent is not None


def test_a_failure_ends_the_wait_of_all_that_waited_for_it(api: TestClient, api_store: JobStore) -> None:
    first = submitted(api)
    second = submitted(api, after=[first])
    third = submitted(api, after=[second], name="third")
    api_store.fail(claimed(api_store).lease, BROKEN)
    for job_id, cause, status in ((second, first, "failed"), (third, second, "failed")):
        job = api.get(f"/jobs/{job_id}").json()
        assert (job["status"], job["error"]["type"]) == ("failed", "dependency_failed")
        assert f"Job {cause}, which this one was to run after, is {status}" in job["error"]["message"]
    refused = api.post(f"/jobs/{third}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "dependency_failed")
    for job_id in (first, second, third):
        assert api.post(f"/jobs/{job_id}/retry").json()["status"] == "queued"


@pytest.mark.parametrize("ended", ["cancelled", "deleted"])
def test_a_job_that_is_given_up_ends_waits_too(api: TestClient, api_store: JobStore, ended: str) -> None:
    first = submitted(api)
    if ended == "deleted":
        api_store.fail(claimed(api_store).lease, BROKEN)
        api.post(f"/jobs/{first}/retry")
        waiter = submitted(api, after=[first])
        api.post(f"/jobs/{first}/cancel")
    else:
        waiter = submitted(api, after=[first])
        api.post(f"/jobs/{first}/cancel")
    assert api.get(f"/jobs/{waiter}").json()["status"] == "failed"
    assert api.delete(f"/jobs/{first}").status_code == 204
    assert api.post(f"/jobs/{waiter}/retry").json()["status"] == "queued", "nothing is left to wait for"


def test_what_cannot_be_waited_for_is_told(api: TestClient, api_store: JobStore) -> None:
    first = submitted(api)
    api_store.fail(claimed(api_store).lease, BROKEN)
    for after, words in (([first], "is failed: nothing can run after it"), (["none"], "There is no job 'none'")):
        answer = api.post("/jobs", json={"after": after})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/after")
        assert words in answer.json()["detail"]


def test_reuse_answers_with_a_job_that_has_the_same_weights(api: TestClient, api_store: JobStore) -> None:
    assert api.post("/jobs?reuse=true", json={"seed": 3}).status_code == 201
    lease = claimed(api_store).lease
    api_store.record_epoch(lease, row(1), files(1), {}, ())
    api_store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    again = api.post(
        "/jobs?reuse=true", json={"seed": 3, "name": "again", "tags": ["x"], "priority": 4, "tracking": None}
    )
    assert (again.status_code, again.headers["job-reused"], again.json()["id"]) == (200, "true", lease.job_id)
    for other in ({"seed": 4}, {"seed": 3, "model": {"hidden": [5]}}):
        assert api.post("/jobs?reuse=true", json=other).status_code == 201
    assert api.post("/jobs", json={"seed": 3}).status_code == 201, "only where it is asked for"
