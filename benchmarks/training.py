"""One epoch of Exercise 1: the service beside a stock torchvision `DataLoader` loop, Lightning and a bare loop.

Each does the same work: 54,000 training images in batches of 128 with Adam, loss and accuracy of the epoch, then the
same over 6,000 validation images. The contestants take turns in one process, so that what else the machine does
falls on all of them; the median of each is compared.

- *stock*: `DataLoader` over torchvision's `MNIST` with `ToTensor` and `Normalize`, as in its tutorials.
- *Lightning*: the same loaders under its Trainer, without logger, bar and checkpoints, timed between its own hooks.
- *bare*: normalised float tensors in memory, indexed by hand; no service, no early stopping, no checkpoints.
- *everything on*: a job in a worker, from one epoch's event to the next; checkpoints, metrics, events and all.

Then: how an epoch's time grows with the images, and what a second job on the same data set adds in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from app.specs import JobSpec
from benchmarks import machine
from tests.e2e.service import Json, Service, children_of
from worker import sources
from worker.training import data, prepare
from worker.training.device import choose_threads
from worker.training.models import Classifier, build_net
from worker.training.trainer import start, train_model

ROUNDS = 7
SPEC = JobSpec.model_validate({"training": {"max_epochs": 1000}, "early_stopping": None})
Epoch = Callable[[], float]
Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]


def network() -> nn.Sequential:
    """Exercise 1's MLP, written by hand."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(64, 10),
    )


def service_epochs(dataset: data.Data) -> Epoch:
    """The service's own loop."""
    model = Classifier(build_net(SPEC.model, dataset.shape, len(dataset.classes)), dataset.mean, dataset.std)
    epochs: Iterator[object] = train_model(start(model, dataset, SPEC), dataset, SPEC)
    return lambda: _timed(lambda: next(epochs))


def loaders(root: Path, dataset: data.Data, workers: int) -> tuple[Loader, Loader]:
    """The loaders of torchvision's tutorials."""
    normalise = transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist())
    images = MNIST(root, transform=transforms.Compose([transforms.ToTensor(), normalise]))
    train = DataLoader(Subset(images, dataset.train.index.tolist()), 128, shuffle=True, num_workers=workers)
    return train, DataLoader(Subset(images, dataset.val.index.tolist()), 128, num_workers=workers)


def stock_epochs(root: Path, dataset: data.Data, workers: int) -> Epoch:
    """The loop of torchvision's tutorials."""
    train, val = loaders(root, dataset, workers)
    model = network()
    optimizer = torch.optim.Adam(model.parameters())

    def epoch() -> None:
        model.train()
        loss_sum, correct = 0.0, 0
        for x, y in train:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.item() * len(y)
            correct += int((logits.argmax(1) == y).sum().item())
        model.eval()
        with torch.no_grad():
            for x, y in val:
                logits = model(x)
                loss_sum += F.cross_entropy(logits, y).item() * len(y)
                correct += int((logits.argmax(1) == y).sum().item())

    return lambda: _timed(epoch)


class Exercise1(lightning.LightningModule):
    """Exercise 1 as Lightning has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.began, self.taken = 0.0, 0.0

    def _step(self, batch: list[torch.Tensor], split: str) -> torch.Tensor:
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log(f"{split}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{split}_acc", (logits.argmax(1) == y).float().mean(), on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: list[torch.Tensor], _index: int) -> None:
        self._step(batch, "val")

    def on_train_epoch_start(self) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self) -> None:  # the validation of an epoch is over by then
        self.taken = time.perf_counter() - self.began

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def lightning_epochs(root: Path, dataset: data.Data, workers: int) -> Epoch:
    """Lightning's Trainer."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    train, val = loaders(root, dataset, workers)
    model = Exercise1()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=0, num_sanity_val_steps=0, enable_checkpointing=False, **quiet
    )

    def epoch() -> float:
        trainer.fit_loop.max_epochs = (trainer.fit_loop.max_epochs or 0) + 1
        trainer.fit(model, train, val)
        return model.taken

    return epoch


def bare_epochs(dataset: data.Data) -> Epoch:
    """The least that trains this network."""
    x_all = (dataset.train.images.float() / 255 - dataset.mean) / dataset.std
    y_all, train, val = dataset.train.labels, dataset.train.index, dataset.val.index
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def epoch() -> None:
        model.train()
        loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for rows in train[torch.randperm(len(train))].split(128):
            y = y_all[rows]
            logits = model(x_all[rows])
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.detach() * len(y)
            correct += (logits.argmax(1) == y).sum()
        loss_sum.item(), correct.item()
        model.eval()
        with torch.inference_mode():
            logits, y = model(x_all[val]), y_all[val]
            F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).sum().item()

    return lambda: _timed(epoch)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def job_seconds(service: Service, spec: Json) -> list[float]:
    """Seconds from one epoch's event to the next, of a job in the service's worker."""
    job_id = service.submit({**spec, "early_stopping": None, "tracking": None})
    service.succeeded(job_id, 600)
    events = service.get(f"/jobs/{job_id}/events", limit=1000)["data"]
    times = [datetime.fromisoformat(event["time"]).timestamp() for event in events if event["type"] == "epoch"]
    return [after - before for before, after in itertools.pairwise(times)]


