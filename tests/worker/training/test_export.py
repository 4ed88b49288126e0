"""The weights in other formats say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from app.specs import JobSpec
from tests.worker.training.conftest import spec_of
from tests.worker.training.test_checkpoint import save
from tests.worker.training.test_probe import fitted, probe_of
from worker.training import load_model
from worker.training.checkpoint import LoadedModel, save_model
from worker.training.data import Data
from worker.training.export import to_onnx, to_safetensors
from worker.training.trainer import predict

MODELS: list[dict[str, Any]] = [
    {"hidden": [32, 16]},
    {"hidden": [16, 16], "residual": True, "norm": "layer", "activation": "gelu"},
    {"kind": "cnn", "channels": [4, 8], "blocks": 1, "residual": True},
    {"kind": "resnet", "variant": "fast", "width": 0.125},
    {"kind": "torchvision", "name": "shufflenet_v2_x0_5", "image_size": 32},
]


def check(model: LoadedModel, data: Data, folder: Path) -> None:
    expected, _ = predict(model, data.test)
    onnx = to_onnx(model, data.shape)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": data.test.images.numpy()})
    assert np.abs(logits - expected.numpy()).max() < 1e-3
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(data.classes)
    assert JobSpec.model_validate_json(told["spec"]) == model.spec
    content = to_safetensors(model, data.shape)
    (folder / "x.safetensors").write_bytes(content)
    with safe_open(folder / "x.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["input_shape"]) == list(data.shape)
    assert all(torch.equal(weight, load(content)[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("parts", MODELS)
def test_onnx_and_safetensors_say_the_same(digits: Data, tmp_path: Path, parts: dict[str, Any]) -> None:
    spec = spec_of(model=parts, training={"max_epochs": 1})
    check(load_model(save(digits, spec, tmp_path / "best_model.pth")), digits, tmp_path)


def test_a_probe_is_exported_too(digits: Data, tmp_path: Path) -> None:
    parent = spec_of(training={"max_epochs": 3})
    path = save(digits, parent, tmp_path / "parent.pth")
    training = fitted(path, probe_of(parent), digits)
    with (tmp_path / "probe.pth").open("wb") as out:
        save_model(out, training, digits, probe_of(parent), 0.5)
    check(load_model(tmp_path / "probe.pth"), digits, tmp_path)
