"""The two checkpoint files: `best_model.pth`, to use, and `last.pth`, to go on from.

Both hold tensors, numbers and strings only, and are read with `torch.load(weights_only=True)`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from app.specs import JobSpec
from app.specs.stopping import Stopping
from worker.training.data import Data
from worker.training.models import Classifier, LinearProbe, build_net
from worker.training.trainer import Training

MODEL_FORMAT = "whistlestop.model/1"
STATE_FORMAT = "whistlestop.state/1"


class BadCheckpoint(ValueError):
    """The file is not a checkpoint of ours, or is not for this job."""


class LoadedModel(Classifier):
    """A trained classifier with where it came from."""

    def __init__(self, content: dict[str, Any]) -> None:
        channels, height, width = content["input_shape"]
        spec, classes = JobSpec.model_validate_json(content["spec"]), tuple(content["classes"])
        unit = torch.ones(channels)  # the file's own normalisation takes its place
        super().__init__(build_net(spec.model, (channels, height, width), len(classes)), unit, unit)
        self.load_state_dict(content["state_dict"])
        self.spec: JobSpec = spec
        self.classes: tuple[str, ...] = classes
        self.epoch: int = content["epoch"]
        self.val_loss: float = content["val_loss"]


def save_model(out: IO[bytes], training: Training, data: Data, spec: JobSpec, val_loss: float) -> None:
    """Write `best_model.pth`: the weights and all that it takes to build the network again."""
    content = {
        "format": MODEL_FORMAT,
        "spec": spec.model_dump_json(),
        "input_shape": list(data.shape),
        "classes": list(data.classes),
        "epoch": training.stopping.epoch,
        "val_loss": val_loss,
        "state_dict": training.result.state_dict(),
    }
    torch.save(content, out)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """The classifier of a `best_model.pth`, in evaluation mode: `load_model(path).predict(images)`.

    The network is built from the spec inside the file; nothing else is needed. `images` are `[N, C, H, W] uint8` of
    the shape that it was trained on. Raises BadCheckpoint, OSError.
    """
    return LoadedModel(_load(path, MODEL_FORMAT, "cpu")).to(device).eval()


def save_state(out: IO[bytes], training: Training, spec: JobSpec) -> None:
    """Write `last.pth`: everything that the next epoch depends on. Randomness is a function of (seed, epoch)."""
    scheduler = training.schedule.scheduler
    content = {
        "format": STATE_FORMAT,
        "spec": spec.model_dump_json(),
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler else None,
        "average": training.average.state_dict() if training.average else None,
        "stopping": asdict(training.stopping),
        "seconds": training.seconds,
        "threads": torch.get_num_threads(),
    }
    torch.save(content, out)


def load_state(path: Path, training: Training, spec: JobSpec, device: torch.device) -> None:
    """Put the state of a `last.pth` into a freshly started `training`. Raises BadCheckpoint, OSError."""
    content = _load(path, STATE_FORMAT, device)
    if JobSpec.model_validate_json(content["spec"]) != spec:
        raise BadCheckpoint(f"{path} is the state of a job with another spec.")
    training.model.load_state_dict(content["model"])
    training.optimizer.load_state_dict(content["optimizer"])
    if training.schedule.scheduler is not None:
        training.schedule.scheduler.load_state_dict(content["scheduler"])
    if training.average is not None:
        training.average.load_state_dict(content["average"])
    training.stopping = Stopping(**content["stopping"])
    training.seconds = content["seconds"]
    # A sum over two threads has other last bits than one over four: the worker's slots must not show in the weights.
    torch.set_num_threads(content["threads"])


def init_from_parent(path: Path, model: Classifier, head: frozenset[str]) -> None:
    """Fine-tuning: take the parent's weights; a `head` (names) for another number of classes keeps its fresh weights.

    Raises BadCheckpoint where the networks do not fit.
    """
    theirs: dict[str, Tensor] = _load(path, MODEL_FORMAT, "cpu")["state_dict"]
    if isinstance(model.net, LinearProbe) and not any(name.startswith("net.backbone.") for name in theirs):
        theirs = {name.replace("net.", "net.backbone.", 1): weight for name, weight in theirs.items()}
    hint = "Give the job the same `model` and image shape as its parent."
    _take(theirs, model, head, hint)


def init_from_pretrained(path: Path, model: Classifier, head: frozenset[str]) -> None:
    """Fine-tuning: take torchvision's weights, all but those of a `head` for another number of classes.

    Raises BadCheckpoint where the file is damaged or of another network.
    """
    theirs = {f"net.net.{name}": weight for name, weight in _read(path, "cpu").items()}
    _take(theirs, model, head, f"Delete {path.name} to have it fetched again.")


def _take(theirs: dict[str, Tensor], model: Classifier, head: frozenset[str], hint: str) -> None:
    # The child normalises by its own data.
    ours = {name: weight for name, weight in model.state_dict().items() if name not in ("scale", "shift")}
    misfits = [
        f"{name}: {tuple(ours[name].shape)} here, {tuple(theirs[name].shape) if name in theirs else 'absent'} there"
        for name in ours
        if name not in head and (name not in theirs or theirs[name].shape != ours[name].shape)
    ]
    if misfits:
        raise BadCheckpoint(f"The weights of init_from do not fit this model ({'; '.join(misfits[:3])}). {hint}")
    for name, weight in ours.items():
        if name in theirs and theirs[name].shape == weight.shape:
            weight.copy_(theirs[name])


def _load(path: str | Path, expected: str, device: str | torch.device) -> dict[str, Any]:
    content = _read(path, device)
    found = content.get("format") if isinstance(content, dict) else None
    if found != expected:
        raise BadCheckpoint(f"{path} is of format {found!r}, expected {expected!r}.")
    return content  # type: ignore[no-any-return]


def _read(path: str | Path, device: str | torch.device) -> Any:
    with Path(path).open("rb") as file:
        try:
            return torch.load(file, map_location=device, weights_only=True)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadCheckpoint(f"{path} is damaged or no checkpoint: {reason}") from error
