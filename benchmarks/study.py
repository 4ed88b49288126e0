"""What do residual connections buy? Plain and residual MLPs of growing depth on MNIST, through the service.

Every pair differs in `residual` alone: the hidden widths are equal, so the skips are identities but for the first.
Writes docs/residual-study.md and its picture from what the API answers.
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks import machine
from tests.e2e.service import Json, Service

DEPTHS = (2, 10, 20, 40)
SEEDS = (0, 1, 2)
EPOCHS = 5
DOCS = Path(__file__).parent.parent / "docs"


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
    with machine.service(slots=2) as service:
        kinds = list(itertools.product(DEPTHS, (False, True)))
        jobs = {(kind, seed): service.submit(spec(*kind, seed)) for kind in kinds for seed in SEEDS}
        ended = {key: service.succeeded(job_id, 3600) for key, job_id in jobs.items()}
        accuracy = {kind: [ended[kind, seed]["evaluation"]["accuracy"] for seed in SEEDS] for kind in kinds}
        loss = {kind: [ended[kind, seed]["evaluation"]["loss"] for seed in SEEDS] for kind in kinds}
        norms = {kind: gradients(service, jobs[kind, 0], 1) for kind in kinds if kind[0] in (20, 40)}
        curves = {kind: service.figures(jobs[kind, 0]) for kind in kinds}
    minutes = (time.monotonic() - began) / 60
    _draw(norms, curves)
    rows = [
        f"| {depth} | {spread(accuracy[depth, False])} | {spread(accuracy[depth, True])} "
        f"| {spread(loss[depth, False], '')} | {spread(loss[depth, True], '')} |"
        for depth in DEPTHS
    ]
    deep = norms[DEPTHS[-1], False], norms[DEPTHS[-1], True]
    ratios = [found["head"] / max(found["layers.1"], 1e-300) for found in deep]
    seeds = ", ".join(map(str, SEEDS))
    text = f"""# What do residual connections buy?

`make study` trains these {len(jobs)} jobs through the service and writes this page: MLPs of equal widths (64) on MNIST,
{EPOCHS} epochs of Adam at 1e-3, batch 128, no dropout, seeds {seeds}.
Here: {machine.described()}, {minutes:.0f} minutes.

Test accuracy and loss of the best weights: mean over the seeds (lowest to highest).

| hidden layers | plain, accuracy | residual, accuracy | plain, loss | residual, loss |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

![Gradient norms by layer, and validation loss by epoch](residual-study.png)

The left picture shows why: mean gradient norms in the first epoch, layer by layer (`diagnostics: gradients`).
In the plain network of {DEPTHS[-1]} layers the head's gradient is {ratios[0]:.2g} times that of the second layer;
in the residual one it is {ratios[1]:.2g} times.
"""
    (DOCS / "residual-study.md").write_text(text)
    print(text)


def _draw(norms: dict[tuple[int, bool], dict[str, float]], curves: dict[tuple[int, bool], list[Json]]) -> None:
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
