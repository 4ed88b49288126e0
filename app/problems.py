"""Errors as `application/problem+json` (RFC 9457): what is wrong, with which value, and what to do about it."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from app.artifacts import DamagedFile
from app.datasets import DatasetExists, DatasetFixed, NotPrepared, UnknownDataset, UploadRefused
from app.fields import FieldProblem, told
from app.jobs import NotYours
from app.store import (
    IdempotencyConflict,
    IllegalTransition,
    InvalidCursor,
    JobNotFound,
    KeyExists,
    NothingToStop,
    NotRecorded,
    ParentInUse,
    QuotaExceeded,
    StoreUnavailable,
    UnknownKey,
    UnusableDependency,
    UnusableParent,
)

log = logging.getLogger("whistlestop.api")

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field("about:blank", description="A URI of the kind of problem.", examples=["urn:whistlestop:invalid"])
    title: str = Field(description="The kind of problem in words.", examples=["The request is not valid"])
    status: int = Field(description="HTTP status.", examples=[422])
    code: str = Field(description="A word for programs.", examples=["invalid"])
    detail: str = Field(description="This problem in words.", examples=["1 field is wrong: #/model/hidden/0 ..."])
    instance: str = Field(description="The path that was called.", examples=["/jobs"])
    errors: list[FieldProblem] = Field(default=[], description="The bad fields, if any.")


class ProblemResponse(Response):
    """A problem on the wire."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        instance: str,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        problem = Problem(
            type=f"urn:whistlestop:{code.replace('_', '-')}",
            title=title,
            status=status,
            code=code,
            detail=detail,
            instance=instance,
            errors=list(errors),
        )
        body = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=True).encode()
        super().__init__(body, status, headers)


BODY = (400, 408, 413, 415)  # what may be wrong with a body as such


class Refused(HTTPException):
    """A refusal of the middleware around the application, or from inside it where a body is read there."""

    def __init__(self, status: int, code: str, title: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.code, self.title = code, title

    def response(self, instance: str) -> ProblemResponse:
        """The refusal on the wire."""
        headers = dict(self.headers) if self.headers else None
        return ProblemResponse(self.status_code, self.code, self.title, self.detail, instance=instance, headers=headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for OpenAPI. Those of keys, sites and the database are every one's."""
    words = {
        400: "The request cannot be read.",
        401: "The door is locked and the call has no valid key.",
        403: "The key does not allow this, or the call comes from another site.",
        404: "There is no such thing.",
        408: "The body came too slowly.",
        409: "The job's status, or an earlier call, does not allow this.",
        413: "The body is too large.",
        415: "The body is of a type that is not understood.",
        416: "The range lies outside the file.",
        421: "The call is addressed to a name that is not this machine's.",
        422: "A field is wrong.",
        429: "Too many calls, or too many jobs under way.",
        500: "The file is damaged.",
        507: "The disk is full. Nothing was kept.",
        503: "The database cannot be used now. Nothing was changed; try again.",
    }
    schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": words[status], "content": schema} for status in (*statuses, 401, 403, 421, 429, 503)
    }


_REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    JobNotFound: (404, "job_not_found", "No such job"),
    NotRecorded: (404, "not_recorded", "Not there (yet)"),
    IllegalTransition: (409, "illegal_transition", "The job's status does not allow this"),
    ParentInUse: (409, "parent_in_use", "Other jobs need this one"),
    DatasetExists: (409, "dataset_exists", "The name is taken"),
    DatasetFixed: (409, "dataset_fixed", "Only what was uploaded can be deleted"),
    NotPrepared: (404, "not_prepared", "Not there (yet)"),
    DamagedFile: (500, "checkpoint_damaged", "The file is damaged"),
    NotYours: (403, "not_yours", "The job belongs to another key"),
    NothingToStop: (409, "nothing_to_stop", "There are no weights to keep"),
    QuotaExceeded: (429, "quota_exceeded", "Too many jobs under way"),
    KeyExists: (409, "key_exists", "The name is taken"),
    UnknownKey: (404, "unknown_key", "No such key"),
    IdempotencyConflict: (409, "idempotency_conflict", "The idempotency key was used for another body"),
}


