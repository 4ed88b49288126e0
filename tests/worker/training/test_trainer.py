"""The loop: what it yields, that it repeats to the bit, and that it goes on where it was cut off."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from app.specs import EpochRow, JobSpec, StopReason
from tests.worker.training.conftest import CPU, spec_of
from worker.training.checkpoint import BadCheckpoint, load_state, save_state
from worker.training.data import Data, Split, load
from worker.training.models import Classifier, build_net
from worker.training.trainer import Diverged, Epoch, Training, predict, seed_of, start, train_model, why_stop


def begin(spec: JobSpec, data: Data) -> Training:
    torch.manual_seed(seed_of(spec.seed, 0))
    net = build_net(spec.model, data.shape, len(data.classes))
    return start(Classifier(net, data.mean, data.std), data, spec)


def run(spec: JobSpec, data: Data) -> tuple[Training, list[Epoch]]:
    training = begin(spec, data)
    return training, list(train_model(training, data, spec))


def bits(training: Training) -> dict[str, bytes]:
    return {name: weight.numpy().tobytes() for name, weight in training.model.state_dict().items()}


def figures(row: EpochRow) -> dict[str, float]:
    """An epoch row without its times."""
    return row.model_dump(exclude={"seconds", "samples_per_second"})


VARIETY: list[dict[str, Any]] = [
    {},
    {"optimizer": {"kind": "sgd", "nesterov": True}, "scheduler": {"kind": "onecycle"}},
    {"optimizer": {"kind": "adamw"}, "scheduler": {"kind": "cosine"}},
    {"optimizer": {"kind": "sgd", "lr": 0.5}, "scheduler": {"kind": "plateau", "patience": 0}},
    {"scheduler": {"kind": "step", "every": 1, "gamma": 0.5}, "model": {"hidden": [16, 16], "residual": True}},
    {"dataset": {"name": "digits", "augment": "standard"}, "training": {"max_epochs": 4, "label_smoothing": 0.1}},
    {"training": {"max_epochs": 4, "precision": "bf16"}},
    {"training": {"max_epochs": 4, "ema": 0.99, "micro_batches": 3, "clip_norm": 0.5, "class_weights": "balanced"}},
    {"training": {"max_epochs": 4, "mixup": 0.3, "cutmix": 1.0}, "scheduler": {"kind": "cosine", "warmup_epochs": 1.5}},
    {
        "model": {"hidden": [16, 16], "norm": "batch", "activation": "gelu"},
        "dataset": {"name": "digits", "augment": "strong"},
    },
    {"model": {"kind": "cnn", "channels": [4, 8], "blocks": 1, "residual": True, "dropout": 0.1}},
    {
        "model": {"kind": "resnet", "variant": "resnet20", "width": 0.25},
        "training": {"max_epochs": 4, "precision": "bf16"},
    },
    {"model": {"kind": "resnet", "variant": "fast", "width": 0.125}},
    {"model": {"kind": "torchvision", "name": "squeezenet1_1", "image_size": 32}},
]


@pytest.mark.parametrize("parts", VARIETY)
def test_the_same_spec_and_seed_give_the_same_bits(digits: Data, parts: dict[str, Any]) -> None:
    spec = spec_of(**parts)
    (one, first), (two, second) = run(spec, digits), run(spec, digits)
    assert bits(one) == bits(two)
    assert [figures(epoch.row) for epoch in first] == [figures(epoch.row) for epoch in second]
    other, _ = run(spec.model_copy(update={"seed": 1}), digits)
    assert bits(other) != bits(one)


@pytest.mark.parametrize("parts", VARIETY)
@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(
    digits: Data, tmp_path: Path, parts: dict[str, Any], cut: int
) -> None:
    spec = spec_of(**parts)
    undisturbed, epochs = run(spec, digits)
    before = begin(spec, digits)
    for epoch in train_model(before, digits, spec):
        if epoch.row.epoch == cut:
            break
    with (tmp_path / "last.pth").open("wb") as out:
        save_state(out, before, spec)
    after = begin(spec, digits)
    torch.manual_seed(12345)  # whatever was drawn in between does not matter
    load_state(tmp_path / "last.pth", after, spec, CPU)
    rest = list(train_model(after, digits, spec))
    assert bits(after) == bits(undisturbed)
    assert [figures(epoch.row) for epoch in rest] == [figures(epoch.row) for epoch in epochs[cut:]]
    assert after.stopping == undisturbed.stopping


@pytest.mark.parametrize("parts", [VARIETY[0], VARIETY[5], VARIETY[7], VARIETY[8], VARIETY[10]])
def test_streamed_images_give_the_same_bits_as_resident_ones(
    digits: Data, digits_file: Path, parts: dict[str, Any]
) -> None:
    spec = spec_of(**parts)
    streamed = load(digits_file, spec.dataset, CPU, resident=False)
    assert streamed.train.streamed
    (one, first), (two, second) = run(spec, digits), run(spec, streamed)
    assert bits(one) == bits(two)
    assert [figures(epoch.row) for epoch in first] == [figures(epoch.row) for epoch in second]
    assert torch.equal(predict(one.model, digits.test)[0], predict(two.model, streamed.test)[0])


def test_a_resumed_attempt_goes_on_with_the_threads_of_the_first(digits: Data, tmp_path: Path) -> None:
    training, _ = run(spec_of(), digits)
    for count in (2, 1):
        torch.set_num_threads(count)
        with (tmp_path / f"{count}.pth").open("wb") as out:
            save_state(out, training, spec_of())
    for count in (2, 1):
        load_state(tmp_path / f"{count}.pth", begin(spec_of(), digits), spec_of(), CPU)
        assert torch.get_num_threads() == count


def test_an_attempt_that_was_cut_off_at_the_end_has_nothing_left_to_train(digits: Data) -> None:
    spec = spec_of()
    training, _ = run(spec, digits)
    assert list(train_model(training, digits, spec)) == []
    assert why_stop(training, spec) is StopReason.MAX_EPOCHS


def test_it_learns_and_says_how_it_goes(digits: Data) -> None:
    spec = spec_of(training={"max_epochs": 20}, optimizer={"lr": 0.01}, early_stopping=None)
    _, epochs = run(spec, digits)
    rows = [epoch.row for epoch in epochs]
    assert [row.epoch for row in rows] == list(range(1, 21))
    assert rows[-1].val_acc > 0.9
    assert rows[-1].train_loss < rows[0].train_loss / 4
    assert all(row.seconds > 0 and row.samples_per_second > 0 and row.lr == 0.01 for row in rows)
    assert [epoch.stop_reason for epoch in epochs] == [None] * 19 + [StopReason.MAX_EPOCHS]


def test_it_stops_early_when_validation_stops_to_improve(digits: Data) -> None:
    strict = {"patience": 1, "min_delta": 1.0, "delta_overfit": None}
    _, epochs = run(spec_of(training={"max_epochs": 50}, early_stopping=strict), digits)
    assert epochs[-1].stop_reason is StopReason.STAGNATION
    assert len(epochs) < 10


def test_it_stops_when_its_time_is_up(digits: Data) -> None:
    _, epochs = run(spec_of(training={"max_epochs": 50, "max_seconds": 1e-3}), digits)
    assert [epoch.stop_reason for epoch in epochs] == [StopReason.TIME_LIMIT]


def test_a_loss_that_is_not_finite_ends_the_run_at_once(digits: Data) -> None:
    spec = spec_of(optimizer={"kind": "sgd", "lr": 100.0}, model={"hidden": [64] * 12})
    with pytest.raises(Diverged, match="Try a lower learning rate than 100"):
        run(spec, digits)


def test_every_training_image_is_seen_once_an_epoch_the_last_short_batch_too(digits: Data) -> None:
    """With a learning rate that changes nothing, the epoch's train_loss is the mean over all training images."""
    spec = spec_of(
        optimizer={"kind": "sgd", "lr": 1e-30, "momentum": 0.0},
        model={"hidden": [8], "dropout": 0.0},
        training={"max_epochs": 1, "batch_size": 100},
    )
    training, (epoch,) = run(spec, digits)
    logits, labels = predict(training.model, digits.train)
    assert len(digits.train) % 100 != 0
    assert epoch.row.train_loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert epoch.row.train_acc == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_a_batch_in_parts_is_the_same_step(digits: Data) -> None:
    model = {"hidden": [16], "dropout": 0.0}
    whole, _ = run(spec_of(model=model), digits)
    parts, _ = run(spec_of(model=model, training={"max_epochs": 4, "micro_batches": 5}), digits)
    for name, weight in whole.model.state_dict().items():
        assert torch.allclose(weight, parts.model.state_dict()[name], atol=1e-4), name


