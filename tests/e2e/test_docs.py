"""The documentation: it builds, its links lead somewhere, and its commands do what it says, as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.service import Service

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```bash" in path.read_text()]


def blocks(page: Path) -> list[tuple[str, str]]:
    """A page's commands and Python, in their order."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_site_is_built_without_a_warning_and_asks_for_nothing_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    site = tmp_path / "site"
    spec = (site / "reference" / "spec" / "index.html").read_text()
    for words in ("early_stopping", "overfit_patience", "linear_probe"):
        assert words in spec
    assert "whistlestop submit" in (site / "reference" / "cli" / "index.html").read_text()
    assert "/early-stopping/replay" in (site / "reference" / "api" / "index.html").read_text()
    assert "download_best" in (site / "reference" / "client" / "index.html").read_text()
    for page in site.rglob("*.html"):
        loaded = re.findall(r"""<(?:script|img|iframe)[^>]*\ssrc=["']([^"']+)""", page.read_text())
        loaded += re.findall(r"""<link[^>]*rel="(?:stylesheet|preload)"[^>]*href=["']([^"']+)""", page.read_text())
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], page


def test_pages_with_commands_are_found() -> None:
    assert {"tutorial.md", "fine-tune.md", "own-data.md", "wandb.md"} <= {page.name for page in PAGES}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_work_as_printed(own: Service, tmp_path: Path, page: Path) -> None:
    """In one shell, one block after the other; only the port is the test's."""
    functions = f"whistlestop() {{ '{sys.executable}' -m app.cli \"$@\"; }}\n"
    functions += "curl() { command curl --fail-with-body --noproxy '*' \"$@\"; }\n"
    functions += f"python3() {{ '{sys.executable}' \"$@\"; }}\n"
    parts = []
    for number, (language, text) in enumerate(blocks(page)):
        if language == "python":
            (tmp_path / f"{number}.py").write_text(text)
        parts.append(text if language == "bash" else f"python3 {number}.py")
    script = (functions + "\n".join(parts)).replace("127.0.0.1:8000", f"127.0.0.1:{own.port}")
    environment = {**own.environment, "WHISTLESTOP_URL": own.url, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {job["status"] for job in own.get("/jobs")["data"]} <= {"succeeded", "running", "queued"}
    for job in own.get("/jobs")["data"]:
        own.succeeded(job["id"])
