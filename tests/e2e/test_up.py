"""`whistlestop up`: both processes in one terminal."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.service import Service, running, still_alive, until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_brings_up_both_and_a_signal_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as service:
        up = service.start("app.cli", "up")
        until("it says where it is", lambda: f"{service.url}/docs Swagger UI" in up.log.read_text())
        job_id = service.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 2}})
        service.succeeded(job_id)
        family = up.family()
        assert up.stop(number) == 0
        assert up.log.read_text().endswith("Whistlestop is down.\n")
        assert still_alive(family) == []


def test_a_port_that_is_taken_ends_both_with_the_reason(service: Service) -> None:
    service.api()
    up = service.start("app.cli", "up")
    assert up.popen.wait(60) != 0
    told = up.log.read_text()
    assert "address already in use" in told
    assert "the API ended by itself" in told
