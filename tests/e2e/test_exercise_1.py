"""The lab's Exercise 1 through the whole service, on the real MNIST."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from tests.e2e.service import Service
from worker.training import load_model


@pytest.mark.timeout(400)
def test_exercise_1_reaches_the_lab_s_figures_and_repeats_to_the_bit(
    mnist_root: Path, shared: Service, tmp_path: Path
) -> None:
    jobs = [shared.submit({"seed": seed}) for seed in (0, 1, 2, 0)]
    for job_id in jobs:
        job = shared.succeeded(job_id, 300)
        evaluation = job["evaluation"]
        assert evaluation["samples"] == 10_000
        assert evaluation["accuracy"] >= 0.9739
        assert evaluation["loss"] <= 0.1053
        assert evaluation["precision"] >= 0.9743
        assert job["stop_reason"] in ("stagnation", "overfitting"), "50 epochs are more than it takes"
        assert job["runtime"]["parameters"] == 109_386
    first, _, _, again = jobs
    assert shared.weights(first) == shared.weights(again)
    assert shared.figures(first) == shared.figures(again)
    assert shared.job(first)["evaluation"] == shared.job(again)["evaluation"]
    assert len({shared.weights(job_id) for job_id in jobs}) == 3

    listed = shared.get(f"/jobs/{first}/checkpoints")["data"][0]
    file = tmp_path / "best_model.pth"
    file.write_bytes(shared.weights(first))
    assert listed["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    model = load_model(file)
    rows = shared.figures(first)
    assert model.val_loss == min(row["val_loss"] for row in rows) == rows[model.epoch - 1]["val_loss"]
    test = (mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    labels = (mnist_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    images = torch.frombuffer(bytearray(test), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    right = model.predict(images).argmax(1) == torch.frombuffer(bytearray(labels), dtype=torch.uint8)
    assert right.float().mean().item() == pytest.approx(shared.job(first)["evaluation"]["accuracy"])
