"""Fine-tuning: which blocks of layers train, when, and at which learning rate.

All of it follows from (spec, epoch), so a resumed attempt goes on as an undisturbed one would.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from app.specs import InitFromSpec
from worker.training.models import Classifier, block_of


class UnknownBlock(ValueError):
    """`freeze: until:<block>` names a block that the model does not have."""


def blocks_of(model: Classifier) -> dict[str, list[nn.Parameter]]:
    """The model's weights by block, from the first layer to the head, which is the last."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(block_of(name), []).append(parameter)
    return found


def trained_blocks(init: InitFromSpec, blocks: Sequence[str], epoch: int | None) -> Sequence[str]:
    """Those of the blocks that train in an epoch; with None, in any epoch. Raises UnknownBlock."""
    first = 0
    if init.freeze == "backbone":
        first = len(blocks) - 1
    elif init.freeze != "none":
        name = init.freeze.removeprefix("until:")
        if name not in blocks:
            raise UnknownBlock(
                f"init_from.freeze is {init.freeze!r}; the blocks of this model are {', '.join(blocks)}."
            )
        first = blocks.index(name)
    if init.unfreeze_every is not None and epoch is not None:
        first = max(first, len(blocks) - 1 - (epoch - 1) // init.unfreeze_every)
    return blocks[first:]


def set_trained(model: Classifier, init: InitFromSpec | None, epoch: int | None) -> None:
    """Training mode, with gradients for the weights that train in an epoch (None: in any) and for no others.

    Raises UnknownBlock.
    """
    model.train()
    if init is None:
        return
    blocks = blocks_of(model)
    trained = trained_blocks(init, list(blocks), epoch)
    for name, parameters in blocks.items():
        for parameter in parameters:
            parameter.requires_grad_(name in trained)
    if init.freeze_norms:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
                module.requires_grad_(False)


def lr_groups(model: Classifier, init: InitFromSpec | None) -> list[tuple[float, list[nn.Parameter]]]:
    """Weights that train in any epoch, with the share of the learning rate that they have; the head first."""
    decay = 1.0 if init is None else init.layer_decay
    blocks = list(reversed(blocks_of(model).values()))
    groups = blocks if decay < 1 else [[parameter for block in reversed(blocks) for parameter in block]]
    shares = [
        (decay**depth, [weight for weight in group if weight.requires_grad]) for depth, group in enumerate(groups)
    ]
    return [(share, weights) for share, weights in shares if weights]
