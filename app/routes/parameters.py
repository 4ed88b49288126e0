"""Query parameters: none that the call does not know, and none twice that counts once."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


async def check(request: Request) -> None:
    """Raises RequestValidationError: a misspelt filter would list every job, a misspelt `dry_run` would submit one."""
    route: APIRoute = request.scope["route"]
    if not request.query_params or not route.include_in_schema:
        return
    is_list = {each.alias: get_origin(each.field_info.annotation) is tuple for each in route.dependant.query_params}
    wrong = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in is_list:
            kind, words = (
                "unknown_parameter",
                f"{request.method} {route.path} has no such parameter; {_near(name, is_list)}",
            )
        elif count > 1 and not is_list[name]:
            kind = "repeated_parameter"
            words = f"it is given {count} times; give it once"
        else:
            continue
        wrong.append({"type": kind, "loc": ("query", name), "msg": words, "input": request.query_params[name]})
    if wrong:
        raise RequestValidationError(wrong)


def _near(name: str, known: dict[str, bool]) -> str:
    if not known:
        return "it has none"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
