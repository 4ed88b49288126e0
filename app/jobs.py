"""The values that the store hands out and takes: jobs and what belongs to them. They are never database rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.specs import Evaluation, JobSpec, StopReason


def storable(text: str) -> str:
    """The text, with what no database holds replaced: NUL and halves of surrogate pairs. A crash may print such."""
    return text.encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


class JobStatus(StrEnum):
    """Where a job is. The last three are final; an early stop is a success."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Record(BaseModel):
    """A frozen value that came out of the store."""

    model_config = ConfigDict(frozen=True)


class Progress(Record):
    """How far training is."""

    epoch: int = Field(description="Epochs finished.", examples=[12])
    max_epochs: int = Field(description="Most epochs to train.", examples=[50])
    percent: float = Field(
        description="Share of `max_epochs`, of 100; 100 when succeeded, however early.", examples=[24.0]
    )
    eta_seconds: float | None = Field(
        description="Seconds to the last epoch at the pace so far: an upper bound, since early stopping may "
        "come first. null when not running.",
        examples=[27.4],
    )


class Best(Record):
    """The epoch with the lowest validation loss."""

    epoch: int = Field(description="Its number.", examples=[11])
    val_loss: float = Field(description="Its validation loss.", examples=[0.0791])
    val_acc: float = Field(description="Its validation accuracy.", examples=[0.9768])


class JobError(Record):
    """Why an attempt or a job failed."""

    type: str = Field(description="A word for programs.", examples=["diverged"])
    message: str = Field(description="A sentence for people.", examples=["train_loss is nan in epoch 3"])

    @field_validator("message")
    @classmethod
    def _without_nul(cls, message: str) -> str:
        return storable(message)


class Runtime(Record):
    """What an attempt ran on, recorded because bit-identical results are promised for the same device."""

    device: str = Field(description="Device.", examples=["cpu"])
    device_name: str = Field(description="Its model name.", examples=["NVIDIA H100"])
    threads: int = Field(description="CPU threads; they follow from spec and device.", examples=[1])
    precision: str = Field(description="Number format of the forward pass.", examples=["fp32"])
    parameters: int = Field(description="Trainable parameters.", examples=[109386])
    torch: str = Field(description="Version of PyTorch.", examples=["2.9.1"])


class Attempt(Record):
    """One run of a job by one worker."""

    number: int = Field(description="From 1.", examples=[1])
    worker_id: str = Field(description="The worker.")
    started_at: datetime = Field(description="Start.")
    ended_at: datetime | None = Field(description="End; null while it runs.")
    outcome: str | None = Field(
        description="succeeded, failed, cancelled, crashed, lease_expired or given_back; null while it runs.",
        examples=["succeeded"],
    )
    error: JobError | None = Field(description="What went wrong, if anything did.")
    runtime: Runtime | None = Field(description="What it ran on; null until training begins.")


class Job(Record):
    """A stored spec with a status and a history."""

    id: str = Field(description="UUIDv7: ids sort by time.", examples=["0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"])
    name: str | None = Field(description="Name; may be changed.", examples=["ex1-mlp-mnist"])
    tags: tuple[str, ...] = Field(description="Tags; may be changed.", examples=[["lab1"]])
    status: JobStatus = Field(description="queued, running, paused, succeeded, failed or cancelled.")
    stop_reason: StopReason | None = Field(description="Why training ended; null until it has.")
    priority: int = Field(description="Higher runs first; may be changed while queued.", examples=[0])
    progress: Progress = Field(description="How far training is.")
    best: Best | None = Field(description="The epoch with the lowest val_loss; null before the first.")
    evaluation: Evaluation | None = Field(description="The best weights on the test split; null until then.")
    error: JobError | None = Field(description="Why the job failed, or why its last attempt did.")
    attempt: int = Field(description="Number of the current or last attempt; 0 before the first.", examples=[1])
    max_attempts: int = Field(description="Attempts that may end in a crash.", examples=[3])
    runtime: Runtime | None = Field(description="What the current or last attempt runs on.")
    queue_position: int | None = Field(description="1 is next; null when not queued.", examples=[1])
    parent: str | None = Field(description="Id of the job whose weights it starts from (`init_from`).", examples=[None])
    children: tuple[str, ...] = Field(description="Ids of the jobs that start from its weights.", examples=[[]])
    created_at: datetime = Field(description="When it was submitted.")
    stop_requested: bool = Field(description="Whether it is to stop after the running epoch.", examples=[False])
    not_before: datetime | None = Field(description="It does not start before; null: as soon as a slot is free.")
    started_at: datetime | None = Field(description="When its first attempt began.")
    finished_at: datetime | None = Field(description="When it reached a final status.")
    spec: JobSpec = Field(description="What was asked for, fully resolved.")


