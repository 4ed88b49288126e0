"""JobStore on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import app.migrations
from app.jobs import JobError, JobStatus
from app.specs import BEST, LAST, InitFromSpec, JobSpec, StopReason
from app.store import (
    Filters,
    IdempotencyConflict,
    IllegalTransition,
    InvalidCursor,
    JobNotFound,
    JobStore,
    LeaseLost,
    NotRecorded,
    ParentInUse,
    Sorting,
    UnusableParent,
)
from app.store.lifecycle import TRANSITIONS, backoff_seconds
from tests.values import EVALUATION, RUNTIME, claimed, files, row, worker

BROKEN = JobError(type="crashed", message="ended by SIGKILL")


def types(store: JobStore, job_id: str) -> list[str]:
    return [event.type for event in store.events(job_id)]


def test_a_submitted_job_waits_with_its_spec_unchanged(store: JobStore) -> None:
    spec = JobSpec(name="Ünïcode", tags=("b", "a"), seed=7)
    job, replayed = store.submit(spec)
    assert not replayed
    assert store.job(job.id) == job
    assert (job.status, job.spec, job.tags, job.queue_position) == (JobStatus.QUEUED, spec, ("b", "a"), 1)
    assert types(store, job.id) == ["queued"]


def test_jobs_are_claimed_by_priority_then_age_and_each_once(store: JobStore) -> None:
    first, second, urgent = (store.submit(JobSpec(priority=priority))[0].id for priority in (0, 0, 5))
    assert store.job(urgent).queue_position == 1
    assert [claimed(store).lease.job_id for _ in range(3)] == [urgent, first, second]
    assert store.claim("worker-1") is None


def test_a_job_goes_from_claim_to_evaluation(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    lease = claimed(store).lease
    store.record_runtime(lease, RUNTIME)
    assert store.record_epoch(lease, row(1, 0.5), files(1), {"stagnation": 0}, ("one",)) == []
    replaced = store.record_epoch(lease, row(2, 0.6), files(2, LAST), {"stagnation": 1}, ("two",))
    assert replaced == [f"job/1-1-{LAST}"]
    running = store.job(job_id)
    assert (running.progress.epoch, running.progress.percent, running.progress.eta_seconds) == (2, 4.0, 96.0)
    assert running.best is not None
    assert (running.best.epoch, running.best.val_loss) == (1, 0.5)
    store.succeed(lease, StopReason.STAGNATION, EVALUATION, ("done",))
    job = store.job(job_id)
    assert (job.status, job.stop_reason, job.evaluation) == (JobStatus.SUCCEEDED, StopReason.STAGNATION, EVALUATION)
    assert job.progress.percent == 100
    assert job.runtime == RUNTIME
    assert [found.epoch for found in store.epochs(job_id)] == [1, 2]
    assert [found.epoch for found in store.epochs(job_id, after=1)] == [2]
    assert [line.text for line in store.lines(job_id)] == ["one", "two", "done"]
    assert {file.name: file.epoch for file in store.checkpoints(job_id)} == {BEST: 1, LAST: 2}
    assert types(store, job_id) == [
        *("queued", "started", "training", "epoch", "checkpoint", "epoch", "early_stop", "finished")
    ]
    assert [event.number for event in store.events(job_id)] == list(range(1, 9))
    assert [attempt.outcome for attempt in store.attempts(job_id)] == ["succeeded"]


def test_a_crash_charges_an_attempt_and_the_last_one_fails_the_job(store: JobStore) -> None:
    job_id = store.submit(JobSpec(max_attempts=2))[0].id
    store.crash(claimed(store).lease, BROKEN)
    waiting = store.job(job_id)
    assert (waiting.status, waiting.error) == (JobStatus.QUEUED, BROKEN)
    assert store.claim("worker-1") is None, "a crashed job waits a second before it is tried again"
    again = _claim_when_due(store)
    assert again.lease.attempt == 2
    store.crash(again.lease, BROKEN)
    job = store.job(job_id)
    assert (job.status, job.error, job.attempt) == (JobStatus.FAILED, BROKEN, 2)
    assert [attempt.outcome for attempt in store.attempts(job_id)] == ["crashed", "crashed"]
    assert types(store, job_id) == ["queued", "started", "retrying", "started", "finished"]


def _claim_when_due(store: JobStore):  # type: ignore[no-untyped-def]
    for _ in range(100):
        found = store.claim("worker-2")
        if found is not None:
            return found
        threading.Event().wait(0.05)
    pytest.fail("the job did not come back")


def test_the_wait_after_a_crash_doubles_up_to_a_minute() -> None:
    assert [backoff_seconds(crashes) for crashes in (1, 2, 3, 6, 7, 50)] == [1, 2, 4, 32, 60, 60]


def test_a_job_that_is_given_back_is_charged_nothing_and_goes_on_from_its_checkpoints(store: JobStore) -> None:
    job_id = store.submit(JobSpec(max_attempts=1))[0].id
    lease = claimed(store).lease
    store.record_epoch(lease, row(1), files(1), {}, ())
    store.give_back(lease)
    assert store.job(job_id).status is JobStatus.QUEUED
    claim = claimed(store)
    assert claim.lease.attempt == 2
    assert {name: file.key for name, file in claim.checkpoints.items()} == {
        name: f"job/1-1-{name}" for name in (BEST, LAST)
    }


def test_every_write_of_a_lost_lease_is_refused(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    old = claimed(store).lease
    store.give_back(old)
    new = claimed(store, "worker-2").lease
    before = store.job(job_id), store.events(job_id)
    for write in (
        lambda: store.record_runtime(old, RUNTIME),
        lambda: store.record_event(old, "warning", {}, ("x",)),
        lambda: store.record_epoch(old, row(1), files(1), {}, ()),
        lambda: store.succeed(old, StopReason.MAX_EPOCHS, EVALUATION),
        lambda: store.fail(old, BROKEN),
        lambda: store.crash(old, BROKEN),
        lambda: store.give_back(old),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert (store.job(job_id), store.events(job_id)) == before
    assert store.still_held([old, new]) == {new: False}


def test_only_a_lease_whose_beat_stands_still_expires(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    lease = claimed(store).lease
    (seen,) = store.beats()
    store.heartbeat("worker-1", [lease])
    assert not store.expire(seen, 30)
    (seen,) = store.beats()
    assert store.expire(seen, 30)
    job = store.job(job_id)
    assert job.status is JobStatus.QUEUED
    assert job.error is not None
    assert job.error.type == "lease_expired"
    assert [attempt.outcome for attempt in store.attempts(job_id)] == ["lease_expired"]


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_can_be_cancelled_while_it_is_not_final(store: JobStore, status: str) -> None:
    job_id = store.submit(JobSpec())[0].id
    lease = claimed(store).lease if status == "running" else None
    assert store.cancel(job_id).status is JobStatus.CANCELLED
    assert lease is None or store.still_held([lease]) == {}
    with pytest.raises(IllegalTransition, match="is cancelled; 'cancel' takes a job that is queued or running"):
        store.cancel(job_id)


def test_only_a_retry_leaves_a_final_status() -> None:
    final = {status for status in JobStatus if status.final}
    assert [name for name, transition in TRANSITIONS.items() if final & set(transition.sources)] == ["retry"]


def test_name_tags_and_priority_can_be_changed_but_no_priority_of_a_running_job(store: JobStore) -> None:
    job_id = store.submit(JobSpec(name="a", tags=("x",)))[0].id
    job = store.update(job_id, {"name": None, "tags": ("y", "z"), "priority": 3})
    assert (job.name, job.tags, job.priority) == (None, ("y", "z"), 3)
    claimed(store)
    with pytest.raises(IllegalTransition, match="running"):
        store.update(job_id, {"priority": 4})
    assert store.update(job_id, {"name": "b"}).tags == ("y", "z")


def test_a_final_job_can_be_deleted_and_is_then_unknown(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    with pytest.raises(IllegalTransition, match="queued; 'delete' takes"):
        store.delete(job_id)
    store.cancel(job_id)
    store.delete(job_id)
    for ask in (store.job, store.events, store.checkpoints, store.evaluation, store.delete, store.cancel):
        with pytest.raises(JobNotFound):
            ask(job_id)


def test_the_same_key_gives_the_same_job_and_another_body_is_refused(store: JobStore) -> None:
    job, _ = store.submit(JobSpec(), "key")
    assert store.submit(JobSpec(), "key") == (job, True)
    with pytest.raises(IdempotencyConflict, match=job.id):
        store.submit(JobSpec(seed=1), "key")
    assert len(store.list_jobs(Filters(), Sorting(), 10, None).data) == 1


def test_twenty_at_once_with_one_key_make_one_job(store: JobStore) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: store.submit(JobSpec(), "key")[0].id, range(20)))
    assert len(set(made)) == 1


def test_four_workers_at_once_claim_each_job_once(store: JobStore) -> None:
    submitted = {store.submit(JobSpec())[0].id for _ in range(60)}

    def claim_all(worker_id: str) -> list[str]:
        found = []
        while (claim := store.claim(worker_id)) is not None or store.list_jobs(
            Filters(status=(JobStatus.QUEUED,)), Sorting(), 1, None
        ).data:
            found += [claim.lease.job_id] if claim else []
        return found

    with ThreadPoolExecutor(4) as pool:
        found = [job_id for part in pool.map(claim_all, "abcd") for job_id in part]
    assert sorted(found) == sorted(submitted)


def test_a_child_needs_a_parent_with_weights(store: JobStore) -> None:
    parent = store.submit(JobSpec())[0].id
    child = JobSpec(init_from=InitFromSpec(job=parent))
    with pytest.raises(UnusableParent, match="no checkpoint"):
        store.submit(child)
    lease = claimed(store).lease
    store.record_epoch(lease, row(1), files(1), {}, ())
    store.submit(child)
    claim = claimed(store)
    assert claim.parent is not None
    assert claim.parent.key == f"job/1-1-{BEST}"


def test_a_parent_knows_its_children_and_is_kept_while_they_need_it(store: JobStore) -> None:
    parent = store.submit(JobSpec())[0].id
    lease = claimed(store).lease
    store.record_epoch(lease, row(1), files(1), {}, ())
    store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    children = tuple(store.submit(JobSpec(init_from=InitFromSpec(job=parent)))[0].id for _ in range(2))
    assert store.job(parent).children == children
    assert [store.job(child).parent for child in children] == [parent, parent]
    with pytest.raises(ParentInUse, match=f"{children[0]}, {children[1]} start from its weights"):
        store.delete(parent)
    store.cancel(children[0])
    with pytest.raises(ParentInUse):
        store.delete(parent)
    store.delete(parent, force=True)
    assert store.job(children[1]).parent == parent, "where it came from stays known"


def test_a_database_of_the_first_version_is_migrated_with_its_data(database_url: str) -> None:
    with first_version(database_url) as connection:
        spec = JobSpec(init_from=InitFromSpec(job="0193a5b0-0000-7000-8000-000000000001"))
        columns = {"priority": 0, "dataset": "mnist", "model_kind": "mlp", "max_epochs": 50, "max_attempts": 3}
        counts = dict.fromkeys(("attempt", "crashes", "beat", "last_event", "last_line", "epoch", "train_seconds"), 0)
        times = {"created_at": datetime.now(UTC)}
        job = {"id": "a", "status": "queued", "spec": spec.model_dump_json(), **columns, **counts, **times}
        names = ", ".join(job)
        connection.execute(sa.text(f"INSERT INTO jobs ({names}) VALUES (:{', :'.join(job)})"), job)
    store = JobStore(database_url)
    store.migrate()
    assert (store.job("a").spec, store.job("a").parent) == (spec, "0193a5b0-0000-7000-8000-000000000001")
    assert claimed(store).lease.job_id == "a"
    store.close()


@contextmanager
def first_version(database_url: str) -> Iterator[sa.Connection]:
    """A connection to a database as the first release left it."""
    config = Config()
    config.set_main_option("script_location", str(Path(app.migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    with sa.create_engine(database_url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        yield connection


def test_listing_filters_and_pages_through_all_jobs_once(store: JobStore) -> None:
    made = [
        store.submit(JobSpec(name=f"n{index}", tags=("even",) if index % 2 == 0 else ()))[0].id for index in range(7)
    ]
    listed, cursor = [], None
    while True:
        page = store.list_jobs(Filters(), Sorting(), 3, cursor)
        listed += [job.id for job in page.data]
        if (cursor := page.next) is None:
            break
    assert listed == made[::-1]
    even = store.list_jobs(Filters(tag=("even",)), Sorting(), 10, None).data
    assert [job.name for job in even] == ["n6", "n4", "n2", "n0"]
    assert [job.name for job in store.list_jobs(Filters(name="N3"), Sorting(), 10, None).data] == ["n3"]
    assert not store.list_jobs(Filters(name="%"), Sorting(), 10, None).data
    assert not store.list_jobs(Filters(dataset="digits"), Sorting(), 10, None).data


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sorting_by_val_loss_puts_jobs_without_one_last(store: JobStore, order: str) -> None:
    losses = [0.5, 0.2, 0.9]
    for loss in losses:
        store.submit(JobSpec())
        store.record_epoch(claimed(store).lease, row(1, loss), files(1), {}, ())
    for _ in range(2):
        store.submit(JobSpec())
    sorting = Sorting("val_loss", order)  # type: ignore[arg-type]
    found, cursor = [], None
    while True:
        page = store.list_jobs(Filters(), sorting, 2, cursor)
        found += [job.best.val_loss if job.best else None for job in page.data]
        if (cursor := page.next) is None:
            break
    assert found == [*sorted(losses, reverse=order == "desc"), None, None]


@pytest.mark.parametrize("cursor", ["", "x", "🚂", "W10", "eyJhIjoxfQ", "bnVsbA", "WzEsMiwzLDRd", "[" * 900])
def test_a_malformed_cursor_is_refused(store: JobStore, cursor: str) -> None:
    with pytest.raises(InvalidCursor, match="not a cursor"):
        store.list_jobs(Filters(), Sorting(), 10, cursor)


def test_a_cursor_of_another_order_is_refused(store: JobStore) -> None:
    for _ in range(2):
        store.submit(JobSpec())
    cursor = store.list_jobs(Filters(), Sorting(), 1, None).next
    with pytest.raises(InvalidCursor):
        store.list_jobs(Filters(), Sorting("val_loss", "asc"), 1, cursor)


def test_what_is_not_there_yet_is_told_apart_from_an_unknown_job(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    with pytest.raises(NotRecorded, match="queued"):
        store.evaluation(job_id)
    with pytest.raises(NotRecorded, match="no checkpoint"):
        store.checkpoint(job_id, BEST)
    assert store.epochs(job_id) == []


def test_a_worker_is_live_then_silent_or_stopped(store: JobStore) -> None:
    store.register_worker(worker())
    store.submit(JobSpec())
    job_id = claimed(store).lease.job_id
    (state,) = store.workers(lease_seconds=30)
    assert (state.status, state.running, state.versions) == ("live", (job_id,), {"torch": "2"})
    assert store.workers(lease_seconds=0)[0].status == "silent"
    store.deregister_worker("worker-1")
    assert store.workers(lease_seconds=30)[0].status == "stopped"


def test_text_of_a_crashed_program_may_hold_anything(store: JobStore) -> None:
    job_id = store.submit(JobSpec())[0].id
    lease = claimed(store).lease
    store.record_event(lease, "warning", {"message": "\ud83d"}, ("a\x00b", "half \ud83d", ""))
    store.fail(lease, JobError(type="ValueError", message="nul \x00 in it"))
    assert [line.text for line in store.lines(job_id)] == ["a\N{REPLACEMENT CHARACTER}b", "half ?", ""]
    assert "warning" in types(store, job_id)


def test_migrating_again_changes_nothing(store: JobStore, database_url: str) -> None:
    job_id = store.submit(JobSpec())[0].id
    other = JobStore(database_url)
    other.migrate()
    assert other.job(job_id) == store.job(job_id)
    other.close()