class BadField(ValueError):
    """A field of a body that only the route can judge."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.pointer = f"#/{name}" if name else "#"


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request, error)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _refused(request, error)

    @app.exception_handler(BadField)
    async def bad_field(request: Request, error: BadField) -> Response:
        return _of_fields(request, [FieldProblem(pointer=error.pointer, code="invalid", message=str(error))])

    @app.exception_handler(UnusableDependency)
    async def bad_dependency(request: Request, error: UnusableDependency) -> Response:
        if request.url.path != "/jobs":
            return ProblemResponse(
                409, "dependency_failed", "Another job must succeed first", str(error), instance=request.url.path
            )
        field = FieldProblem(pointer="#/after", code="unusable_dependency", message=str(error))
        return _of_fields(request, [field])

    @app.exception_handler(InvalidCursor)
    async def bad_cursor(request: Request, error: InvalidCursor) -> Response:
        field = FieldProblem(parameter="cursor", code="invalid_cursor", message=str(error))
        return _of_fields(request, [field])

    @app.exception_handler(UnusableParent)
    async def bad_parent(request: Request, error: UnusableParent) -> Response:
        field = FieldProblem(pointer="#/init_from/job", code="unusable_parent", message=str(error))
        return _of_fields(request, [field])

    @app.exception_handler(UnknownDataset)
    async def unknown_dataset(request: Request, error: UnknownDataset) -> Response:
        if request.url.path != "/jobs":
            return ProblemResponse(404, "unknown_dataset", "No such data set", str(error), instance=request.url.path)
        field = FieldProblem(pointer="#/dataset/name", code="unknown_dataset", message=str(error))
        return _of_fields(request, [field])

    @app.exception_handler(UploadRefused)
    async def bad_upload(request: Request, error: UploadRefused) -> Response:
        status, code = (413, "body_too_large") if error.too_large else (422, "bad_dataset")
        return ProblemResponse(status, code, "The archive is no data set", str(error), instance=request.url.path)

    @app.exception_handler(OSError)
    async def storage(request: Request, error: OSError) -> Response:
        log.error("%s", error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        status, code = (507, "disk_full") if full else (503, "storage_unavailable")
        detail = f"The data folder cannot be used: {error.strerror or error}. Nothing was kept; try again."
        return ProblemResponse(
            status, code, "The disk cannot be used now", detail, instance=request.url.path, headers={"Retry-After": "5"}
        )

    @app.exception_handler(StoreUnavailable)
    async def unavailable(request: Request, error: StoreUnavailable) -> Response:
        log.error("%s", error)
        status, code = (507, "disk_full") if error.full else (503, "database_unavailable")
        return ProblemResponse(
            status,
            code,
            "The database cannot be used now",
            str(error),
            instance=request.url.path,
            headers={"Retry-After": "5"},
        )

    for kind, (status, code, title) in _REFUSALS.items():

        def refusal(
            request: Request, error: Exception, status: int = status, code: str = code, title: str = title
        ) -> Response:
            return ProblemResponse(status, code, title, str(error), instance=request.url.path)

        app.add_exception_handler(kind, refusal)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # The traceback goes to the service's log (starlette re-raises it to the server), never to the user.
        return ProblemResponse(
            500,
            "internal_error",
            "A fault of the service",
            "The service failed to answer this call; its log says why. Nothing that you sent caused a change "
            "unless a later GET shows it.",
            instance=request.url.path,
        )


_HTTP = {
    400: ("unreadable_body", "The body cannot be read"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
}


def _refused(request: Request, error: HTTPException) -> Response:
    path = request.url.path
    if isinstance(error, Refused):
        return error.response(path)
    details = {
        404: f"There is nothing at {path}. /docs lists what there is.",
        405: f"{request.method} is not something that {path} answers; /docs lists what it does.",
        400: "The body cannot be read as JSON: it must be UTF-8 text with a JSON object, such as {}.",
    }
    detail = details.get(error.status_code, str(error.detail))
    code, title = _HTTP.get(error.status_code, ("refused", "Refused"))
    headers = dict(error.headers) if error.headers else {}
    if error.status_code == 405:  # the router names the methods of the first route that has this path only
        headers["Allow"] = ", ".join(_methods_at(request))
    return ProblemResponse(error.status_code, code, title, detail, instance=path, headers=headers)


def _methods_at(request: Request) -> list[str]:
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches({**request.scope, "method": "GET"})[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found)


def _invalid(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    broken = next((problem for problem in found if problem["type"] == "json_invalid"), None)
    if broken is not None:
        where, why = broken["loc"][-1], broken.get("ctx", {}).get("error", "")
        detail = f"The body is not JSON: {why} at character {where}. Send a JSON object; {{}} is the default job."
        return ProblemResponse(400, "unreadable_body", "The body cannot be read", detail, instance=request.url.path)
    return _of_fields(request, told(found))


def _of_fields(request: Request, fields: Sequence[FieldProblem]) -> Response:
    count = "1 field is" if len(fields) == 1 else f"{len(fields)} fields are"
    listed = "; ".join(f"{field.pointer or field.parameter}: {field.message}" for field in fields[:5])
    more = "; ..." if len(fields) > 5 else ""
    return ProblemResponse(
        422,
        "invalid",
        "The request is not valid",
        f"{count} wrong: {listed}{more}",
        instance=request.url.path,
        errors=fields[:100],
    )