def test_clipped_gradients_make_small_steps(digits: Data) -> None:
    sgd = {"kind": "sgd", "lr": 1.0, "momentum": 0.0}
    spec = spec_of(optimizer=sgd, training={"max_epochs": 1, "batch_size": 2000, "clip_norm": 1e-3})
    before = begin(spec, digits).model.state_dict()
    after, _ = run(spec, digits)
    moved = sum((weight - before[name]).square().sum() for name, weight in after.model.state_dict().items())
    assert float(moved) ** 0.5 == pytest.approx(1e-3, rel=1e-2)


def test_an_average_of_the_weights_is_what_is_validated_and_kept(digits: Data) -> None:
    training, epochs = run(spec_of(training={"max_epochs": 4, "ema": 0.9}), digits)
    assert training.result is not training.model
    logits, labels = predict(training.result, digits.val)
    assert torch.nn.functional.cross_entropy(logits, labels).item() == epochs[-1].row.val_loss
    plain, _ = run(spec_of(), digits)
    assert bits(plain) == bits(training), "averaging does not touch the training itself"


def test_balanced_class_weights_make_up_for_rare_classes(digits: Data) -> None:
    rows = digits.train.index
    labels = digits.train.labels[rows]
    rare = dataclasses.replace(
        digits, train=dataclasses.replace(digits.train, index=rows[(labels != 3) | (rows % 8 == 0)])
    )
    recalls = []
    for weights in ("none", "balanced"):
        spec = spec_of(training={"max_epochs": 12, "class_weights": weights}, optimizer={"lr": 0.01})
        training, _ = run(spec, rare)
        logits, truth = predict(training.model, digits.test)
        recalls.append((logits.argmax(1) == truth)[truth == 3].float().mean().item())
    assert recalls[1] > recalls[0], recalls


