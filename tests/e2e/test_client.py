"""The Python client against a live API and worker, and over a line that breaks."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.client import ApiError, AsyncClient, AsyncRunningJob, Client, JobFailed, RunningJob, Unreachable
from app.client.calls import submission
from app.jobs import JobStatus
from app.specs import JobSpec
from tests.e2e.service import LONG, Json, Service
from tests.e2e.test_datasets import shapes

DIGITS: Json = {"dataset": {"name": "digits"}, "tracking": None}


@pytest.fixture
def client(shared: Service) -> Iterator[Client]:
    with Client(shared.url) as made:
        yield made


def test_a_job_is_submitted_followed_waited_for_and_downloaded(client: Client, shared: Service, tmp_path: Path) -> None:
    job = client.submit(JobSpec.model_validate({**DIGITS, "name": "by the client", "training": {"max_epochs": 4}}))
    rows = list(job.epochs())
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    done = job.wait(60)
    assert (done.status, done.name) == (JobStatus.SUCCEEDED, "by the client")
    assert rows == job.metrics()
    assert [event.type for event in job.events()][-1] == "finished"
    evaluation = job.evaluation()
    assert done.evaluation == evaluation
    assert job.download_best(tmp_path / "best.pth").read_bytes() == shared.weights(job.id)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.pth"]
    assert [attempt.outcome for attempt in job.attempts()] == ["succeeded"]
    assert "best_model.onnx" in [file.name for file in job.checkpoints()]
    assert "stopped after epoch 4" in "\n".join(line.text for line in job.logs())
    assert {answer["settings"]["patience"] for answer in job.replay(patience=[1, 2])} == {1, 2}


def test_it_needs_no_torch() -> None:
    code = "import sys, app.client; print(sorted({'torch', 'sqlalchemy', 'fastapi'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_lists_are_read_page_by_page(client: Client) -> None:
    made = {client.submit({**DIGITS, "tags": ["paged"], "not_before": "2040-01-01T00:00:00Z"}).id for _ in range(5)}
    assert {job.id for job in client.jobs(tag="paged", limit=2)} == made
    for job_id in made:
        client.job(job_id).cancel()


def test_refusals_have_a_code_and_the_bad_fields(client: Client) -> None:
    with pytest.raises(ApiError, match="did you mean 'lr'") as refused:
        client.submit({"optimizer": {"lrr": 1}})
    assert (refused.value.status, refused.value.code) == (422, "invalid")
    assert refused.value.errors[0]["pointer"] == "#/optimizer/lrr"
    with pytest.raises(ApiError) as missing:
        client.job("nothing")
    assert missing.value.code == "job_not_found"


def test_a_job_that_was_cancelled_is_an_error_to_who_waits(client: Client) -> None:
    job = client.submit({**LONG, "not_before": "2040-01-01T00:00:00Z"})
    with pytest.raises(TimeoutError, match="is queued after"):
        job.wait(0.2)
    job.cancel()
    with pytest.raises(JobFailed, match="cancelled"):
        job.wait(10)
    assert job.wait(10, check=False).status is JobStatus.CANCELLED


def test_nothing_there_is_told_after_some_attempts() -> None:
    with pytest.raises(Unreachable, match="whistlestop up"):
        Client("http://127.0.0.1:9", retries=1).submit(DIGITS)


@contextmanager
def breaking_line(target: int) -> Iterator[tuple[str, list[bytes]]]:
    """A line to a service that hands the first request on, and hangs up before its answer comes back."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", target)) as far:
                request = near.recv(65_536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = int(
                    next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))[15:]
                )
                while len(body) < length:
                    body += near.recv(65_536)
                requests.append(head)
                far.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + b"\r\n\r\n" + body)
                answer = b""
                while part := far.recv(65_536):
                    answer += part
                if len(requests) > 1:
                    near.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.close()


def test_a_retry_never_submits_twice(shared: Service) -> None:
    with breaking_line(shared.port) as (url, requests), Client(url) as client:
        job_id = client._send(submission({**DIGITS, "tags": ["once"], "not_before": "2040-01-01T00:00:00Z"}, False)).id
    assert len(requests) == 2, "the first answer was lost"
    assert [job["id"] for job in shared.get("/jobs", tag="once")["data"]] == [job_id]
    shared.http.post(f"/jobs/{job_id}/cancel")


@pytest.mark.parametrize(("plain", "asynchronous"), [(Client, AsyncClient), (RunningJob, AsyncRunningJob)])
def test_both_clients_have_the_same_calls(plain: type, asynchronous: type) -> None:
    def calls(of: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: [each.replace(annotation=None) for each in inspect.signature(call).parameters.values()]
            for name, call in inspect.getmembers(of, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(asynchronous) == calls(plain)
    assert len(calls(plain)) > 8


def test_the_asynchronous_one_does_the_same(shared: Service, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(shared.url) as client:
            one, two = await asyncio.gather(*(client.submit({**DIGITS, "seed": seed}) for seed in (7, 8)))
            seen = [event.type async for event in one.events()]
            assert seen[0] == "queued"
            assert seen[-1] == "finished"
            jobs = await asyncio.gather(one.wait(), two.wait())
            assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 2
            assert len(await two.metrics()) == jobs[1].progress.epoch
            assert [row async for row in two.epochs()] == await two.metrics()
            told: list[tuple[int, int]] = []
            path = await one.download("best_model.pth", tmp_path / "best.pth", lambda *sizes: told.append(sizes))
            assert path.read_bytes() == shared.weights(one.id)
            assert told[-1] == (path.stat().st_size, path.stat().st_size)
            assert (await one.get()).evaluation == await one.evaluation()
            assert "best_model.onnx" in [file.name for file in await one.checkpoints()]
            assert {answer["settings"]["patience"] for answer in await one.replay(patience=[1, 2])} == {1, 2}
            listed = [job.id async for job in client.jobs(limit=50)]
            assert {one.id, two.id} <= set(listed)
            with pytest.raises(ApiError):
                await (await client.job(one.id)).stop()
            later = await client.submit({**DIGITS, "not_before": "2040-01-01T00:00:00Z"})
            with pytest.raises(TimeoutError, match="has not ended after"):
                await later.wait(0.2)
            await later.cancel()
            await later.delete()

    asyncio.run(run())


def test_a_data_set_is_uploaded_by_either_client(client: Client, shared: Service, tmp_path: Path) -> None:
    archive = tmp_path / "shapes.tar"
    archive.write_bytes(shapes())
    told: list[tuple[int, int]] = []
    assert client.upload_dataset("shapes-1", archive, lambda *sizes: told.append(sizes)).name == "shapes-1"
    assert told[-1] == (archive.stat().st_size, archive.stat().st_size)

    async def run() -> None:
        async with AsyncClient(shared.url) as other:
            assert (await other.upload_dataset("shapes-2", archive)).name == "shapes-2"
            assert {"shapes-1", "shapes-2"} <= {each.name for each in await other.datasets()}
            for name in ("shapes-1", "shapes-2"):
                await other.delete_dataset(name)
            assert not {"shapes-1", "shapes-2"} & {each.name for each in await other.datasets()}

    asyncio.run(run())
