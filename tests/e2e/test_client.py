"""The Python client against a live API and worker, and over a line that breaks."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.client import ApiError, AsyncClient, AsyncRunningJob, Client, DamagedFile, JobFailed, RunningJob, Unreachable
from app.client.calls import Told, submission
from app.jobs import JobStatus
from app.specs import JobSpec
from tests.e2e.service import LONG, Json, Service
from tests.e2e.test_datasets import shapes

Alter = Callable[[int, bytes], bytes]
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


def as_it_is(number: int, data: bytes) -> bytes:
    return data


@contextmanager
def line(target: int, there: Alter = as_it_is, back: Alter = as_it_is) -> Iterator[tuple[str, list[bytes]]]:
    """A line to a service, with its URL and the requests as they came in, which may change or cut off what it carries:
    `there` gets the number and the bytes of a request, `back` those of its answer. Both ends hang up afterwards."""
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
                lengths = [each for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")]
                while len(body) < int(lengths[0][15:] if lengths else 0):
                    body += near.recv(65_536)
                requests.append(head)
                number = len(requests)
                head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                far.sendall(there(number, head + b"\r\n\r\n" + body))
                answer = b""
                while part := far.recv(65_536):
                    answer += part
                near.sendall(back(number, answer))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.close()


def test_a_retry_never_submits_twice(shared: Service) -> None:
    spec = {**DIGITS, "tags": ["once"], "not_before": "2040-01-01T00:00:00Z"}
    lossy = line(shared.port, back=lambda number, answer: answer if number > 1 else b"")
    with lossy as (url, requests), Client(url) as client:
        job_id = client._send(submission(spec, False)).id
    assert len(requests) == 2, "the first answer was lost"
    assert [job["id"] for job in shared.get("/jobs", tag="once")["data"]] == [job_id]
    shared.http.post(f"/jobs/{job_id}/cancel")


@pytest.fixture(scope="module")
def trained(shared: Service) -> tuple[str, str]:
    """Two jobs that have succeeded."""
    jobs = [shared.submit({**DIGITS, "seed": seed, "training": {"max_epochs": 1}}) for seed in (1, 2)]
    for job_id in jobs:
        shared.succeeded(job_id)
    return jobs[0], jobs[1]


def cut(number: int, answer: bytes) -> bytes:
    """What a line carries that breaks twice, less than half of a file farther at a time."""
    return answer[:31_000] if number < 3 else answer


Download = Callable[[str, str, Path, Told], Path]


def download(url: str, job_id: str, to: Path, told: Told) -> Path:
    with Client(url) as client:
        return RunningJob(client, job_id).download("best_model.pth", to, told)


def download_asynchronously(url: str, job_id: str, to: Path, told: Told) -> Path:
    async def run() -> Path:
        async with AsyncClient(url) as client:
            return await AsyncRunningJob(client, job_id).download("best_model.pth", to, told)

    return asyncio.run(run())


both = pytest.mark.parametrize("fetch", [download, download_asynchronously])


@both
def test_a_download_goes_on_where_the_line_broke(
    shared: Service, trained: tuple[str, str], tmp_path: Path, fetch: Download
) -> None:
    weights, told = shared.weights(trained[0]), list[tuple[int, int]]()
    assert len(weights) > 70_000
    with line(shared.port, back=cut) as (url, requests):
        fetch(url, trained[0], tmp_path / "best.pth", lambda *sizes: told.append(sizes))
    assert (tmp_path / "best.pth").read_bytes() == weights
    assert [b"range: bytes=" in head.lower() for head in requests] == [False, True, True]
    assert sorted(told) == told, "nothing was sent twice"
    assert told[-1] == (len(weights), len(weights))


@both
def test_a_file_that_was_replaced_meanwhile_is_downloaded_from_the_start(
    shared: Service, trained: tuple[str, str], tmp_path: Path, fetch: Download
) -> None:
    one, two = trained

    def replaced(number: int, request: bytes) -> bytes:
        return request if number == 1 else request.replace(one.encode(), two.encode(), 1)

    with line(shared.port, replaced, lambda number, answer: answer if number > 1 else answer[:31_000]) as (
        url,
        requests,
    ):
        fetch(url, one, tmp_path / "best.pth", lambda *sizes: None)
    assert (tmp_path / "best.pth").read_bytes() == shared.weights(two)
    assert len(requests) == 2


@both
def test_a_file_that_is_damaged_on_its_way_is_told_and_not_kept(
    shared: Service, trained: tuple[str, str], tmp_path: Path, fetch: Download
) -> None:
    def flipped(number: int, answer: bytes) -> bytes:
        return answer[:-9] + bytes([answer[-9] ^ 1]) + answer[-8:]

    with line(shared.port, back=flipped) as (url, _), pytest.raises(DamagedFile, match="sha256 is"):
        fetch(url, trained[0], tmp_path / "best.pth", lambda *sizes: None)
    assert list(tmp_path.iterdir()) == []


@both
def test_a_line_that_stays_broken_leaves_no_file(
    shared: Service, trained: tuple[str, str], tmp_path: Path, fetch: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.client.outcomes.pause", lambda *attempt: 0.0)
    dead = line(shared.port, back=lambda number, answer: b"")
    with dead as (url, requests), pytest.raises(Unreachable, match="whistlestop up"):
        fetch(url, trained[0], tmp_path / "best.pth", lambda *sizes: None)
    assert len(requests) == 6
    assert list(tmp_path.iterdir()) == []


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
