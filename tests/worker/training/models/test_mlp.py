"""The MLP, plain and residual, and the normalisation around it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from app.specs import MLPSpec
from worker.training.models import MLP, Classifier, build_net


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_exercise_1_has_the_lab_s_layers() -> None:
    net = build_net(MLPSpec(), (1, 28, 28), 10)
    assert parameters(net) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.2]
    assert net(torch.randn(5, 1, 28, 28)).shape == (5, 10)


def test_it_computes_what_the_lab_writes_down() -> None:
    net = MLP((1, 4, 4), 3, [8, 6], dropout=0.5, residual=False).eval()
    x = torch.randn(7, 1, 4, 4)
    first, second = net.layers
    expected = net.head(torch.relu(second.linear(torch.relu(first.linear(x.flatten(1))))))
    assert torch.equal(net(x), expected)


def test_a_residual_layer_adds_its_input_projected_where_the_widths_change() -> None:
    net = MLP((1, 4, 4), 3, [8, 8], dropout=0.0, residual=True).eval()
    x = torch.randn(7, 1, 4, 4)
    first, second = net.layers
    hidden = first.skip(x.flatten(1)) + torch.relu(first.linear(x.flatten(1)))
    assert torch.equal(net(x), net.head(hidden + torch.relu(second.linear(hidden))))
    assert isinstance(second.skip, nn.Identity)


@pytest.mark.parametrize("depth", [1, 40])
def test_where_the_widths_agree_plain_and_residual_have_the_same_parameters(depth: int) -> None:
    plain, residual = (MLP((1, 4, 4), 3, [16] * depth, 0.0, residual) for residual in (False, True))
    assert parameters(plain) == parameters(residual)


def test_a_classifier_normalises_bytes_by_the_training_split() -> None:
    mean, std = torch.tensor([0.25, 0.5]), torch.tensor([0.125, 0.3])
    model = Classifier(nn.Flatten(), mean, std)
    images = torch.randint(0, 256, (4, 2, 3, 3), dtype=torch.uint8)
    expected = (images / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(model(images), expected.flatten(1), atol=1e-5)
