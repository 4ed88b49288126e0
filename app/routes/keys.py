"""API keys, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import Field, StringConstraints

from app.jobs import ApiKey, Record, Scope
from app.problems import BODY, responses
from app.routes.dependencies import Store
from app.specs import Value

router = APIRouter(tags=["keys"])

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\w.@-]+$")]


class KeyRequest(Value):
    """A key to make."""

    name: KeyName = Field(description="Name, to know it by.", examples=["lab"])
    scopes: Annotated[tuple[Scope, ...], Field(strict=False, min_length=1, max_length=3)] = Field(
        ("submit",), description="`read`, `submit` (and read), `admin` (everything).", examples=[["submit"]]
    )
    max_jobs: int | None = Field(None, ge=1, le=1_000_000, description="Jobs under way at a time.", examples=[10])


class NewKey(ApiKey):
    """A new key with its secret."""

    secret: str = Field(description="The key itself. It is shown this once and not stored.")


class KeyList(Record):
    """Keys."""

    data: list[ApiKey] = Field(description="Oldest first, revoked ones too.")


@router.get("/keys", response_model=KeyList, responses=responses())
def list_keys(store: Store) -> KeyList:
    """All keys, without their secrets."""
    return KeyList(data=store.list_keys())


@router.post(
    "/keys",
    status_code=status.HTTP_201_CREATED,
    response_model=NewKey,
    responses=responses(*BODY, 409, 422, 507),
)
def create_key(store: Store, request: KeyRequest) -> NewKey:
    """Make a key."""
    key, secret = store.create_key(request.name, request.scopes, request.max_jobs)
    return NewKey(**key.model_dump(), secret=secret)


@router.post("/keys/{name}/revoke", response_model=ApiKey, responses=responses(404, 422))
def revoke_key(store: Store, name: Annotated[KeyName, Path(description="Name of a key.")]) -> ApiKey:
    """Make a key useless, at once and for good."""
    return store.revoke_key(name)
