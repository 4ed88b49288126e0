"""The recipes for CIFAR-10 through the service: `fast` to its end, the one for a GPU for as long as asked.

Needs cifar10.tar in the folder that WHISTLESTOP_TEST_DATASETS names.
"""

from __future__ import annotations

import argparse
import sys
import time

from app.client import Client
from app.yaml12 import load
from benchmarks import machine
from tests.e2e.service import Json

# The data set is prepared by a job before, as it is for everybody but the first.
PREPARING: Json = {
    "dataset": {"name": "cifar10"},
    "model": {"kind": "mlp"},
    "training": {"max_epochs": 1},
    "tracking": None,
}


def told(client: Client, name: str, **training: object) -> str:
    """Train an example, with `training` over its own, and tell in a line what came of it."""
    spec = load((machine.ROOT / "examples" / f"{name}.yaml").read_text())
    spec["training"] |= training
    before = time.monotonic()
    submitted = client.submit({**spec, "tracking": None})
    job = submitted.wait()
    seconds = time.monotonic() - before
    epochs = [row.seconds for row in submitted.metrics()]
    found = submitted.evaluation()
    precision = job.runtime.precision if job.runtime else "unknown"
    return (
        f"{name}: {len(epochs)} epochs in {sum(epochs):.0f} s, {seconds:.0f} s from POST to the end; test accuracy "
        f"{found.accuracy:.2%}, loss {found.loss:.3f}; {job.stop_reason}, {precision}"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--gpu-recipe-seconds", type=float, default=1, help="the GPU's recipe ends after the epoch then"
    )
    seconds = parser.parse_args().gpu_recipe_seconds
    folders = machine.raw_folders()
    if not any((folder / "cifar10.tar").exists() for folder in folders):
        print("The recipes are left out: WHISTLESTOP_TEST_DATASETS names no folder with cifar10.tar.")
        return 0
    print(f"## Recipes for CIFAR-10\n{machine.described()}")
    # The client looks once a second; what looks more often takes its time from the training.
    with machine.service() as service, Client(service.url) as client:
        client.submit(PREPARING).wait()
        print(told(client, "cifar10-fast"), flush=True)
        print(told(client, "cifar10-94", max_seconds=seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
