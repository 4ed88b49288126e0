"""The dashboard's files, and the example specs that its form starts from."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import app
from app.jobs import Record
from app.problems import responses

router = APIRouter(tags=["examples"])

_PACKAGE = Path(app.__file__).parent
_FILES = _PACKAGE / "dashboard"


class Example(Record):
    """A spec that a person would submit."""

    name: str = Field(description="Its name.", examples=["exercise-1"])
    summary: str = Field(description="What it is, in a sentence or two.")
    text: str = Field(description="The spec, as YAML with comments.")


class ExampleList(Record):
    """Example specs."""

    data: list[Example] = Field(description="By name.")


class Files(StaticFiles):
    """The dashboard's own files. A browser asks each time whether they are still the newest."""

    def __init__(self) -> None:
        super().__init__(directory=_FILES)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


@router.get("/", include_in_schema=False)
def get_dashboard() -> FileResponse:
    """The page."""
    return FileResponse(_FILES / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/examples", response_model=ExampleList, responses=responses())
def list_examples() -> ExampleList:
    """Specs to start from, the lab's exercises among them."""
    # An installed package holds them; a clone has them beside it.
    folder = next(folder for folder in (_PACKAGE / "examples", _PACKAGE.parent / "examples") if folder.is_dir())
    return ExampleList(data=[_example(file) for file in sorted(folder.glob("*.yaml"))])


def _example(file: Path) -> Example:
    text = file.read_text()
    comments = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return Example(name=file.stem, summary=" ".join(comments), text=text)
