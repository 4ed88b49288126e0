"""Query parameters: none that the call does not know, and none twice that counts once."""

from __future__ import annotations

from collections import Counter
from typing import get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from app.nearest import suggestion


async def check(request: Request) -> None:
    """Raises RequestValidationError: a misspelt filter would list every job, a misspelt `dry_run` would submit one."""
    route: APIRoute = request.scope["route"]
    if not request.query_params or not route.include_in_schema:
        return
    is_list = {each.alias: get_origin(each.field_info.annotation) is tuple for each in route.dependant.query_params}
    wrong = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in is_list:
            hint = suggestion(name, is_list, "it has") if is_list else "it has none"
            kind, words = "unknown_parameter", f"{request.method} {route.path} has no such parameter; {hint}"
        elif count > 1 and not is_list[name]:
            kind, words = "repeated_parameter", f"it is given {count} times; give it once"
        else:
            continue
        wrong.append({"type": kind, "loc": ("query", name), "msg": words, "input": request.query_params[name]})
    if wrong:
        raise RequestValidationError(wrong)
