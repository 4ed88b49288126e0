"""Services and a browser for the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.e2e.browser import launch
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        try:
            started = launch(playwright)
        except Error as error:
            pytest.skip(f"no Chromium can be started here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a laptop's size."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1600})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API and a worker for one module, whose jobs nobody else sees."""
    with running(tmp_path_factory.mktemp("own")) as service:
        service.api()
        service.worker()
        yield service