class Event(Record):
    """Something that happened to a job."""

    job_id: str = Field(description="To which job.", examples=["0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"])
    serial: int = Field(description="Rises over all jobs, in the order in which things were recorded.", examples=[1])
    number: int = Field(description="From 1, without gaps, per job.", examples=[1])
    type: str = Field(description="queued, started, training, epoch, checkpoint, early_stop, ...", examples=["epoch"])
    time: datetime = Field(description="When.")
    attempt: int = Field(description="In which attempt; 0 before the first.", examples=[1])
    data: dict[str, Any] = Field(description="What the type needs.")


class LogLine(Record):
    """One line of a run's console."""

    number: int = Field(description="From 1, per job.", examples=[1])
    time: datetime = Field(description="When.")
    attempt: int = Field(description="In which attempt.", examples=[1])
    text: str = Field(description="The line.")


class Checkpoint(Record):
    """A file of weights that is complete and can be downloaded."""

    name: str = Field(description="best_model.pth or last.pth.", examples=["best_model.pth"])
    size: int = Field(description="Bytes.", examples=[441872])
    sha256: str = Field(description="Digest of the file, in hexadecimal.")
    epoch: int = Field(description="The epoch after which it was written.", examples=[11])
    val_loss: float = Field(description="Validation loss of that epoch.", examples=[0.0791])
    created_at: datetime = Field(description="When it was recorded.")
    key: str = Field("", exclude=True, description="Where the artifact store has it; not told to anybody.")


class Worker(Record):
    """A process that trains."""

    id: str = Field(description="Id of this run of the worker.")
    host: str = Field(description="Host name.")
    pid: int = Field(description="Process id.")
    device: str = Field(description="Device.", examples=["cpu"])
    device_name: str = Field(description="Its model name.")
    slots: int = Field(description="Jobs at a time.", examples=[1])
    versions: dict[str, str] = Field(description="Versions of whistlestop, python and torch.")


class Usage(Record):
    """What a worker and its training processes take of the machine, in bytes and in percent of all cores."""

    cpu_percent: float = Field(description="CPU time since the heartbeat before.", examples=[48.5])
    memory: int = Field(description="Resident memory.", examples=[734003200])
    memory_total: int = Field(description="Memory of the machine.", examples=[25769803776])
    gpu_percent: float | None = Field(None, description="Utilisation of the GPU, by anybody; null: there is none.")
    gpu_memory: int | None = Field(None, description="Memory in use on the GPU, by anybody.")
    gpu_memory_total: int | None = Field(None, description="Memory of the GPU.")


class WorkerState(Worker):
    """A worker as the service sees it."""

    status: Literal["live", "silent", "stopped"] = Field(
        description="live; silent: no heartbeat for longer than a lease; stopped: it said goodbye."
    )
    running: tuple[str, ...] = Field(description="Ids of the jobs that it runs now.")
    started_at: datetime = Field(description="When it registered.")
    heartbeat_at: datetime = Field(description="When it was last heard of.")
    usage: Usage | None = Field(description="What it took then; null before the second heartbeat.")


Scope = Literal["read", "submit", "admin"]


class ApiKey(Record):
    """Who may call, where the door is locked."""

    id: str = Field(description="Id.")
    name: str = Field(description="Name.", examples=["lab"])
    scopes: tuple[Scope, ...] = Field(
        description="`read`: look at everything. `submit`: submit jobs, and act on own ones. `admin`: everything."
    )
    max_jobs: int | None = Field(description="Jobs that may be under way at a time; null: no limit.", examples=[10])
    created_at: datetime = Field(description="When it was made.")
    revoked_at: datetime | None = Field(description="When it was revoked; null: it is valid.")


@dataclass(frozen=True)
class Figures:
    """Counts for monitoring: jobs by status, and counters that only rise."""

    statuses: Mapping[str, int]
    oldest_wait_seconds: float
    counters: Mapping[str, int]


class NotYours(Exception):
    """A key that is no admin's acts on its own jobs only."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job {job_id} was submitted with another key; only that one or an admin's may change it.")


@dataclass(frozen=True)
class Delivery:
    """A webhook that is to be called, for the `tries`-th time."""

    id: str
    job_id: str
    url: str
    body: str
    tries: int


@dataclass(frozen=True)
class Lease:
    """A worker's right to write for (job, attempt). The store refuses a write whose token is not the job's own."""

    job_id: str
    attempt: int
    token: str


@dataclass(frozen=True)
class Claim:
    """A job that a worker has just taken, with the checkpoints that earlier attempts left. `parent` is that of
    `init_from`, None where it is gone."""

    lease: Lease
    spec: JobSpec
    checkpoints: Mapping[str, Checkpoint]
    parent: Checkpoint | None
    stop_requested: bool = False


@dataclass(frozen=True)
class Beat:
    """The pulse of a running job, for observers: a lease whose count stands still is a silent worker's."""

    lease: Lease
    count: int


@dataclass(frozen=True)
class Page:
    """A page of jobs and the cursor of the next one."""

    data: list[Job]
    next: str | None
