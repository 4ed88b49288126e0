"""The commands of a document, run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.service import Service

ROOT = Path(__file__).parents[2]


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Language and text of a page's code in these languages, in their order."""
    return re.findall(rf"^```({'|'.join(languages)})\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run(service: Service, parts: Sequence[str], folder: Path) -> str:
    """What some commands print, in one shell, one block after the other; only the port is the service's."""
    functions = f"whistlestop() {{ '{sys.executable}' -m app.cli \"$@\"; }}\n"
    functions += "curl() { command curl --fail-with-body --noproxy '*' \"$@\"; }\n"
    functions += f"python3() {{ '{sys.executable}' \"$@\"; }}\n"
    script = (functions + "\n".join(parts)).replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    environment = {**service.environment, "WHISTLESTOP_URL": service.url, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
