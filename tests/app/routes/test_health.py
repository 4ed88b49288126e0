"""Probes."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app import __version__


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_service_in_health_says_so(api: TestClient, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})
