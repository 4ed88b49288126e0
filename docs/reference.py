"""Pages of the documentation that are made from the code: spec, API, commands, client, settings. A hook of MkDocs."""

from __future__ import annotations

import inspect
import re
import tempfile
from pathlib import Path
from typing import Any

import click
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic_core import PydanticUndefined

from app import client
from app.cli import __doc__ as exit_statuses
from app.cli import app as command_line
from app.main import create_app
from app.settings import Settings
from app.specs import JobSpec


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    with tempfile.TemporaryDirectory() as folder:
        schema = create_app(Settings(data_dir=Path(folder))).openapi()
    pages = {"spec": _spec(), "api": _api(schema), "cli": _cli(), "client": _client(), "settings": _settings()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


# --- the spec ------------------------------------------------------------------------------------------------


def _spec() -> str:
    schema = JobSpec.model_json_schema()
    parts = schema["$defs"]
    lines = ["# The spec", "", "Every field has a default: `{}` is the lab's Exercise 1. Unknown fields are refused."]
    lines += ["", "## The job", "", *_fields(schema, parts)]
    for name, part in parts.items():
        if "properties" in part:
            kind = part["properties"].get("kind", {}).get("const")
            title = f"`kind: {kind}`" if kind else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Spec"))
            lines += ["", f"## {title}", "", part.get("description", ""), "", *_fields(part, parts)]
    return "\n".join(lines)


def _fields(part: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in part.get("properties", {}).items():
        default = f"`{field['default']}`" if "default" in field and "const" not in field else ""
        meaning = field.get("description", "")
        rows.append(f"| `{name}` | {_cell(_type(field, parts))} | {_cell(default)} | {_cell(meaning)} |")
    return rows


def _type(field: dict[str, Any], parts: dict[str, Any]) -> str:
    if "$ref" in field:
        return field["$ref"].split("/")[-1].removesuffix("Spec")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " or ".join(_type(each, parts) for each in field[several])
    words = field.get("type", "")
    if words == "array":
        words = f"list of {_type(field.get('items', {}), parts) or 'values'}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field]
    return f"{words} {', '.join(limits)}".strip()


# --- the API -------------------------------------------------------------------------------------------------


def _api(schema: dict[str, Any]) -> str:
    lines = [
        "# The API",
        "",
        "Swagger UI at `/docs` and ReDoc at `/redoc` of a running service show all of this with schemas, and try it. "
        "Errors are `application/problem+json` (RFC 9457); lists are paged by cursor.",
    ]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            lines += ["", f"## `{method.upper()} {path}`", "", operation["description"]]
            parameters = [each for each in operation.get("parameters", []) if each["in"] != "path"]
            if parameters:
                lines += ["", "| parameter | in | meaning |", "| --- | --- | --- |"]
                for each in parameters:
                    lines.append(f"| `{each['name']}` | {each['in']} | {_cell(each.get('description', ''))} |")
            answers = [f"{status}: {_cell(each['description'])}" for status, each in operation["responses"].items()]
            own = [answer for answer in answers if answer[:3] not in ("401", "403", "421", "429", "503")]
            lines += ["", "Answers " + "; ".join(own)]
    return "\n".join(lines)


# --- the command line ----------------------------------------------------------------------------------------


def _cli() -> str:
    group = typer.main.get_command(command_line)
    lines = ["# The command line", "", *(exit_statuses or "").strip().splitlines()]
    lines += ["", "`whistlestop --install-completion` completes commands in your shell."]
    lines += _commands(group, "whistlestop")
    return "\n".join(lines)


def _commands(group: Any, path: str) -> list[str]:
    lines: list[str] = []
    for name, command in group.commands.items():
        whole = f"{path} {name}"
        if hasattr(command, "commands"):
            lines += _commands(command, whole)
            continue
        context = click.Context(command, info_name=whole)
        usage = " ".join(part for part in command.collect_usage_pieces(context) if part)
        lines += ["", f"## `{whole}`", "", " ".join((command.help or "").split()), "", f"    {whole} {usage}"]
        options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
        if options:
            lines += ["", "| option | meaning |", "| --- | --- |"]
            lines += [f"| `{', '.join(each.opts)}` | {_cell(each.help or '')} |" for each in options]
    return lines


# --- the client ----------------------------------------------------------------------------------------------


def _client() -> str:
    lines = ["# The Python client", "", inspect.getdoc(client) or ""]
    for kind in (client.Client, client.RunningJob, client.AsyncClient, client.AsyncRunningJob):
        lines += ["", f"## `{kind.__name__}`", "", inspect.getdoc(kind) or ""]
        for name, member in vars(kind).items():
            if inspect.isfunction(member) and (not name.startswith("_") or name == "__init__"):
                said = inspect.getdoc(member) if name != "__init__" else ""
                prefix = "async " if inspect.iscoroutinefunction(member) else ""
                signature = str(inspect.signature(member)).replace("(self, ", "(").replace("(self)", "()")
                words = "" if name == "__init__" else f"\n\n{said}"
                shown = kind.__name__ if name == "__init__" else name
                lines += ["", f"**`{prefix}{shown}{signature}`**{words}"]
    for error in (client.ApiError, client.Unreachable, client.DamagedFile, client.JobFailed):
        lines += ["", f"## `{error.__name__}`", "", inspect.getdoc(error) or ""]
    return "\n".join(lines)


# --- settings ------------------------------------------------------------------------------------------------


def _settings() -> str:
    lines = ["# Settings", "", "Environment variables, for the API, the workers and `whistlestop` alike.", ""]
    lines += ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined, "") else f"`{field.default}`"
        lines.append(f"| `WHISTLESTOP_{name.upper()}` | {_cell(default)} | {_cell(field.description or '')} |")
    lines += [
        "| `WHISTLESTOP_URL` | `http://127.0.0.1:8000` | The service that the command line and the client talk to. |",
        "| `WHISTLESTOP_KEY` |  | Their API key. |",
        "| `WANDB_API_KEY` |  | W&B's own, on the worker. |",
    ]
    return "\n".join(lines)
