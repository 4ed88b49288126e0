"""The application as a whole: light to start, documented without internet."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

MEASURE = """
import sys, time
began = time.process_time()
import app.main
print(time.process_time() - began, *sorted({"torch", "torchvision", "wandb", "sklearn", "worker"} & set(sys.modules)))
"""


def test_the_api_is_imported_in_under_a_second_and_without_torch() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    seconds = [float(run.stdout.split()[0]) for run in runs]
    assert min(seconds) < 1, seconds
    assert all(len(run.stdout.split()) == 1 for run in runs), runs[0].stdout


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_pages_need_no_internet(api: TestClient, path: str) -> None:
    page = api.get(path).text
    sources = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert sources
    for source in sources:
        assert not re.match(r"(https?:)?//", source), source
        assert api.get(source).status_code == 200, source


def test_the_root_is_the_dashboard_and_its_files_are_of_this_machine(api: TestClient) -> None:
    page = api.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    sources = re.findall(r"""(?:src|href)=["'](/[^"']+)""", page.text)
    assert len(sources) > 5
    for source in sources:
        assert api.get(source).status_code == 200, source
    assert api.get("/dashboard/../app.js").status_code == 404
    assert api.get("/dashboard/nothing.js").json()["code"] == "not_found"


def test_every_operation_documents_its_problems(api: TestClient) -> None:
    """Each has words; what takes input may answer 422; and all errors are problem+json of one schema."""
    schema = api.get("/openapi.json").json()
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(schema)
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            if operation.get("parameters") or operation.get("requestBody"):
                assert "422" in errors, where
            if "{job_id}" in path:
                assert "404" in errors, where
            for status, answer in errors.items():
                assert list(answer["content"]) == ["application/problem+json"], f"{where} {status}"
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), f"{where} {parameter['name']}"
