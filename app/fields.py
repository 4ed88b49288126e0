"""Bad fields in words: where they are, what was expected, and the value that was seen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, Field

from app.nearest import suggestion
from app.specs import JobSpec

_SHOWN = 200  # characters of a bad value that an error repeats


class FieldProblem(BaseModel):
    """One bad field."""

    pointer: str | None = Field(None, description="JSON pointer into the body.", examples=["#/model/hidden/0"])
    parameter: str | None = Field(None, description="Name of the query, path or header parameter.", examples=["limit"])
    code: str = Field(description="A word for programs.", examples=["greater_than_equal"])
    message: str = Field(description="What was expected and what to do.", examples=["must be at least 1"])
    value: Any = Field(None, description="The value that was seen.", examples=[-3])


def told(errors: Sequence[Any]) -> list[FieldProblem]:
    """What Pydantic's errors say of a request."""
    # Pydantic also calls a list too short whose members are wrong: the members are what there is to say.
    places = [error["loc"] for error in errors]
    return [
        _field(error)
        for error in errors
        if error["type"] != "too_short"
        or not any(len(place) > len(error["loc"]) and place[: len(error["loc"])] == error["loc"] for place in places)
    ]


def _field(problem: dict[str, Any]) -> FieldProblem:
    place, *location = problem["loc"]
    kind, value = problem["type"], problem.get("input")
    message = _message(problem, location)
    if place != "body":
        return FieldProblem(parameter=str(location[0])[:_SHOWN], code=kind, message=message, value=_shown(value))
    # The tag of a union is in the location, but not in the body.
    steps = [step for step in location if step not in _TAGS]
    escaped = [str(step).replace("~", "~0").replace("/", "~1") for step in steps]
    pointer = "#" + "".join(f"/{step}" for step in escaped)
    return FieldProblem(pointer=pointer, code=kind, message=message, value=_shown(value))


def known_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the part of `model` at `location`, a Pydantic error location.

    A tagged union puts the tag into the location (`("optimizer", "adam", "lrr")`); a tag selects the member.
    """
    parts: list[type[BaseModel]] = [model]
    for step in location:
        tagged = [part for part in parts if _tag(part) == step]
        if tagged:
            parts = tagged
            continue
        fields = [part.model_fields[step] for part in parts if step in part.model_fields]
        parts = [member for field in fields for member in _models_in(field.annotation)]
    return sorted({name for part in parts for name in part.model_fields})


def _kinds() -> frozenset[str]:
    """The tags of all unions in a spec."""
    parts = (part for field in JobSpec.model_fields.values() for part in _models_in(field.annotation))
    return frozenset(tag for part in parts if (tag := _tag(part)) is not None)


def _tag(part: type[BaseModel]) -> str | None:
    kind = part.model_fields.get("kind")
    return get_args(kind.annotation)[0] if kind else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for member in getattr(annotation, "__args__", ()) for model in _models_in(member)]


_TAGS = _kinds()


def _message(problem: dict[str, Any], location: list[Any]) -> str:
    kind, ctx = problem["type"], problem.get("ctx", {})
    if kind == "missing" and not location:
        return "a body is needed; send {} for the default job (Exercise 1)"
    if kind == "extra_forbidden":
        hint = suggestion(str(location[-1]), known_names(JobSpec, tuple(location[:-1])))
        return f"unknown field '{str(location[-1])[:_SHOWN]}'; {hint}"
    if kind == "union_tag_invalid":
        return f"unknown kind {str(ctx['tag'])[:_SHOWN]!r}; known: {ctx['expected_tags']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"expected an object with fields, got {type(problem.get('input')).__name__}"
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"{message}; got {_in_words(problem.get('input'))}"


def _in_words(value: Any) -> str:
    shown = _shown(value)
    return shown if isinstance(shown, str) and shown.startswith("<") else json.dumps(shown)


def _shown(value: Any) -> Any:
    """A bad value, short enough to repeat and safe to write as JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < 1e300 and math.isfinite(value) else str(value)[:_SHOWN]
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
    if isinstance(value, dict | list | tuple):
        return f"<{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}>"
    return f"<{type(value).__name__}>"
