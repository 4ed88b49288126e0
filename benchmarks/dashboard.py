"""The dashboard in Chromium: the first view, and a job with fifty thousand epochs."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks import machine
from tests.e2e.browser import launch
from tests.e2e.service import running
from tests.e2e.test_dashboard import PAN, long_job

TURNS = 7
# The moment from the click to the first row, or curve, that is drawn.
SEEN = "selector => new Promise(done => { const look = () => document.querySelector(selector) ? \
requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look); look(); })"


def first_view(page: Page, url: str) -> tuple[float, int]:
    """Milliseconds to the list of jobs, and bytes of the page's own files."""
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())) if "/dashboard/" in answer.url else None)
    page.goto(url)
    milliseconds = float(page.evaluate(SEEN, "table.jobs tbody tr"))
    page.wait_for_timeout(200)
    return milliseconds, sum(sizes)


def main() -> None:
    """Measure and print."""
    print(f"## Dashboard\n{machine.described()}")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as service, sync_playwright() as playwright:
        service.api()
        for seed in range(50):
            service.submit({"seed": seed})
        browser = launch(playwright)
        views = []
        for _ in range(TURNS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            views.append(first_view(page, f"{service.url}/"))
            page.close()
        first = statistics.median(view[0] for view in views)
        print(
            f"first view, 50 jobs: {first:.0f} ms (median of {TURNS}, browser's cache empty; aim: 200), "
            f"{views[0][1] / 1000:.0f} KB (aim: 150)"
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