def test_gradient_norms_are_told_by_block_on_request(digits: Data) -> None:
    deep = {"hidden": [16] * 20}
    norms = {}
    for residual in (False, True):
        spec = spec_of(model={**deep, "residual": residual}, training={"max_epochs": 1}, diagnostics="gradients")
        _, (epoch,) = run(spec, digits)
        assert epoch.gradients is not None
        assert list(epoch.gradients) == [*(f"layers.{index}" for index in range(20)), "head"]
        norms[residual] = epoch.gradients
    assert norms[False]["layers.1"] < norms[True]["layers.1"] / 100, "a deep plain network's gradients vanish"
    _, (epoch,) = run(spec_of(training={"max_epochs": 1}), digits)
    assert epoch.gradients is None


def test_the_test_split_has_no_part_in_training(digits: Data) -> None:
    noise = Split(torch.zeros_like(digits.test.images), digits.test.labels.flip(0), digits.test.index)
    spec = spec_of()
    clean, _ = run(spec, digits)
    blind, _ = run(spec, dataclasses.replace(digits, test=noise))
    assert bits(clean) == bits(blind)


def test_the_state_of_another_job_is_refused(digits: Data, tmp_path: Path) -> None:
    training, _ = run(spec_of(), digits)
    with (tmp_path / "last.pth").open("wb") as out:
        save_state(out, training, spec_of())
    with pytest.raises(BadCheckpoint, match="another spec"):
        load_state(tmp_path / "last.pth", training, spec_of(seed=9), CPU)