def contest(contestants: dict[str, tuple[int, Epoch]], rounds: int) -> dict[str, float]:
    """Median seconds of each contestant (threads, epoch); they take turns, and the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, (count, epoch) in contestants.items():
            torch.set_num_threads(count)
            taken = epoch()
            if turn:
                seconds[name].append(taken)
    for name, each in seconds.items():
        print(f"{name:<34} {statistics.median(each):6.3f} s (median of {rounds}, {min(each):.3f} to {max(each):.3f})")
    return {name: statistics.median(each) for name, each in seconds.items()}


def growth(dataset: data.Data, threads: int) -> None:
    """An epoch's time by the number of images."""
    sizes = (1_000, 5_000, 20_000, len(dataset.train))
    torch.set_num_threads(threads)
    print("images      seconds  microseconds an image")
    for size in sizes:
        part = dataclasses.replace(dataset.train, index=dataset.train.index[:size])
        val = dataclasses.replace(dataset.val, index=dataset.val.index[: size // 9])
        epoch = service_epochs(dataclasses.replace(dataset, train=part, val=val))
        taken = statistics.median([epoch() for _ in range(ROUNDS)])
        print(f"{size:>6,} {taken:12.4f} {1e6 * taken / size:12.1f}")


def memory(service: Service) -> None:
    """What each further job on the same data set takes: its own share of memory (USS), without the mapped file."""
    spec = {"training": {"max_epochs": 40}, "early_stopping": None, "tracking": None}
    jobs: list[str] = []
    for _ in range(2):
        jobs.append(service.submit(spec))
        service.reaches(jobs[-1], 2)
        training = [child.memory_full_info() for child in children_of(service.processes[-1])]
        print(
            f"{len(jobs)} jobs on MNIST (55 MB mapped): {sum(each.uss for each in training) / 1e6:.0f} MB of their "
            f"own, {sum(each.pss for each in training) / 1e6:.0f} MB with their share of what is shared"
        )
    for job_id in jobs:
        service.http.post(f"/jobs/{job_id}/cancel")


def main() -> None:
    """Measure and print."""
    print(f"## One epoch of Exercise 1\n{machine.described()}, PyTorch {torch.__version__}, CPU")
    with tempfile.TemporaryDirectory() as folder:
        found: list[Path] = []

        def fetch(name: str) -> Path:
            found.append(sources.fetch(name, (), Path(folder), lambda *_: None))
            return found[0]

        prepared = prepare.prepare("mnist", machine.raw_folders(), None, Path(folder) / "mnist.safetensors", fetch)
        dataset = data.load(prepared, SPEC.dataset, torch.device("cpu"))
        root = next(root for root in [*found, *machine.raw_folders()] if (root / "MNIST" / "raw").is_dir())
        cores = torch.get_num_threads()
        threads = choose_threads(SPEC, dataset.shape, len(dataset.classes), cores)
        seconds = contest(
            {
                "trainer, its own choice of threads": (threads, service_epochs(dataset)),
                "bare": (threads, bare_epochs(dataset)),
                "stock, num_workers=0": (cores, stock_epochs(root, dataset, 0)),
                "stock, num_workers=2": (cores, stock_epochs(root, dataset, 2)),
                "Lightning, num_workers=2": (cores, lightning_epochs(root, dataset, 2)),
                "trainer, 2 threads": (2, service_epochs(dataset)),
            },
            ROUNDS,
        )
        ours, bare, *stock, framework, two = seconds.values()
        print(f"the trainer is {min(stock) / ours:.1f} times as fast as the faster stock loop (aim: at least 6)")
        print(f"the trainer is {framework / ours:.1f} times as fast as Lightning (aim: at least 5)")
        print(f"the trainer takes {ours / bare:.2f} of the bare loop's time")
        print(f"two threads take {two / ours:.2f} of one thread's time")
        with machine.service(slots=2) as service:
            whole, alone = [], []
            epoch = bare_epochs(dataset)
            for _ in range(4):
                whole += job_seconds(service, {"training": {"max_epochs": 6}})
                torch.set_num_threads(threads)
                alone += [epoch() for _ in range(5)]
            ratio = statistics.median(whole) / statistics.median(alone)
            print(
                f"everything on: {statistics.median(whole):.3f} s from epoch to epoch, bare "
                f"{statistics.median(alone):.3f} s: {ratio:.2f} (aim: at most 1.08)"
            )
            memory(service)
        growth(dataset, threads)


if __name__ == "__main__":
    main()
