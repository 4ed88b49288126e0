"""Predictions: what a finished job's network makes of an image."""

from __future__ import annotations

import base64
import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import Field

from app.door import IMAGES
from app.jobs import Record
from app.predict import NoImage, Predictor
from app.problems import BODY, Refused, responses
from app.routes.checkpoints import intact
from app.routes.dependencies import Artifacts, JobId, Store
from app.specs import BEST

router = APIRouter(tags=["predictions"])

_ONNX = f"{BEST.removesuffix('.pth')}.onnx"
_IMAGE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in IMAGES},
    }
}


class ClassProbability(Record):
    """One class."""

    label: int = Field(description="Its number.", examples=[3])
    name: str = Field(description="Its name.", examples=["3"])
    probability: float = Field(description="What the network gives it; all of them add up to 1.", examples=[0.997])


class PredictionView(Record):
    """What a network makes of an image."""

    data: list[ClassProbability] = Field(description="Every class, the most probable first.")
    seen: str = Field(description="The image as the network saw it, a PNG as a data URL.")
    milliseconds: float = Field(description="How long it took.", examples=[1.8])


@router.post(
    "/jobs/{job_id}/predict",
    response_model=PredictionView,
    responses=responses(*BODY, 404, 422, 500),
    openapi_extra=_IMAGE,
)
def predict(
    store: Store,
    artifacts: Artifacts,
    request: Request,
    job_id: JobId,
    image: Annotated[bytes, Body(media_type="image/png", description="An image file.")],
) -> PredictionView:
    """What the best weights of a job that has succeeded make of an image, the body. It is made grey or RGB, as the
    training images were, scaled to cover their size and cut at the centre."""
    began = time.perf_counter()
    found = store.checkpoint(job_id, _ONNX)
    predictor: Predictor = request.app.state.predictor
    path, _ = intact(artifacts, job_id, found)
    try:
        made = predictor.predict(path, image)
    except NoImage as error:
        raise Refused(422, "no_image", "The image cannot be read", str(error)) from error
    ordered = sorted(enumerate(made.probabilities), key=lambda pair: -pair[1])
    return PredictionView(
        data=[ClassProbability(label=label, name=made.classes[label], probability=value) for label, value in ordered],
        seen=f"data:image/png;base64,{base64.b64encode(made.seen).decode()}",
        milliseconds=round(1000 * (time.perf_counter() - began), 2),
    )
