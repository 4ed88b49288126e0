"""schemathesis against the live API: what OpenAPI promises is what is answered, whatever is sent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.service import Service

HERE = Path(__file__).parent


@pytest.mark.timeout(240)
def test_no_call_gets_an_answer_that_is_not_documented(service: Service, tmp_path: Path) -> None:
    api = service.api()
    command = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert command, "schemathesis is a part of the dev extra"
    ran = subprocess.run(
        [
            *(command, "--config-file", str(HERE / "schemathesis.toml"), "run", f"{service.url}/openapi.json"),
            # What belongs to a job (its evaluation, say) is there later than the job.
            *("--checks", "all", "--exclude-checks", "ensure_resource_availability"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "10"),
            # The same cases each time: a run that fails is about the change at hand.
            *("--seed", "1"),
            # Live streams do not end by themselves; tests/e2e/test_live.py is about them.
            *("--exclude-path-regex", "/events$", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert api.popen.poll() is None
    assert "Traceback" not in api.log.read_text()
