"""One epoch of Exercise 1: the service's trainer beside a stock torchvision `DataLoader` loop and a bare loop.

Each does the same work: 54,000 training images in batches of 128 with Adam, loss and accuracy of the epoch, then the
same over 6,000 validation images. The contestants take turns in one process, so that what else the machine does
falls on all of them; the median of each is compared.

- *stock*: `DataLoader` over torchvision's `MNIST` with `ToTensor` and `Normalize`, as in its tutorials.
- *bare*: normalised float tensors in memory, indexed by hand; no service, no early stopping, no checkpoints.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from app.specs import JobSpec
from benchmarks import machine
from worker import sources
from worker.training import data, prepare
from worker.training.device import choose_threads
from worker.training.models import Classifier, build_net
from worker.training.trainer import start, train_model

ROUNDS = 7
SPEC = JobSpec.model_validate({"training": {"max_epochs": 1000}, "early_stopping": None})
Epoch = Callable[[], float]


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


def stock_epochs(root: Path, dataset: data.Data, workers: int) -> Epoch:
    """The loop of torchvision's tutorials."""
    normalise = transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist())
    images = MNIST(root, transform=transforms.Compose([transforms.ToTensor(), normalise]))
    train = DataLoader(Subset(images, dataset.train.index.tolist()), 128, shuffle=True, num_workers=workers)
    val = DataLoader(Subset(images, dataset.val.index.tolist()), 128, num_workers=workers)
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
        threads = choose_threads(SPEC, dataset.shape, len(dataset.classes), torch.get_num_threads())
        contestants: dict[str, tuple[int, Epoch]] = {
            f"service, {threads} thread (its own choice)": (threads, service_epochs(dataset)),
            "bare": (threads, bare_epochs(dataset)),
            "stock, num_workers=0": (torch.get_num_threads(), stock_epochs(root, dataset, 0)),
            "stock, num_workers=2": (torch.get_num_threads(), stock_epochs(root, dataset, 2)),
            "service, 2 threads": (2, service_epochs(dataset)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(ROUNDS + 1):
            for name, (count, epoch) in contestants.items():
                torch.set_num_threads(count)
                taken = epoch()
                if turn:  # the first is for warming up
                    seconds[name].append(taken)
    ours, *others = (statistics.median(each) for each in seconds.values())
    for name, median in zip(seconds, (ours, *others), strict=True):
        print(f"{name:<34} {median:6.3f} s (median of {ROUNDS}, {min(seconds[name]):.3f} to {max(seconds[name]):.3f})")
    bare, *stock, two = others
    print(f"the service is {min(stock) / ours:.1f} times as fast as the faster stock loop (at least 6 is the aim)")
    print(f"the service takes {ours / bare:.2f} of the bare loop's time (at most 1.15 is the aim)")
    print(f"two threads take {two / ours:.2f} of one thread's time")


if __name__ == "__main__":
    main()
