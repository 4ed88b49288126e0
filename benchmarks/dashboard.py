"""The dashboard in Chromium: the first view, and a job with fifty thousand epochs."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, Response, sync_playwright

from benchmarks import machine
from tests.e2e.browser import launch
from tests.e2e.service import running
from tests.e2e.test_dashboard import PAN, long_job

VIEWS = 15
TURNS = 7
# The moment at which the first row, or curve, has been drawn.
SEEN = "selector => new Promise(done => { const look = () => document.querySelector(selector) ? \
requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look); look(); })"


def first_view(page: Page, url: str) -> float:
    """Milliseconds to the list of jobs."""
    # From the first byte of the page on; with "load" the question would come after the answer.
    page.goto(url, wait_until="commit")
    return float(page.evaluate(SEEN, "table.jobs tbody tr"))


def size_of_first_view(page: Page, url: str) -> int:
    """Bytes of the page and the dashboard's files that a first visit takes."""
    sizes: list[int] = []

    def add(answer: Response) -> None:
        if answer.url == url or "/dashboard/" in answer.url:
            sizes.append(len(answer.body()))

    page.on("response", add)
    page.goto(url)
    page.locator("table.jobs tbody tr").first.wait_for()
    page.wait_for_timeout(500)
    return sum(sizes)


def main() -> None:
    """Measure and print."""
    print(f"## Dashboard\n{machine.described()}")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as service, sync_playwright() as playwright:
        service.api()
        for seed in range(50):
            service.submit({"seed": seed})
        browser = launch(playwright)
        views = []
        for _ in range(VIEWS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            views.append(first_view(page, f"{service.url}/"))
            page.close()
        page = browser.new_page()
        size = size_of_first_view(page, f"{service.url}/")
        page.close()
        print(
            f"first view, 50 jobs: {statistics.median(views):.0f} ms (median of {VIEWS} from {min(views):.0f} to "
            f"{max(views):.0f}, browser's cache empty; aim: 200), {size / 1000:.0f} KB (aim: 150)"
        )
        job_id = long_job(service, 50_000)
        usable, frames = [], []
        for _ in range(TURNS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{service.url}/")
            page.get_by_role("link", name="long").wait_for()
            before = float(page.evaluate("performance.now()"))
            page.evaluate(f"location.hash = '#/jobs/{job_id}'")
            usable.append(float(page.evaluate(SEEN, ".charts canvas")) - before)
            page.get_by_role("button", name="Zoom in").first.click()
            frames.append(page.evaluate(PAN))
            page.close()
        print(
            f"50,000 epochs: curves after {statistics.median(usable):.0f} ms (median of {TURNS}; aim: 1000); panning, "
            f"{statistics.median(each['median'] for each in frames):.1f} ms a frame, the slowest of 60 "
            f"{statistics.median(each['worst'] for each in frames):.0f} ms"
        )
        browser.close()


if __name__ == "__main__":
    main()
