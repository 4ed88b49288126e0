"""Checkpoints: the list, and the files with ETag, Range and HEAD."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import Field
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from app.artifacts import ArtifactStore, DamagedFile
from app.jobs import Checkpoint, Record
from app.problems import ProblemResponse, responses
from app.routes.dependencies import Artifacts, JobId, Store
from app.store import NotRecorded

router = APIRouter(tags=["checkpoints"])


class CheckpointList(Record):
    """A job's checkpoints."""

    data: list[Checkpoint] = Field(description="Files that are complete and can be downloaded now.")


@router.get("/jobs/{job_id}/checkpoints", response_model=CheckpointList, responses=responses(404, 422))
def list_checkpoints(store: Store, job_id: JobId) -> CheckpointList:
    """What can be downloaded now; also while the job runs."""
    return CheckpointList(data=store.checkpoints(job_id))


def intact(artifacts: ArtifactStore, job_id: str, found: Checkpoint) -> tuple[Path, os.stat_result]:
    """The file of a recorded checkpoint, as it was written. Raises DamagedFile, NotRecorded."""
    path = artifacts.path(found.key)
    try:
        if not artifacts.is_intact(found.key, found.size, found.sha256):
            raise DamagedFile(
                f"The file of checkpoint '{found.name}' of job {job_id} is damaged: its sha256 is not the recorded "
                "one. Restore it from a backup or train the job again."
            )
        return path, path.stat()
    except FileNotFoundError as error:
        raise NotRecorded(
            f"The file of checkpoint '{found.name}' of job {job_id} is gone from the data folder. "
            "Somebody deleted it by hand; restore it from a backup or train the job again."
        ) from error


class _File(FileResponse):
    """A file whose refusals of a Range are problems, as all errors of this API are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: ProblemResponse | None = None

        async def inspect(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refusal = _refused_range(scope, message)
            if refusal is None:
                await send(message)

        await super().__call__(scope, receive, inspect)
        if refusal is not None:
            await refusal(scope, receive, send)


def _refused_range(scope: Scope, start: Message) -> ProblemResponse:
    asked, size = Headers(scope=scope).get("range", ""), Headers(raw=start["headers"]).get("content-range")
    return ProblemResponse(
        start["status"],
        "range_not_satisfiable",
        "There is no such range",
        f"Range is {asked[:100]!r}; expected bytes within the file, such as 'bytes=0-99'. HEAD tells its size.",
        instance=scope["path"],
        headers={"Content-Range": size} if size else None,
    )


_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range that was asked for."},
    304: {"description": "The file that you have is the newest."},
}


@router.get(
    "/jobs/{job_id}/checkpoints/{name}",
    response_class=FileResponse,
    responses={**_FILE, **responses(400, 404, 416, 422, 500)},
)
@router.head("/jobs/{job_id}/checkpoints/{name}", include_in_schema=False)
def get_checkpoint(
    request: Request,
    store: Store,
    artifacts: Artifacts,
    job_id: JobId,
    name: Annotated[
        str, PathParameter(max_length=64, description="Name of a checkpoint.", examples=["best_model.pth"])
    ],
    format: Annotated[
        Literal["pth", "safetensors", "onnx"] | None,
        Query(description="The same weights in another format; they are there once the job has succeeded."),
    ] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag that you have.")] = None,
) -> Response:
    """Download a checkpoint. The ETag is its sha256; ranges and HEAD work, also while the job runs. The file is checked
    before it is sent: a damaged one is reported.

    `best_model.pth` loads with `worker.training.load_model(path)`, or with `torch.load(path, weights_only=True)`.
    """
    if format is not None and "." in name:
        name = f"{name.rpartition('.')[0]}.{format}"
    found = store.checkpoint(job_id, name)
    if not artifacts.path(found.key).exists():
        found = store.checkpoint(job_id, name)  # an epoch may have ended between the two looks
    etag = f'"{found.sha256}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match):
        return Response(status_code=304, headers=headers)
    path, stat = intact(artifacts, job_id, found)
    return _File(
        path,
        media_type="application/octet-stream",
        filename=f"{job_id}-{name}",
        headers=headers,
        stat_result=stat,
    )
