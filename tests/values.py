"""Values that tests of the store and of the routes are made of."""

from __future__ import annotations

from app.artifacts import Artifact
from app.jobs import Claim, Runtime, Worker
from app.specs import BEST, LAST, ClassFigures, EpochRow, Evaluation
from app.store import JobStore

RUNTIME = Runtime(device="cpu", device_name="a CPU", threads=1, precision="fp32", parameters=10, torch="2.9.1")
EVALUATION = Evaluation(
    samples=10,
    loss=0.5,
    accuracy=0.9,
    precision=0.91,
    recall=0.9,
    f1=0.9,
    per_class=(ClassFigures(label=0, name="0", precision=0.91, recall=0.9, f1=0.9, support=10),),
    confusion_matrix=((9, 1), (0, 0)),
)


def worker(worker_id: str = "worker-1") -> Worker:
    """A worker's introduction."""
    return Worker(id=worker_id, host="h", pid=1, device="cpu", device_name="a CPU", slots=1, versions={"torch": "2"})


def row(epoch: int, val_loss: float = 0.5) -> EpochRow:
    """An epoch row."""
    return EpochRow(
        epoch=epoch,
        train_loss=0.6,
        train_acc=0.8,
        val_loss=val_loss,
        val_acc=0.85,
        lr=0.001,
        seconds=2.0,
        samples_per_second=1000.0,
    )


def files(epoch: int, *names: str) -> dict[str, Artifact]:
    """What the artifact store says of files that were written after an epoch."""
    return {name: Artifact(f"job/1-{epoch}-{name}", 100, f"{epoch:064x}") for name in names or (BEST, LAST)}


def claimed(store: JobStore, worker_id: str = "worker-1") -> Claim:
    """The next job, claimed."""
    found = store.claim(worker_id)
    assert found is not None
    return found
