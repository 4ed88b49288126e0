"""The best weights in formats that need no PyTorch, or no code of ours, to be read."""

from __future__ import annotations

import io
import json
import warnings

import torch
from safetensors.torch import save
from torch import nn

from worker.training.checkpoint import LoadedModel


class CannotExport(RuntimeError):
    """ONNX has no word for something that the network does."""


def to_safetensors(model: LoadedModel, shape: tuple[int, int, int]) -> bytes:
    """The state dict, with the spec, the classes and the images' shape as metadata."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    return save(weights, _told(model, shape))


def to_onnx(model: LoadedModel, shape: tuple[int, int, int]) -> bytes:
    """A network from `images`, `[N, C, H, W] uint8`, to `logits`, `[N, classes]`. Raises CannotExport."""
    import onnx  # noqa: PLC0415  (half a second; and only jobs that succeed need it)

    out = io.BytesIO()
    plain = _Plain(model).cpu().eval()
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                plain,
                (torch.zeros(1, *shape, dtype=torch.uint8),),
                out,  # type: ignore[arg-type]
                dynamo=False,  # the newer exporter takes a hundred times as long, and onnxscript
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise CannotExport(" ".join(str(error).split())[:300]) from error
    made = onnx.load_from_string(out.getvalue())
    onnx.helper.set_model_props(made, _told(model, shape))
    content: bytes = made.SerializeToString()
    return content


class _Plain(nn.Module):
    """A classifier without the memory formats of training, which ONNX does not know."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.net = model.net.to(memory_format=torch.contiguous_format)
        self.register_buffer("scale", model.scale)
        self.register_buffer("shift", model.shift)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images.float() * self.scale + self.shift)  # type: ignore[no-any-return, operator]


def _told(model: LoadedModel, shape: tuple[int, int, int]) -> dict[str, str]:
    return {
        "spec": model.spec.model_dump_json(),
        "classes": json.dumps(model.classes),
        "input_shape": json.dumps(shape),
        "epoch": str(model.epoch),
        "val_loss": repr(model.val_loss),
    }
