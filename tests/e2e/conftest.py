"""Services and a browser for the end-to-end tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

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


# Every host but this machine is unknown to the browser, and it asks for nothing of its own accord.
OFFLINE = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next((path for path in map(shutil.which, names) if path), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=installed, args=OFFLINE)
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
