"""Convolutional networks on the CPU: a step by number format and with another such job beside it, and an epoch of
ResNet-20 beside a stock `DataLoader` loop in fp32.

`python -m benchmarks.convolutions` measures; with arguments it is one contestant.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from app.specs import JobSpec
from benchmarks import machine
from worker.imagefolder import read_images
from worker.training import data, memory, prepare
from worker.training.device import choose_precision
from worker.training.finetune import lr_groups
from worker.training.models import Classifier, build_net
from worker.training.optim import build_optimizer
from worker.training.trainer import start, train_model

STEPS, WARM_UP = 20, 3


def step_ms(variant: str, precision: str, threads: int) -> float:
    """Median milliseconds of a step on 128 images of 3x32x32."""
    torch.set_num_threads(threads)
    memory.keep_freed()
    spec = JobSpec.model_validate({"model": {"kind": "resnet", "variant": variant}, "optimizer": {"kind": "sgd"}})
    model = Classifier(build_net(spec.model, (3, 32, 32), 10), torch.full((3,), 0.5), torch.full((3,), 0.25)).train()
    optimizer = build_optimizer(spec.optimizer, lr_groups(model, None))
    x, y = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (128,))
    seconds = []
    for _ in range(WARM_UP + STEPS):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        F.cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM_UP:])


def at_a_time(count: int, *contestant: str) -> list[float]:
    """The same of so many processes that run at the same time."""
    command = [sys.executable, "-m", "benchmarks.convolutions", *contestant]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(process.communicate()[0]) for process in running]


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """CIFAR images as torchvision has them: an array, a PIL image of each, transforms one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, dataset: data.Data) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class StockBlock(nn.Module):
    """A block of ResNet-20 as tutorials write it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.stride, self.added = stride, (after - before) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` to `[N, C', H / stride, W / stride]`."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        skip = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return F.relu(y + skip)


def stock_resnet20() -> nn.Module:
    """ResNet-20 of the same layers."""
    widths = [16] * 4 + [32] * 3 + [64] * 3
    pairs = list(itertools.pairwise(widths))
    blocks = [StockBlock(before, after, 2 if after > before else 1) for before, after in pairs]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


SPEC = JobSpec.model_validate(
    {
        "dataset": {"name": "cifar10", "augment": "standard"},
        "model": {"kind": "resnet", "variant": "resnet20"},
        "optimizer": {"kind": "sgd"},
        "training": {"max_epochs": 1000},
        "early_stopping": None,
    }
)


def service_epochs(dataset: data.Data) -> Iterator[object]:
    """Epochs of the service's trainer, set up as in its training processes."""
    memory.keep_freed()
    torch.manual_seed(0)
    model = Classifier(build_net(SPEC.model, dataset.shape, 10), dataset.mean, dataset.std)
    precision = choose_precision(SPEC, torch.device("cpu"))
    return train_model(start(model, dataset, SPEC), dataset, SPEC, precision=precision)


def stock_epochs(dataset: data.Data) -> Iterator[None]:
    """Epochs of the loop of the tutorials, in fp32."""
    net = stock_resnet20()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    loaders = [
        DataLoader(
            Pictures(split.images[split.index], split.labels[split.index], dataset), 128, shuffle=True, num_workers=2
        )
        for split in (dataset.train, dataset.val)
    ]
    while True:
        for training, loader in zip((True, False), loaders, strict=True):
            net.train(training)
            with torch.set_grad_enabled(training):
                for x, y in loader:
                    loss = F.cross_entropy(net(x), y)
                    if training:
                        optimizer.zero_grad()
                        loss.backward()  # type: ignore[no-untyped-call]
                        optimizer.step()
                    loss.item()
        yield


def epoch_seconds(contestant: str, prepared: Path, images: int) -> float:
    """Seconds of the faster of two epochs over so many images, behind one to warm up."""
    whole = data.load(prepared, SPEC.dataset, torch.device("cpu"))
    parts = {
        "train": dataclasses.replace(whole.train, index=whole.train.index[:images]),
        "val": dataclasses.replace(whole.val, index=whole.val.index[: images // 9]),
    }
    dataset = dataclasses.replace(whole, **parts)
    epochs: Iterator[object] = (service_epochs if contestant == "service" else stock_epochs)(dataset)
    next(epochs)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        next(epochs)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def epochs_beside_stock(images: int, turns: int) -> None:
    """An epoch over so many CIFAR-10 images: the service's trainer and the loop of the tutorials, each in a process."""
    source = next(iter(machine.raw_folders())) / "cifar10.tar"
    if not source.exists():
        print(f"the comparison with a stock loop is left out: there is no {source}")
        return
    seconds: dict[str, list[float]] = {"service": [], "stock": []}
    with tempfile.TemporaryDirectory() as folder:
        own = prepare.Own(source, read_images)
        prepared = prepare.prepare("cifar10", (), own, Path(folder) / "cifar10.safetensors", Path)
        for _ in range(turns):
            for name, found in seconds.items():
                found.extend(at_a_time(1, name, str(prepared), str(images)))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    turn_by_turn = ", ".join(f"{theirs / ours:.2f}" for ours, theirs in zip(*seconds.values(), strict=True))
    ours, theirs = medians["service"], medians["stock"]
    print(
        f"ResNet-20, an epoch of {images:,} images: service {ours:.1f} s, stock (fp32, num_workers=2) {theirs:.1f} s: "
        f"{theirs / ours:.2f} times (turn by turn {turn_by_turn}; aim: 2.5)"
    )


def main() -> None:
    """Measure and print."""
    cores = str(torch.get_num_threads())
    print(f"## A step of 128 CIFAR images\n{machine.described()}, PyTorch {torch.__version__}")
    for variant in ("resnet20", "fast"):
        for precision in ("fp32", "bf16"):
            (alone,) = at_a_time(1, variant, precision, cores)
            print(f"{variant:<9} {precision}  {cores} threads, alone        {alone:6.0f} ms")
    for threads in (cores, "1"):
        slowest = max(at_a_time(2, "resnet20", "bf16", threads))
        print(f"resnet20  bf16  {threads} threads, two at a time {slowest:6.0f} ms")
    epochs_beside_stock(6_400, 5)


if __name__ == "__main__":
    if sys.argv[1:2] in (["service"], ["stock"]):
        print(epoch_seconds(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
    elif len(sys.argv) > 1:
        print(step_ms(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main()
