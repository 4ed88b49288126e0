"""Convolutional networks: plain and residual differ in the skip connections alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from app.specs import CNNSpec, ResNetSpec
from worker.training.data import Data
from worker.training.models import CNN, build_net
from worker.training.models.cnn import Block, FastNet, Stage

CIFAR = (3, 32, 32)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def layers(net: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())


# millions of parameters, as table 6 of He et al. (2016) gives them
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_cifar_family_has_its_published_depth_and_size(depth: int, millions: float) -> None:
    net = build_net(ResNetSpec.model_validate({"kind": "resnet", "variant": f"resnet{depth}"}), CIFAR, 10)
    assert layers(net) == depth
    assert parameters(net) == pytest.approx(millions * 1e6, rel=0.03)


@pytest.mark.parametrize("blocks", [0, 1, 3, 18])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_plain_and_residual_stacks_have_the_same_parameters_and_initial_weights(blocks: int, norm: str) -> None:
    nets = []
    for residual in (False, True):
        torch.manual_seed(0)
        spec = {"kind": "cnn", "blocks": blocks, "norm": norm, "residual": residual}
        nets.append(build_net(CNNSpec.model_validate(spec), CIFAR, 10))
    plain, skipping = nets
    assert layers(plain) == layers(skipping) == 2 * blocks * 3 + 2
    theirs = skipping.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in plain.state_dict().items())


@pytest.mark.parametrize(("before", "after", "stride"), [(4, 4, 1), (4, 8, 2), (8, 4, 1), (4, 6, 1)])
def test_a_residual_block_adds_its_input(before: int, after: int, stride: int) -> None:
    block = Block(before, after, stride, residual=True, norm=True).eval()
    for weight in block.parameters():
        nn.init.zeros_(weight)  # f(x) = 0, so what is left is the skip
    x = torch.rand(2, before, 8, 7)
    y = block(x)
    skipped = x[:, :, ::stride, ::stride]
    assert y.shape == (2, after, *skipped.shape[2:])
    same = min(before, after)
    assert torch.equal(y[:, :same], skipped[:, :same])
    assert not y[:, same:].any()


@pytest.mark.parametrize(
    "spec",
    [
        ResNetSpec(kind="resnet", variant="resnet20"),
        ResNetSpec(kind="resnet", variant="fast"),
        CNNSpec(kind="cnn", residual=False),
        CNNSpec(kind="cnn", channels=[8, 12, 4]),
    ],
)
def test_gradients_between_blocks_are_channels_last(spec: CNNSpec | ResNetSpec) -> None:
    seen: list[bool] = []
    net = build_net(spec, CIFAR, 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def watch(block: nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))

    blocks = [module for module in net.modules() if isinstance(module, Block | Stage)]
    for block in blocks:
        block.register_forward_hook(watch)
    F.cross_entropy(net(torch.rand(4, *CIFAR)), torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
    assert len(seen) == len(blocks)
    assert all(seen)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), CIFAR, (3, 50, 41)])
@pytest.mark.parametrize("spec", [CNNSpec(kind="cnn"), ResNetSpec(kind="resnet", variant="fast")])
def test_any_image_size_gives_logits(shape: tuple[int, int, int], spec: CNNSpec | ResNetSpec) -> None:
    assert build_net(spec, shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


def test_a_hundred_layers_train_without_a_word() -> None:
    net = CNN((1, 8, 8), 3, (4, 4, 4), 17, residual=True)
    assert layers(net) == 104
    loss = nn.functional.cross_entropy(net(torch.rand(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())


def test_a_whitened_stem_answers_training_patches_with_equal_variance(digits: Data) -> None:
    torch.manual_seed(0)
    net = FastNet(digits.shape, 10, 32)
    fresh = net.stem[0].weight.clone()
    mean, std = (value.reshape(1, -1, 1, 1) for value in (digits.mean, digits.std))
    images = (digits.train.images[digits.train.index].float() / 255 - mean) / std
    net.whiten(images)
    weight = net.stem[0].weight
    assert torch.equal(weight[:16], -weight[16:])
    assert not torch.equal(weight, fresh)
    patches = F.unfold(images, (4, 4), stride=2).transpose(1, 2).flatten(0, 1)
    answers = patches @ weight[:16].flatten(1).T
    covariance = answers.T @ answers / len(answers)
    strong = covariance.diagonal() > 0.9  # components without variance stay small
    assert strong.sum() >= 10
    assert torch.allclose(covariance[strong][:, strong], torch.eye(int(strong.sum())), atol=0.1)
