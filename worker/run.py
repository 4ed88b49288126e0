"""A training child: from a claimed job to data, model and trainer. What comes of it goes up the pipe.

It writes files of weights and nothing else: the store is the worker's.
"""

from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TypeVar

import torch

from app.artifacts import Artifact, ArtifactStore, sha256_of
from app.imagefolder import find_images
from app.jobs import Checkpoint, JobError, Runtime
from app.prepared import prepared_file
from app.specs import BEST, LAST, JobSpec, TorchvisionSpec
from worker import console, sources
from worker.failures import failure
from worker.imagefolder import read_images
from worker.messages import (
    Assignment,
    Failed,
    Happened,
    Machine,
    Message,
    Places,
    Started,
    Succeeded,
    Yield,
)
from worker.recorder import Content, Recorder, in_memory
from worker.tracking import Tracker
from worker.training import checkpoint, data, memory, prepare
from worker.training.device import DeviceUnavailable, choose_device, choose_precision, choose_threads, device_name
from worker.training.evaluate import evaluate
from worker.training.export import CannotExport, to_onnx, to_safetensors
from worker.training.models import Classifier, build_net, head_names, pretrained_url
from worker.training.probe import fit_probe
from worker.training.trainer import Epoch, Training, seed_of, start, train_model, why_stop

FULL_DISK_PAUSE = 5.0
_NICE = 5
_PROGRESS_PAUSE = 0.4

T = TypeVar("T")


def probe(connection: Connection, device: str) -> None:
    """The life of a child without a job: warms the forkserver up and says what jobs will run on."""
    try:
        chosen = choose_device(device)
        connection.send(Machine(str(chosen), device_name(chosen), str(torch.__version__)))
    except DeviceUnavailable as error:
        connection.send(Failed(JobError(type="device_unavailable", message=str(error)), passing=False))


def main(connection: Connection, assignment: Assignment) -> None:
    """The life of a child: train the job, say how it went, exit. Does not return."""
    # Where cores are few, a call of the API need not wait for a training's time slice to end.
    os.nice(_NICE)
    memory.keep_freed()
    line = _Line(connection)
    if assignment.claim.stop_requested:
        line.stop_requested.set()
    threading.Thread(target=line.listen, daemon=True).start()
    try:
        line.say(_train(assignment, line))
    except Exception as error:  # noqa: BLE001  (whatever a job does wrong ends this process and becomes its error)
        line.say(failure(error))
    # Not sys.exit: a library's thread (W&B's, a host lookup that hangs) must not keep a finished child alive.
    os._exit(0)


