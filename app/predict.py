"""Predictions of finished jobs' networks, by ONNX Runtime in this process. Knows nothing of jobs or HTTP.

The runtime is imported at the first prediction; an API that is never asked for one does without.
"""

from __future__ import annotations

import io
import json
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from app.imagefolder import fitted

if TYPE_CHECKING:
    import onnxruntime

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 25_000_000
_KEPT = 4  # networks in memory


class NoImage(ValueError):
    """The body is no image, or one with far too many pixels."""


class _Network(NamedTuple):
    session: onnxruntime.InferenceSession
    classes: list[str]
    shape: tuple[int, int, int]


class Prediction(NamedTuple):
    """Probabilities of the classes, in their order; and the image as the network saw it, as a PNG."""

    classes: list[str]
    probabilities: list[float]
    seen: bytes


class Predictor:
    """Networks in files that `worker.training.export.to_onnx` wrote, the last few of them kept in memory."""

    def __init__(self) -> None:
        self._networks: OrderedDict[Path, _Network] = OrderedDict()
        self._lock = threading.Lock()

    def predict(self, path: Path, content: bytes) -> Prediction:
        """What the network in `path` makes of an image file. The image is made grey or RGB, as the training images
        were, scaled to cover their size and cut at the centre. Raises NoImage, OSError."""
        network = self._network(path)
        channels, height, width = network.shape
        image = _image(content, channels, (width, height))
        import numpy as np  # noqa: PLC0415

        pixels = np.asarray(image)
        images = pixels[None, None] if channels == 1 else pixels.transpose(2, 0, 1)[None]
        (logits,) = network.session.run(["logits"], {"images": np.ascontiguousarray(images)})
        powers = np.exp(logits[0] - logits[0].max())
        seen = io.BytesIO()
        image.save(seen, "PNG")
        return Prediction(network.classes, (powers / powers.sum()).tolist(), seen.getvalue())

    def _network(self, path: Path) -> _Network:
        with self._lock:
            if path not in self._networks:
                self._networks[path] = _loaded(path)
            self._networks.move_to_end(path)
            while len(self._networks) > _KEPT:
                self._networks.popitem(last=False)
            return self._networks[path]


def _loaded(path: Path) -> _Network:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the cores are the training's
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    channels, height, width = json.loads(told["input_shape"])
    return _Network(session, json.loads(told["classes"]), (channels, height, width))


def _image(content: bytes, channels: int, size: tuple[int, int]) -> Image.Image:
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise NoImage(f"The image has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,}.")
            return fitted(image, channels, size)
    except NoImage:
        raise
    except Exception as error:
        # Pillow raises what its plugins happen to: OSError, ValueError, SyntaxError, struct.error, ...
        raise NoImage(f"The body is no image that can be decoded (one of {', '.join(FORMATS)}).") from error
