"""Fine-tuning: what trains, when, and how fast."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from app.specs import InitFromSpec, JobSpec
from tests.worker.training.conftest import spec_of
from tests.worker.training.test_trainer import begin, bits, run
from worker.training.data import Data
from worker.training.finetune import UnknownBlock, blocks_of, trained_blocks

CNN = {"kind": "cnn", "channels": [4, 8], "blocks": 1}
BLOCKS = ["stem", "blocks.0", "blocks.1", "head"]


def child(**init: Any) -> JobSpec:
    """A fine-tuning job; its parent's weights play no part here."""
    return spec_of(model=CNN, init_from={"job": "parent", **init}, optimizer={"kind": "sgd", "lr": 0.1})


def moved(spec: JobSpec, data: Data) -> set[str]:
    """The blocks whose weights are other ones after training."""
    before, (after, _) = bits(begin(spec, data)), run(spec, data)
    changed = bits(after)
    names = {name for name, _ in after.model.named_parameters()}
    return {name.split(".", 1)[1].rsplit(".", 1)[0] for name in names if before[name] != changed[name]}


def test_blocks_go_from_the_first_layer_to_the_head(digits: Data) -> None:
    assert list(blocks_of(begin(child(), digits).model)) == BLOCKS


@pytest.mark.parametrize(
    ("init", "epoch", "trained"),
    [
        ({}, 1, BLOCKS),
        ({"freeze": "backbone"}, 1, BLOCKS[3:]),
        ({"freeze": "until:blocks.1"}, 1, BLOCKS[2:]),
        ({"unfreeze_every": 2}, 1, BLOCKS[3:]),
        ({"unfreeze_every": 2}, 2, BLOCKS[3:]),
        ({"unfreeze_every": 2}, 3, BLOCKS[2:]),
        ({"unfreeze_every": 2}, 50, BLOCKS),
        ({"unfreeze_every": 1, "freeze": "until:blocks.0"}, 50, BLOCKS[1:]),
        ({"unfreeze_every": 1, "freeze": "until:blocks.0"}, None, BLOCKS[1:]),
    ],
)
def test_what_trains_follows_from_spec_and_epoch(init: dict[str, Any], epoch: int | None, trained: list[str]) -> None:
    spec = InitFromSpec.model_validate({"job": "parent", **init})
    assert trained_blocks(spec, BLOCKS, epoch) == trained


def test_an_unknown_block_is_told_with_the_known_ones(digits: Data) -> None:
    with pytest.raises(
        UnknownBlock, match=r"'until:layer9'; the blocks of this model are stem, blocks.0, blocks.1, head"
    ):
        begin(child(freeze="until:layer9"), digits)


def test_frozen_blocks_keep_their_bits(digits: Data) -> None:
    assert moved(child(freeze="backbone"), digits) == {"head"}
    tail = moved(child(freeze="until:blocks.1"), digits)
    assert {name.split(".first")[0].split(".second")[0] for name in tail} == {"blocks.1", "head"}


def test_frozen_norms_keep_weights_and_statistics(digits: Data) -> None:
    spec = child(freeze_norms=True)
    before, (after, _) = begin(spec, digits).model.state_dict(), run(spec, digits)
    for name, value in after.model.state_dict().items():
        norm = "running" in name or "norm" in name
        assert torch.equal(value, before[name]) or not norm, name
    assert "running_mean" in str(list(before))


def test_each_block_learns_slower_than_the_one_behind_it(digits: Data) -> None:
    training = begin(child(layer_decay=0.5), digits)
    rates = {id(weight): group["lr"] for group in training.optimizer.param_groups for weight in group["params"]}
    found = [{rates[id(weight)] for weight in block} for block in blocks_of(training.model).values()]
    assert found == [{0.1 / 8}, {0.1 / 4}, {0.1 / 2}, {0.1}]
    assert training.optimizer.param_groups[0]["lr"] == 0.1, "the learning rate that an epoch row tells"


def test_gradual_unfreezing_resumes_to_the_same_bits(digits: Data) -> None:
    spec = child(unfreeze_every=1, layer_decay=0.7)
    (one, _), (two, _) = run(spec, digits), run(spec, digits)
    assert bits(one) == bits(two)
    assert len(moved(spec, digits)) > 3