class _Line:
    """The pipe to the worker, shared by the threads of this process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.best_key = ""
        self.stop_requested = threading.Event()
        self.bookkeeping = threading.Lock()  # held while an epoch's files and row belong together
        self._sending = threading.Lock()

    def say(self, message: Message) -> None:
        with self._sending:
            self.connection.send(message)

    def warn(self, text: str) -> None:
        self.say(Happened("warning", {"message": text}, (f"warning: {text}",)))

    def listen(self) -> None:
        """Exit at once when the worker is gone; when it shuts down, as soon as no bookkeeping is half done."""
        try:
            while not isinstance(self.connection.recv(), Yield):
                self.stop_requested.set()
        except (EOFError, OSError):
            os._exit(1)
        self.bookkeeping.acquire()
        self._sending.acquire()
        os._exit(0)


def _train(assignment: Assignment, line: _Line) -> Succeeded:
    claim, places = assignment.claim, assignment.places
    spec, lease = claim.spec, claim.lease
    device = choose_device(assignment.device)
    precision = choose_precision(spec, device)
    torch.set_num_threads(1)
    # Equal specs give equal weights, to the last bit (docs.pytorch.org/docs/stable/notes/randomness.html).
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, less a second of imports
    # Else every new tensor is filled first, a twentieth of an epoch; nothing here reads what nobody has written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    artifacts = ArtifactStore(places.checkpoints)
    dataset = _data(spec, places, device, line)
    torch.manual_seed(seed_of(spec.seed, 0))
    model = Classifier(build_net(spec.model, dataset.shape, len(dataset.classes)), dataset.mean, dataset.std)
    if (origin := spec.init_from) is not None:
        head = head_names(spec.model, dataset.shape, len(dataset.classes))
        if origin.job is not None:
            path = _verified(artifacts, claim.parent, f"The checkpoint of job {origin.job}")
            checkpoint.init_from_parent(path, model, head)
        else:
            checkpoint.init_from_pretrained(_pretrained(spec, places, line), model, head)
    torch.set_num_threads(choose_threads(spec, dataset.shape, len(dataset.classes), assignment.cores))
    training = start(model.to(device), dataset, spec)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    best = claim.checkpoints.get(BEST)
    line.best_key = best.key if best else ""
    if LAST in claim.checkpoints:
        path = _verified(artifacts, claim.checkpoints[LAST], "The state that earlier attempts left")
        checkpoint.load_state(path, training, spec, device)
        epoch = training.stopping.epoch
        line.say(Happened("resumed", {"epoch": epoch}, (f"resumed behind epoch {epoch}",)))
    runtime = Runtime(
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        precision=precision,
        parameters=parameters,
        torch=str(torch.__version__),  # a TorchVersion would have the worker import torch
    )
    line.say(Started(runtime, (console.described(spec, runtime, dataset),)))
    tracker = _tracker(assignment, line)

    put = functools.partial(_put, artifacts, lease.job_id, lease.attempt, line)
    recorder = Recorder(put, line.bookkeeping)
    train = fit_probe if spec.model.kind == "linear_probe" else train_model
    stopped = line.stop_requested.is_set
    reason = why_stop(training, spec, stopped) if training.stopping.epoch else None
    for done in train(training, dataset, spec, precision=precision, stopped=stopped):
        reason = done.stop_reason
        tell = functools.partial(_tell, line, tracker, done, spec)
        recorder.record(done.row.epoch, _content(training, dataset, spec, done), tell)
    recorder.finish()

    if reason is None:
        raise RuntimeError("training ended without a reason")
    best_model = checkpoint.load_model(artifacts.path(line.best_key), device)
    evaluation = evaluate(best_model, dataset)
    exports = _export(best_model, dataset.shape, functools.partial(put, epoch=best_model.epoch), line)
    if tracker is not None:
        tracker.finish(evaluation, reason)
    return Succeeded(reason, evaluation, console.summary(training.stopping, reason, evaluation), exports)


# --- data and files ------------------------------------------------------------------------------------------


def _data(spec: JobSpec, places: Places, device: torch.device, line: _Line) -> data.Data:
    progress = _progress(f"downloading {spec.dataset.name}", line)

    def fetch(name: str) -> Path:
        return sources.fetch(name, places.raw, places.datasets, progress)

    def prepared() -> Path:
        name = spec.dataset.name
        images = find_images(name, places.raw)
        own = prepare.Own(images, read_images) if images else None
        return prepare.prepare(name, places.raw, own, prepared_file(places.datasets, name), fetch)

    path = _while_disk_is_full(line, prepared)
    return _while_disk_is_full(line, lambda: data.load(path, spec.dataset, device))


def _pretrained(spec: JobSpec, places: Places, line: _Line) -> Path:
    model, origin = spec.model, spec.init_from
    assert isinstance(model, TorchvisionSpec)
    assert origin is not None
    assert origin.pretrained is not None
    url = pretrained_url(model.name, origin.pretrained)
    progress = _progress("downloading weights", line)
    folders = [folder / "pretrained" for folder in places.raw]
    return _while_disk_is_full(line, lambda: sources.fetch_file(url, folders, places.datasets / "pretrained", progress))


def _progress(what: str, line: _Line) -> sources.Progress:
    last_source, last_time = "", 0.0

    def progress(source: str, received: int, expected: int | None) -> None:
        nonlocal last_source, last_time
        new, now = source != last_source, time.monotonic()
        if new or now - last_time > _PROGRESS_PAUSE or received == expected:
            last_source, last_time = source, now
            text = (f"{what} from {source}",) if new else ()
            line.say(Happened("data", {"source": source, "received": received, "expected": expected}, text))

    return progress


def _content(training: Training, dataset: data.Data, spec: JobSpec, done: Epoch) -> Content:
    files: Content = {}
    if done.stopping.improved:
        val_loss = done.row.val_loss
        files[BEST] = in_memory(lambda out: checkpoint.save_model(out, training, dataset, spec, val_loss))
    files[LAST] = in_memory(lambda out: checkpoint.save_state(out, training, spec))
    return files


def _export(
    model: checkpoint.LoadedModel,
    shape: tuple[int, int, int],
    put: Callable[..., Artifact],
    line: _Line,
) -> dict[str, Artifact]:
    stem = BEST.removesuffix(".pth")
    files = {f"{stem}.safetensors": put(f"{stem}.safetensors", content=to_safetensors(model, shape))}
    try:
        files[f"{stem}.onnx"] = put(f"{stem}.onnx", content=to_onnx(model, shape))
    except CannotExport as error:
        line.warn(f"The weights are not there as ONNX: {error}")
    return files


def _tell(line: _Line, tracker: Tracker | None, done: Epoch, spec: JobSpec, files: Mapping[str, Artifact]) -> None:
    line.say(console.told(done, files, spec))
    if BEST in files:
        line.best_key = files[BEST].key
    if tracker is not None:
        tracker.log(done.row)


def _put(
    artifacts: ArtifactStore, job_id: str, attempt: int, line: _Line, name: str, epoch: int, content: memoryview | bytes
) -> Artifact:
    def write(out: IO[bytes]) -> None:
        out.write(content)

    return _while_disk_is_full(line, lambda: artifacts.put(job_id, attempt, epoch, name, write))


def _while_disk_is_full(line: _Line, write: Callable[[], T]) -> T:
    """What `write` returns, tried again for as long as the disk is full: space comes back, lost epochs do not."""
    warned = False
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not warned:
                line.warn(f"The disk is full ({error.strerror}); training waits until there is space. Nothing is lost.")
                warned = True
        time.sleep(FULL_DISK_PAUSE)


def _verified(artifacts: ArtifactStore, recorded: Checkpoint | None, what: str) -> Path:
    """The path of a recorded file that is as it was written. Raises BadCheckpoint."""
    if recorded is None:
        raise checkpoint.BadCheckpoint(f"{what} is gone: the job that it belonged to was deleted.")
    path = artifacts.path(recorded.key)
    try:
        found = sha256_of(path)
    except FileNotFoundError as error:
        raise checkpoint.BadCheckpoint(f"{what} is gone from {path}. Restore it, or submit the job again.") from error
    if found != recorded.sha256:
        raise checkpoint.BadCheckpoint(
            f"{what} is damaged: {path} has sha256 {found}, expected {recorded.sha256}. "
            "Restore it, or submit the job again."
        )
    return path


def _tracker(assignment: Assignment, line: _Line) -> Tracker | None:
    spec = assignment.claim.spec
    wandb = spec.tracking.wandb if spec.tracking else None
    if wandb is None or wandb.mode == "disabled":
        return None
    return Tracker(assignment.claim.lease.job_id, spec, wandb, assignment.places.wandb, line.warn)
