"""What do residual connections buy? Plain and residual MLPs on MNIST, and CNNs on CIFAR-10, through the service.

Every pair differs in `residual` alone: the MLPs' hidden widths are equal, so the skips are identities but for the
first, and the CNNs' skips have no parameters. Writes docs/residual-study.md, its picture and the table in
examples/README.md from what the API answers.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks import machine
from tests.e2e.service import Json, Service

DEPTHS = (2, 10, 20, 40)
SEEDS = (0, 1, 2)
EPOCHS = 5
CNN_BLOCKS = (3, 9)  # a stage: 20 and 56 layers
CNN_EPOCHS = 2
DOCS = machine.ROOT / "docs"
Kind = tuple[int, bool]


def spec(depth: int, residual: bool, seed: int) -> Json:
    """One job of the study."""
    return {
        "name": f"mlp-{depth}-{'residual' if residual else 'plain'}-{seed}",
        "model": {"kind": "mlp", "hidden": [64] * depth, "dropout": 0.0, "residual": residual},
        "training": {"max_epochs": EPOCHS},
        "early_stopping": None,
        "tracking": None,
        "diagnostics": "gradients",
        "seed": seed,
    }


def cnn_spec(blocks: int, residual: bool, seed: int) -> Json:
    """One job of the study, scaled down: half of the training images, half of ResNet-20's channels."""
    return {
        "name": f"cnn-{6 * blocks + 2}-{'residual' if residual else 'plain'}-{seed}",
        "dataset": {"name": "cifar10", "augment": "light", "val_fraction": 0.5},
        "model": {"kind": "cnn", "channels": [8, 16, 32], "blocks": blocks, "residual": residual},
        "optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 1e-4},
        "scheduler": {"kind": "onecycle"},
        "training": {"max_epochs": CNN_EPOCHS},
        "early_stopping": None,
        "tracking": None,
        "seed": seed,
    }


def trained(service: Service, kinds: list[Kind], make: Callable[[int, bool, int], Json]) -> dict[Kind, list[Json]]:
    """The jobs of each kind, one a seed, once all have succeeded."""
    jobs = {(kind, seed): service.submit(make(*kind, seed)) for kind in kinds for seed in SEEDS}
    ended = {key: service.succeeded(job_id, 3600) for key, job_id in jobs.items()}
    return {kind: [ended[kind, seed] for seed in SEEDS] for kind in kinds}


def table(found: dict[Kind, list[Json]], depths: list[tuple[int, int]]) -> str:
    """A row for each depth: (depth as told, depth of the kind)."""

    def cells(name: str, unit: str, depth: int) -> str:
        each = ([job["evaluation"][name] for job in found[depth, residual]] for residual in (False, True))
        return " | ".join(spread(values, unit) for values in each)

    rows = [f"| {told} | {cells('accuracy', '%', depth)} | {cells('loss', '', depth)} |" for told, depth in depths]
    head = "| layers | plain, accuracy | residual, accuracy | plain, loss | residual, loss |"
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])


def spread(values: list[float], unit: str = "%") -> str:
    """Mean and range, in words."""
    scale = 100 if unit == "%" else 1
    low, middle, high = (scale * value for value in (min(values), statistics.mean(values), max(values)))
    return f"{middle:.2f}{unit} ({low:.2f} to {high:.2f})"


def gradients(service: Service, job_id: str, epoch: int) -> dict[str, float]:
    """Mean gradient norm by block in an epoch."""
    events = service.get(f"/jobs/{job_id}/events", limit=10_000)["data"]
    epochs = [event["data"] for event in events if event["type"] == "epoch"]
    found: dict[str, float] = epochs[epoch - 1]["gradients"]
    return found


def main() -> None:
    """Train, and write the page."""
    began = time.monotonic()
    kinds = list(itertools.product(DEPTHS, (False, True)))
    cnn_kinds = list(itertools.product(CNN_BLOCKS, (False, True)))
    with machine.service(slots=2) as service:
        mlps = trained(service, kinds, spec)
        norms = {kind: gradients(service, mlps[kind][0]["id"], 1) for kind in kinds if kind[0] in (20, 40)}
        curves = {kind: service.figures(mlps[kind][0]["id"]) for kind in kinds}
        has_cifar = (next(iter(machine.raw_folders())) / "cifar10.tar").exists()
        cnns = trained(service, cnn_kinds, cnn_spec) if has_cifar else {}
    minutes = (time.monotonic() - began) / 60
    _draw(norms, curves)
    mlp_table = table(mlps, [(depth, depth) for depth in DEPTHS])
    cnn_table = (
        table(cnns, [(6 * blocks + 2, blocks) for blocks in CNN_BLOCKS])
        if cnns
        else "Left out: WHISTLESTOP_TEST_DATASETS named no folder with cifar10.tar."
    )
    deep = norms[DEPTHS[-1], False], norms[DEPTHS[-1], True]
    ratios = [found["head"] / max(found["layers.1"], 1e-300) for found in deep]
    seeds = ", ".join(map(str, SEEDS))
    text = f"""# What do residual connections buy?

`make study` trains these {len(SEEDS) * (len(mlps) + len(cnns))} jobs through the service and writes this page.
Each pair of networks differs in `residual` and in nothing else. Test accuracy and loss of the best weights: mean over
seeds {seeds} (lowest to highest). Here: {machine.described()}, {minutes:.0f} minutes.

## MLPs on MNIST

Hidden layers of equal widths (64), {EPOCHS} epochs of Adam at 1e-3, batch 128, no dropout.

{mlp_table}

![Gradient norms by layer, and validation loss by epoch](residual-study.png)

The left picture shows why: mean gradient norms in the first epoch, layer by layer (`diagnostics: gradients`).
In the plain network of {DEPTHS[-1]} layers the head's gradient is {ratios[0]:.2g} times that of the second layer;
in the residual one it is {ratios[1]:.2g} times.

## CNNs on CIFAR-10

Channels 8, 16, 32 with batch norm, {CNN_EPOCHS} epochs of half of the training images (the other half validates), SGD
at a peak of 0.1 in one cycle. The skips have no parameters, so plain and residual networks start from the same weights.

{cnn_table}
"""
    (DOCS / "residual-study.md").write_text(text)
    machine.write_between(
        machine.ROOT / "examples" / "README.md",
        "residual",
        f"MLPs on MNIST:\n\n{mlp_table}\n\nCNNs on CIFAR-10:\n\n{cnn_table}",
    )
    print(text)


def _draw(norms: dict[Kind, dict[str, float]], curves: dict[Kind, list[Json]]) -> None:
    mpl.use("agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, data in ((left, norms), (right, curves)):
        for (depth, residual), values in data.items():
            style = {"color": f"C{DEPTHS.index(depth)}", "linestyle": "-" if residual else ":"}
            label = f"{depth}, {'residual' if residual else 'plain'}"
            shown = list(values.values()) if isinstance(values, dict) else [row["val_loss"] for row in values]
            axes.plot(range(1, len(shown) + 1), shown, label=label, **style)
        axes.set_yscale("log")
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    left.set(title="Gradient norm in the first epoch", xlabel="layer (the last is the head)")
    right.set(title="Validation loss, seed 0", xlabel="epoch")
    figure.savefig(DOCS / "residual-study.png", dpi=110)


if __name__ == "__main__":
    main()
