"""What does fine-tuning buy? From CIFAR-10 to a hundred images a class of CIFAR-100, through the service.

Three ways to the same budget of epochs: from scratch, fine-tuned from a CIFAR-10 job, and with that job's layers
frozen, so that only a linear head is trained; and scikit-learn's linear probe of the same features. Writes
docs/finetuning-study.md and the table in examples/README.md from what the API answers. Needs cifar10.tar and
cifar100-subset.tar in the folder that WHISTLESTOP_TEST_DATASETS names.
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks import machine
from tests.e2e.service import Json

SEEDS = (0, 1, 2)
PARENT_EPOCHS, EPOCHS = 6, 6
PROBE_C = 0.01
COMMON: Json = {
    "model": {"kind": "resnet", "variant": "fast", "width": 0.5},
    "scheduler": {"kind": "onecycle"},
    "early_stopping": None,
    "tracking": None,
}


def sgd(lr: float) -> Json:
    """The optimiser of all jobs."""
    return {"kind": "sgd", "lr": lr, "weight_decay": 5e-4, "nesterov": True}


def main() -> int:
    """Train, and write the page."""
    folder = next(iter(machine.raw_folders()))
    if not all((folder / name).exists() for name in ("cifar10.tar", "cifar100-subset.tar")):
        print(f"The fine-tuning study is left out: {folder} has no cifar10.tar and cifar100-subset.tar.")
        return 0
    began = time.monotonic()
    with machine.service() as service:
        parent = service.submit(
            {
                **COMMON,
                "name": "parent",
                "dataset": {"name": "cifar10", "augment": "standard"},
                "optimizer": sgd(0.3),
                "training": {"max_epochs": PARENT_EPOCHS, "batch_size": 256},
            }
        )
        parent_accuracy = service.succeeded(parent, 3600)["evaluation"]["accuracy"]
        ways: dict[str, Json | None] = {
            "from scratch": None,
            "frozen layers, new head": {"job": parent, "freeze": "backbone"},
            "fine-tuned": {"job": parent},
        }
        jobs = {
            (way, seed): service.submit(
                {
                    **COMMON,
                    "name": way,
                    "dataset": {"name": "cifar100-subset", "augment": "standard"},
                    "optimizer": sgd(0.1),
                    "training": {"max_epochs": EPOCHS, "batch_size": 64},
                    "init_from": init_from,
                    "seed": seed,
                }
            )
            for way, init_from in ways.items()
            for seed in SEEDS
        }
        for seed in SEEDS:
            jobs["linear probe", seed] = service.submit(
                {
                    "name": "linear probe",
                    "dataset": {"name": "cifar100-subset", "split_seed": seed},
                    "model": {"kind": "linear_probe", "C": PROBE_C},
                    "init_from": {"job": parent},
                    "tracking": None,
                }
            )
        ended = {key: service.succeeded(job_id, 3600) for key, job_id in jobs.items()}
    rows = []
    for way in dict.fromkeys(way for way, _ in jobs):
        found = [ended[way, seed]["evaluation"] for seed in SEEDS]
        accuracy, loss = ([each[name] for each in found] for name in ("accuracy", "loss"))
        rows.append(
            f"| {way} | {ended[way, 0]['runtime']['parameters']:,} | {statistics.mean(accuracy):.2%} "
            f"({min(accuracy):.2%} to {max(accuracy):.2%}) | {statistics.mean(loss):.2f} |"
        )
    table = f"""| way | weights that train | test accuracy: mean (lowest to highest) | test loss |
| --- | --- | --- | --- |
{chr(10).join(rows)}"""
    text = f"""# What does fine-tuning buy?

`make study` trains these jobs through the service and writes this page. The parent: the `fast` residual network at half
width, {PARENT_EPOCHS} epochs of CIFAR-10, {parent_accuracy:.2%} test accuracy. Its children: {EPOCHS} epochs on 100
images a class of CIFAR-100 (90 to train on, 10 to validate, 20 to test), equal in all but `init_from`; seeds
{", ".join(map(str, SEEDS))}. The linear probe is scikit-learn's logistic regression on the parent's features
(C = {PROBE_C:g}, without augmentation); it has no randomness of its own, so its three runs differ in the split.
Here: {machine.described()}, {(time.monotonic() - began) / 60:.0f} minutes.

{table}
"""
    (machine.ROOT / "docs" / "finetuning-study.md").write_text(text)
    machine.write_between(machine.ROOT / "examples" / "README.md", "finetuning", table)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
