"""torchvision's classifiers on any data set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision

from app.specs import TORCHVISION, TorchvisionSpec
from worker.training.checkpoint import BadCheckpoint, init_from_pretrained
from worker.training.models import Classifier, ModelUnavailable, build_net, head_names, pretrained_url


def spec_of(name: str, image_size: int | None = None) -> TorchvisionSpec:
    return TorchvisionSpec(kind="torchvision", name=name, image_size=image_size)


def test_every_classifier_of_torchvision_can_be_named() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) >= 80
    assert [name for name in names if not re.match(TORCHVISION, name)] == []


@pytest.mark.parametrize(
    ("name", "image_size", "shape"),
    [
        ("resnet18", None, (3, 32, 32)),
        ("resnet18", 64, (1, 28, 28)),
        ("squeezenet1_1", 64, (1, 8, 8)),
        ("vit_b_32", 32, (3, 32, 32)),
        ("googlenet", 64, (3, 32, 32)),
        ("densenet121", 32, (1, 28, 28)),
    ],
)
def test_a_model_takes_the_data_set_s_images_and_classes(
    name: str, image_size: int | None, shape: tuple[int, int, int]
) -> None:
    net = build_net(spec_of(name, image_size), shape, 7).train()
    assert net(torch.rand(2, *shape)).shape == (2, 7)


def test_an_image_that_is_too_small_is_told_with_what_to_do() -> None:
    with pytest.raises(ModelUnavailable, match=r"alexnet does not take images of 28 pixels .* Set model\.image_size"):
        build_net(spec_of("alexnet"), (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("vit_b_32", "heads.head"),
    ],
)
def test_the_head_is_what_follows_from_the_number_of_classes(name: str, head: str) -> None:
    found = head_names(spec_of(name, 64), (3, 32, 32), 10)
    assert found == {f"net.net.{head}.weight", f"net.net.{head}.bias"}


def test_pretrained_weights_are_taken_all_but_the_head(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)  # 1,000 classes, as they are offered
    torch.save(theirs.state_dict(), tmp_path / "shufflenet.pth")
    spec = spec_of("shufflenet_v2_x0_5", 64)
    unit = torch.ones(3)
    model = Classifier(build_net(spec, (3, 32, 32), 10), unit, unit)
    head = {name: weight.clone() for name, weight in model.state_dict().items() if ".fc." in name}
    init_from_pretrained(tmp_path / "shufflenet.pth", model, head_names(spec, (3, 32, 32), 10))
    for name, weight in model.state_dict().items():
        if name in head:
            assert torch.equal(weight, head[name])
        elif name not in ("scale", "shift"):
            assert torch.equal(weight, theirs.state_dict()[name.removeprefix("net.net.")])
    other = spec_of("squeezenet1_1", 64)
    with pytest.raises(BadCheckpoint, match="do not fit this model"):
        model = Classifier(build_net(other, (3, 32, 32), 10), unit, unit)
        init_from_pretrained(tmp_path / "shufflenet.pth", model, head_names(other, (3, 32, 32), 10))


def test_weights_that_torchvision_does_not_have_are_told_with_those_that_it_has() -> None:
    assert pretrained_url("resnet18", "DEFAULT").endswith("/resnet18-f37072fd.pth")
    with pytest.raises(ModelUnavailable, match="no weights 'IMAGENET22K' of resnet18; it has IMAGENET1K_V1, DEFAULT"):
        pretrained_url("resnet18", "IMAGENET22K")
