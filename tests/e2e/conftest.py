"""Services for the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import Service, running


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API and a worker with two slots, for all tests that leave both as they found them."""
    given = os.environ.get("WHISTLESTOP_TEST_DATASETS")
    folder = {"datasets_dir": given} if given else {}
    with running(tmp_path_factory.mktemp("shared"), **folder) as service:
        service.api()
        service.worker(slots=2)
        yield service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, whose workers are silent after two seconds."""
    with running(tmp_path, lease_seconds=2) as made:
        yield made
