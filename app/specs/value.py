"""What all parts of a spec have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Width = Annotated[int, Field(ge=1, le=65_536)]


class Value(BaseModel):
    """A frozen value: unknown fields are refused, types are not coerced, NaN and infinity are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def default_kind(kind: str) -> BeforeValidator:
    """A part of a union that names no kind is of the default kind, so that `{"lr": 0.01}` is a whole optimiser."""
    return BeforeValidator(lambda part: {"kind": kind, **part} if isinstance(part, dict) else part)
