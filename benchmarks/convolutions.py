"""A training step of convolutional networks on the CPU: by number format, and with another such job beside it.

`python -m benchmarks.convolutions` measures; with arguments (variant, precision, threads) it is one contestant.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from app.specs import JobSpec
from benchmarks import machine
from worker.training.finetune import lr_groups
from worker.training.models import Classifier, build_net
from worker.training.optim import build_optimizer

STEPS, WARM_UP = 20, 3


def step_ms(variant: str, precision: str, threads: int) -> float:
    """Median milliseconds of a step on 128 images of 3x32x32."""
    torch.set_num_threads(threads)
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


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(step_ms(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main()
