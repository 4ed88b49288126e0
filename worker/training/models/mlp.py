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
    """`input -> hidden... -> Dropout -> head`, with normalisation and activation after each hidden layer.

    With `residual`, each hidden layer computes `skip(x) + f(norm(linear(x)))` (He et al., 2016, arXiv:1512.03385),
    where `skip` is the identity if the widths agree and a bias-free linear projection if not.
    """

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
        pairs = list(itertools.pairwise(widths))
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)
        self.skips = nn.ModuleList(
            nn.Identity() if before == after else nn.Linear(before, after, bias=False)
            for before, after in (pairs if residual else [])
        )
        self.norms = nn.ModuleList(_NORMS[norm](width) for width in hidden)
        self.activation = _ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` float images to `[N, classes]` logits."""
        x = images.flatten(1)
        for index, layer in enumerate(self.layers):
            y = self.activation(self.norms[index](layer(x)))
            x = self.skips[index](x) + y if len(self.skips) else y
        logits: Tensor = self.head(self.dropout(x))
        return logits
