"""Pictures of the dashboard and of real runs, for README.md and docs/: `make screenshots`.

Every page, light, dark and on a phone, goes to test-artifacts/screenshots; what the documents show to docs/images.
Needs WHISTLESTOP_TEST_DATASETS with MNIST and cifar100-subset.tar.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, sync_playwright

from benchmarks import machine
from tests.e2e.browser import draw_three, launch
from tests.e2e.service import Json, Service

ROOT = Path(__file__).parents[2]
IMAGES, ALL = ROOT / "docs" / "images", ROOT / "test-artifacts" / "screenshots"
SHOWN = {"jobs-light", "job-light", "job-dark", "new-light", "compare-light", "try-light", "try-phone", "workers-dark"}
VIEWS: dict[str, Json] = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 780}, "color_scheme": "light", "device_scale_factor": 2},
}
OVERFITTING: Json = {
    "name": "overfitting",
    "dataset": {"name": "cifar100-subset"},
    "model": {"hidden": [1024, 512], "dropout": 0.0},
    "early_stopping": {"patience": None, "delta_overfit": 0.1, "overfit_patience": 3},
}


def jobs_of(service: Service) -> dict[str, str]:
    """Some jobs, ended and not."""
    specs: dict[str, Json] = {
        "exercise-1": {"name": "exercise-1", "tags": ["lab1"]},
        "residual": {"name": "deep-residual", "tags": ["lab1"], "model": {"hidden": [64] * 10, "residual": True}},
        "overfitting": OVERFITTING,
        "digits": {"name": "digits", "dataset": {"name": "digits"}, "optimizer": {"lr": 0.01}},
    }
    made = {name: service.submit(spec) for name, spec in specs.items()}
    for job_id in made.values():
        service.succeeded(job_id, 300)
    running: Json = {"name": "long-run", "training": {"max_epochs": 400}, "early_stopping": {"patience": 200}}
    made["running"] = service.submit(running)
    made["waiting"] = service.submit({"name": "next-one", "dataset": {"name": "fashion_mnist"}})
    service.reaches(made["running"], 12)
    return made


def take(context: BrowserContext, service: Service, jobs: dict[str, str], view: str) -> None:
    """Every page in one view."""
    pair = f"compare?job={jobs['exercise-1']}&job={jobs['residual']}&job={jobs['overfitting']}"
    places = {
        "jobs": "jobs",
        "job": f"jobs/{jobs['exercise-1']}",
        "running": f"jobs/{jobs['running']}",
        "new": "new",
        "compare": pair,
        "try": f"try?job={jobs['exercise-1']}",
        "datasets": "datasets",
        "workers": "workers",
        "keys": "keys",
    }
    for name, place in places.items():
        page = context.new_page()
        page.goto(f"{service.url}/#/{place}")
        page.get_by_role("heading", level=1).wait_for()
        if name == "try":
            draw_three(page)
        page.wait_for_timeout(1500)
        whole = name == "job" and view == "light"
        keep(f"{name}-{view}", page.screenshot(full_page=whole))
        page.close()


def keep(name: str, png: bytes) -> None:
    """Write a picture, in few colours: a page has no more."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(192, dither=Image.Dither.NONE)
    image.save(ALL / f"{name}.png", optimize=True)
    if name in SHOWN:
        shutil.copy(ALL / f"{name}.png", IMAGES / f"{name}.png")


def main() -> None:
    """Take them all."""
    for folder in (IMAGES, ALL):
        folder.mkdir(parents=True, exist_ok=True)
    with machine.service(lease_seconds=3) as service, sync_playwright() as playwright:
        jobs = jobs_of(service)
        for name in ("exercise-1", "overfitting"):
            (IMAGES / f"{name}.svg").write_bytes(service.http.get(f"/jobs/{jobs[name]}/plot.svg").content)
        print(service.http.get(f"/jobs/{jobs['overfitting']}/early-stopping").json()["explanation"])
        (IMAGES / "confusion.svg").write_bytes(service.http.get(f"/jobs/{jobs['exercise-1']}/confusion.svg").content)
        browser = launch(playwright)
        for view, options in VIEWS.items():
            context = browser.new_context(**options)
            take(context, service, jobs, view)
            context.close()
        browser.close()
    print(f"{len(list(ALL.glob('*.png')))} pictures in {ALL}, of which {len(SHOWN)} are copied to {IMAGES}")


if __name__ == "__main__":
    main()
