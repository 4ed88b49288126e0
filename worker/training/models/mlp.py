"""The multilayer perceptron, plain and residual."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda _: nn.Identity(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MLP(nn.Module):
    """`input -> hidden... -> Dropout -> head`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        hidden: Sequence[int],
        dropout: float,
        residual: bool,
        norm: str = "none",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        widths = [math.prod(shape), *hidden]
        self.layers = nn.Sequential(
            *(Layer(before, after, residual, norm, activation) for before, after in itertools.pairwise(widths))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` float images to `[N, classes]` logits."""
        logits: Tensor = self.head(self.dropout(self.layers(images.flatten(1))))
        return logits


class Layer(nn.Module):
    """A hidden layer, `f(norm(linear(x)))`. With `residual`, `skip(x) + f(norm(linear(x)))` (He et al., 2016,
    arXiv:1512.03385), where `skip` is the identity if the widths agree and a bias-free linear projection if not."""

    def __init__(self, before: int, after: int, residual: bool, norm: str, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after)
        self.norm = _NORMS[norm](after)
        self.activation = _ACTIVATIONS[activation]
        self.skip: nn.Module | None = None
        if residual:
            self.skip = nn.Identity() if before == after else nn.Linear(before, after, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, before]` to `[N, after]`."""
        y = self.activation(self.norm(self.linear(x)))
        return y if self.skip is None else self.skip(x) + y
