"""A browser without internet, and a hand that draws in it."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Page, Playwright

# Every host but this machine is unknown to the browser, and it asks for nothing of its own accord. `gpu-box` is this
# machine as others have it: not the browser's own, and without HTTPS.
OFFLINE = [
    "--host-resolver-rules=MAP gpu-box 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]
# A pen's way for a three, in shares of the pad.
THREE = [(0.3, 0.25), (0.45, 0.15), (0.62, 0.2), (0.66, 0.33), (0.58, 0.44), (0.46, 0.48)]
THREE += [(0.6, 0.52), (0.7, 0.64), (0.64, 0.8), (0.46, 0.86), (0.28, 0.78)]


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium: one that is installed, or Playwright's. Raises playwright.sync_api.Error."""
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next((path for path in map(shutil.which, names) if path), None)
    return playwright.chromium.launch(executable_path=installed, args=OFFLINE)


def draw_three(page: Page) -> None:
    """Draw a three on the pad of the page `Try it`."""
    box = page.locator("canvas.pad").bounding_box(timeout=30_000)
    assert box is not None
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in THREE]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()
