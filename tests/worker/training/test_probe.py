"""The linear probe: features of another network, classified by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from app.specs import JobSpec, LinearProbeSpec, ModelSpec, StopReason, TorchvisionSpec
from tests.worker.training.conftest import spec_of
from tests.worker.training.test_checkpoint import save
from tests.worker.training.test_trainer import begin, bits
from worker.training import load_model
from worker.training.checkpoint import init_from_parent, save_model
from worker.training.data import Data
from worker.training.models import ModelUnavailable, build_net, head_names
from worker.training.probe import fit_probe
from worker.training.trainer import Training, predict

PARENTS = [
    {"hidden": [32, 16], "dropout": 0.2},
    {"kind": "cnn", "channels": [4, 8], "blocks": 1},
    {"kind": "resnet", "variant": "fast", "width": 0.125},
]


def probe_of(parent: JobSpec) -> JobSpec:
    model = {"kind": "linear_probe", "backbone": parent.model.model_dump()}
    return JobSpec.model_validate({"dataset": {"name": "digits"}, "model": model, "init_from": {"job": "parent"}})


def fitted(path: Path, spec: JobSpec, data: Data) -> Training:
    training = begin(spec, data)
    init_from_parent(path, training.model, head_names(spec.model, data.shape, len(data.classes)))
    (epoch,) = fit_probe(training, data, spec)
    assert epoch.stop_reason is StopReason.MAX_EPOCHS
    assert epoch.row.val_acc > 0.5
    assert list(fit_probe(training, data, spec)) == [], "a resumed attempt has nothing left to fit"
    return training


@pytest.mark.parametrize("model", PARENTS)
def test_a_probe_is_scikit_learn_s_classifier_on_the_parent_s_features(
    digits: Data, tmp_path: Path, model: ModelSpec
) -> None:
    parent = spec_of(model=model, training={"max_epochs": 3})
    path = save(digits, parent, tmp_path / "best_model.pth")
    spec = probe_of(parent)
    training = fitted(path, spec, digits)
    theirs = load_model(path)
    backbone = {name.removeprefix("net."): weight for name, weight in theirs.state_dict().items()}
    ours = training.model.state_dict()
    for name, weight in backbone.items():
        if name not in ("head.weight", "head.bias", "scale", "shift"):
            assert torch.equal(ours[f"net.backbone.{name}"], weight), "the features are the parent's"

    # By another way: the input of the parent's last layer, whatever it is scaled by, standardised.
    seen: list[np.ndarray] = []
    theirs.net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    for split in (digits.train, digits.test):
        predict(theirs, split)
    mean, std = seen[0].mean(0), seen[0].std(0, ddof=1).clip(1e-6)
    other = LogisticRegression(max_iter=1000).fit((seen[0] - mean) / std, digits.train.labels[digits.train.index])
    shares = other.predict_proba((seen[1] - mean) / std)
    logits, _ = predict(training.model, digits.test)
    assert np.abs(logits.softmax(1).numpy() - shares).max() < 5e-3

    with (tmp_path / "probe.pth").open("wb") as out:
        save_model(out, training, digits, spec, 0.5)
    assert torch.equal(load_model(tmp_path / "probe.pth").predict(digits.test.images), logits.softmax(1))
    assert bits(fitted(path, spec, digits)) == bits(training)
    assert bits(fitted(tmp_path / "probe.pth", spec, digits)) == bits(training), "a probe may start from a probe"


def test_a_probe_needs_a_network_with_a_linear_end() -> None:
    backbone = TorchvisionSpec(kind="torchvision", name="squeezenet1_1", image_size=32)
    with pytest.raises(ModelUnavailable, match="last layer is linear"):
        build_net(LinearProbeSpec(kind="linear_probe", backbone=backbone), (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "a linear_probe needs init_from.job"),
        ({"init_from": {"job": "x"}, "training": {"max_epochs": 5}}, "leave training.max_epochs out"),
        ({"init_from": {"pretrained": "DEFAULT"}}, "a linear_probe needs init_from.job"),
        ({"init_from": {}}, "either job or pretrained"),
        ({"init_from": {"job": "x", "pretrained": "y"}}, "either job or pretrained"),
        ({"model": {}, "init_from": {"pretrained": "DEFAULT"}}, "takes a model of kind torchvision, not mlp"),
    ],
)
def test_what_does_not_go_together_is_told(parts: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        JobSpec.model_validate({"model": {"kind": "linear_probe"}, **parts})
    assert (
        JobSpec.model_validate({"init_from": {"job": "x"}, "model": {"kind": "linear_probe"}}).training.max_epochs == 1
    )
