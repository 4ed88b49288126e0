"""The documentation: it builds, its links lead somewhere, and its commands do what it says, as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.printed import ROOT, blocks, run
from tests.e2e.service import Service

PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```bash" in path.read_text()]


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
    parts = []
    for number, (language, text) in enumerate(blocks(page, "bash", "python")):
        if language == "python":
            (tmp_path / f"{number}.py").write_text(text)
        parts.append(text if language == "bash" else f"python3 {number}.py")
    run(own, parts, tmp_path)
    assert {job["status"] for job in own.get("/jobs")["data"]} <= {"succeeded", "running", "queued"}
    for job in own.get("/jobs")["data"]:
        own.succeeded(job["id"])
