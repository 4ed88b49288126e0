"""The dashboard in a real browser, over a live API and a worker that trains real data."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import draw_three
from tests.e2e.service import LONG, Json, Service, running, until

PATIENT = 30_000  # milliseconds, on a busy machine
DIGITS: Json = {"dataset": {"name": "digits"}, "tracking": None}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A laptop's page. What it says in the console, and what it asks of other machines, fails the test."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    here = re.compile(r"(http://(127\.0\.0\.1|gpu-box):\d+/|data:|blob:)")
    opened.on("request", lambda request: None if here.match(request.url) else said.append(request.url))
    yield opened
    # A refusal that a test provokes is logged by the browser itself.
    unexpected = [text for text in said if "the server responded with a status of" not in text]
    opened.close()
    assert unexpected == []


@pytest.fixture(scope="module")
def trained(shared: Service) -> tuple[str, str]:
    """Two jobs on digits that have succeeded, a plain and a residual one."""
    plain = shared.submit({**DIGITS, "name": "plain-digits", "tags": ["dash"]})
    residual = shared.submit({**DIGITS, "name": "residual-digits", "tags": ["dash"], "model": {"residual": True}})
    shared.succeeded(plain)
    shared.succeeded(residual)
    return plain, residual


def test_the_first_view_is_light_and_quick(shared: Service, page: Page) -> None:
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())) if "/dashboard/" in answer.url else None)
    page.goto(f"{shared.url}/")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    milliseconds = page.evaluate("performance.now()")
    page.wait_for_timeout(300)
    assert sum(sizes) < 150_000
    assert milliseconds < 3000, "200 ms on a quiet machine (docs/benchmarks.md)"


def test_curves_grow_while_a_job_runs_and_its_stop_reason_appears(
    shared: Service, page: Page, kept: Callable[[str], Path]
) -> None:
    job_id = shared.submit({**LONG, "name": "to be watched", "training": {"max_epochs": 2000, "batch_size": 16}})
    page.goto(f"{shared.url}/#/jobs/{job_id}")
    expect(page.get_by_role("heading", name="to be watched")).to_be_visible()
    curves = page.locator(".charts")
    expect(curves.locator("canvas").first).to_be_visible(timeout=PATIENT)
    before = int(curves.get_attribute("data-epochs") or 0)
    expect(curves).not_to_have_attribute("data-epochs", str(before), timeout=PATIENT)
    shared.reaches(job_id, before + 5)
    until("the curves have grown", lambda: int(curves.get_attribute("data-epochs") or 0) >= before + 5)
    expect(page.locator(".console")).to_contain_text("train_loss")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".explanation")).to_contain_text("because somebody asked for it", timeout=PATIENT)
    expect(page.locator(".head .status")).to_have_text("succeeded")
    expect(page.locator(".summary")).to_contain_text(re.compile("Submitted .+, started .+, ended .+, after [0-9]"))
    expect(page.locator(".figures")).to_contain_text("%")
    page.screenshot(path=kept("job.png"), full_page=True)


def test_the_gauge_tells_the_counts_in_words(shared: Service, page: Page, trained: tuple[str, str]) -> None:
    page.goto(f"{shared.url}/#/jobs/{trained[0]}")
    expect(page.locator(".explanation")).to_contain_text("for stagnation: val_loss had not fallen by more than 0.0001")
    expect(page.locator(".gauges")).to_contain_text("no improvement of 0.0001 for 5 of 5 epochs")
    expect(page.locator(".matrix tbody tr")).to_have_count(10)
    expect(page.locator(".mistakes img").first).to_be_visible()
    with page.expect_download() as begun:
        page.get_by_role("link", name="best_model.pth").click()
    assert Path(begun.value.path()).read_bytes() == shared.weights(trained[0])


def test_the_what_if_sliders_agree_with_the_replay(shared: Service, page: Page, trained: tuple[str, str]) -> None:
    page.goto(f"{shared.url}/#/jobs/{trained[0]}")
    result = page.locator(".whatif")
    for patience in (1, 2, 3):
        slider = page.get_by_label("Patience", exact=True)
        slider.fill(str(patience))
        answer = shared.http.post(f"/jobs/{trained[0]}/early-stopping/replay", json={"patience": patience}).json()
        expected = answer["data"][0]
        expect(result).to_have_attribute("data-epoch", str(expected["epoch"]), timeout=PATIENT)
        expect(result).to_have_attribute("data-reason", expected["stop_reason"] or "")


def test_a_spec_is_cloned_corrected_and_submitted(shared: Service, page: Page, trained: tuple[str, str]) -> None:
    page.goto(f"{shared.url}/#/jobs/{trained[0]}")
    page.get_by_role("link", name="Clone and edit").click()
    expect(page.get_by_text("The spec is valid.")).to_be_visible(timeout=PATIENT)
    page.locator("#field-name").fill("cloned")
    rate = page.locator("#field-optimizer-lr")
    expect(rate).to_have_value("0.001")
    rate.fill("-1")
    expect(page.locator(".field.invalid")).to_contain_text("greater than 0")
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    rate.fill("0.02")
    expect(page.get_by_text("The spec is valid.")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="cloned")).to_be_visible(timeout=PATIENT)
    job = shared.get("/jobs", name="cloned")["data"][0]
    assert (job["spec"]["optimizer"]["lr"], job["spec"]["dataset"]["name"]) == (0.02, "digits")
    shared.succeeded(job["id"])


def test_it_works_from_another_machine_without_https(shared: Service, page: Page, trained: tuple[str, str]) -> None:
    page.goto(f"{shared.url.replace('127.0.0.1', 'gpu-box')}/#/new?from={trained[0]}")
    expect(page.get_by_text("The spec is valid.")).to_be_visible(timeout=PATIENT)
    assert page.evaluate("[isSecureContext, typeof navigator.clipboard]") == [False, "undefined"]
    page.get_by_role("button", name="Copy as YAML").click()
    expect(page.get_by_role("button", name="copied")).to_be_visible()
    name = page.locator("#field-name")
    name.fill("")
    name.press("Control+V")
    expect(name).to_have_value(re.compile("dataset:.*name: digits"))
    name.fill("from afar")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="from afar")).to_be_visible(timeout=PATIENT)


def test_examples_unions_and_yaml_make_one_spec(shared: Service, page: Page) -> None:
    page.goto(f"{shared.url}/#/new")
    page.get_by_label("Start from").select_option("cifar10-fast")
    whole = page.get_by_label("The whole spec")
    expect(whole).to_contain_text("variant: fast", timeout=PATIENT)
    page.locator("#field-model-kind").select_option("cnn")
    expect(whole).to_contain_text("channels:")
    page.get_by_role("button", name="Edit as YAML").click()
    text = page.locator("textarea.yaml")
    expect(text).to_have_value(re.compile("kind: cnn"))
    text.fill("dataset: {name: digits}\nearly_stopping: {patience: 9}\n")
    expect(whole).to_contain_text("patience: 9")
    page.get_by_role("button", name="Edit as a form").click()
    expect(page.locator("#field-early_stopping-patience")).to_have_value("9")
    page.get_by_role("button", name="Edit as YAML").click()
    text.fill("nonsense: 1\n")
    expect(page.get_by_role("alert")).to_contain_text("unknown field 'nonsense'")


def test_jobs_are_filtered_sorted_compared_and_cancelled(
    shared: Service, page: Page, trained: tuple[str, str], kept: Callable[[str], Path]
) -> None:
    page.goto(f"{shared.url}/")
    page.get_by_label("Tag").press_sequentially("dash")
    expect(page).to_have_url(re.compile(r"tag=dash$"))
    rows = page.locator("table.jobs tbody tr")
    page.get_by_label("Name").press_sequentially("-digits ", delay=30)
    expect(rows).to_have_count(2, timeout=PATIENT)
    expect(page).to_have_url(re.compile(r"tag=dash&name=-digits$"))
    page.get_by_role("button", name="Best").click()
    best = min(trained, key=lambda job_id: shared.job(job_id)["best"]["val_loss"])
    expect(rows.first.get_by_role("link")).to_have_attribute("href", f"#/jobs/{best}")
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare 2 jobs")).to_be_visible(timeout=PATIENT)
    expect(page.locator("th.differs")).to_have_text("model.residual")
    expect(page.locator(".scatter circle")).to_have_count(2)
    page.screenshot(path=kept("compare.png"), full_page=True)

    waiting = [shared.submit({**LONG, "tags": ["bulk"], "not_before": "2040-01-01T00:00:00Z"}) for _ in range(3)]
    page.goto(f"{shared.url}/#/jobs?tag=bulk")
    expect(rows).to_have_count(3, timeout=PATIENT)
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".jobs .status.cancelled")).to_have_count(3, timeout=PATIENT)
    assert {shared.job(job_id)["status"] for job_id in waiting} == {"cancelled"}


def test_the_list_is_live(shared: Service, page: Page) -> None:
    page.goto(f"{shared.url}/#/jobs?tag=live-list")
    expect(page.get_by_text("No job here that matches")).to_be_visible(timeout=PATIENT)
    job_id = shared.submit({**DIGITS, "tags": ["live-list"]})
    expect(page.locator(".jobs .status.succeeded")).to_have_count(1, timeout=PATIENT)
    assert shared.job(job_id)["status"] == "succeeded"


@pytest.mark.timeout(300)
def test_a_drawn_three_is_a_three_to_a_job_on_mnist(
    shared: Service, mnist_root: Path, page: Page, kept: Callable[[str], Path]
) -> None:
    few = {"max_epochs": 4}
    job_id = shared.submit({"tracking": None, "training": few, "name": "mnist to draw for"})
    shared.succeeded(job_id, 240)
    page.goto(f"{shared.url}/#/try?job={job_id}")
    draw_three(page)
    expect(page.locator(".answer")).to_contain_text("3", timeout=PATIENT)
    page.screenshot(path=kept("try.png"))
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".answer")).to_have_count(0)
    image = shared.http.get("/datasets/mnist/test/0.png").content  # a seven
    page.locator("input[type=file]").set_input_files({"name": "7.png", "mimeType": "image/png", "buffer": image})
    expect(page.locator(".answer")).to_contain_text("7", timeout=PATIENT)
    page.locator("input[type=file]").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"nothing"})
    expect(page.get_by_role("alert")).to_contain_text("no image that can be decoded")


def test_data_sets_show_what_is_in_them(shared: Service, page: Page, trained: tuple[str, str]) -> None:
    page.goto(f"{shared.url}/#/datasets")
    digits = page.get_by_role("region", name="digits", exact=True)
    expect(digits).to_contain_text("1,437 training and 360 test images in 10 classes", timeout=PATIENT)
    digits.get_by_text("Classes and images").click()
    expect(digits.get_by_role("img", name="Training images of digits")).to_be_visible()
    page.get_by_label("Name").fill("broken")
    page.get_by_label("Archive").set_input_files({"name": "x.tar", "mimeType": "application/x-tar", "buffer": b"zzz"})
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("neither a .tar, nor a .tar.gz, nor a .zip")


def test_workers_show_what_they_take(service: Service, page: Page) -> None:
    service.api()
    worker = service.worker()
    page.goto(f"{service.url}/#/workers")
    expect(page.get_by_text(f"process {worker.pid}")).to_be_visible(timeout=PATIENT)
    expect(page.get_by_text("% of all cores")).to_be_visible(timeout=PATIENT)
    expect(page.get_by_text(re.compile(r"[\d.]+ [MG]iB of [\d.]+ GiB"))).to_be_visible()


def test_a_locked_service_asks_for_a_key_and_keys_are_made_and_revoked(tmp_path: Path, page: Page) -> None:
    with running(tmp_path, auth="on") as locked:
        made = locked.start("app.cli", "keys", "create", "boss", "--scope", "admin")
        assert made.popen.wait(60) == 0
        secret = made.log.read_text().strip()
        locked.http.headers["Authorization"] = f"Bearer {secret}"
        locked.api()
        page.goto(f"{locked.url}/#/keys")
        field = page.get_by_label("API key")
        field.fill("ws_wrong")
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("alert")).to_contain_text("unknown or revoked")
        field.fill(secret)
        page.get_by_role("button", name="Use it").click()
        page.get_by_label("Name").fill("lab")
        page.get_by_role("button", name="Make a key").click()
        expect(page.locator(".secret")).to_contain_text("ws_")
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("row", name="lab").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("row", name="lab")).to_contain_text("revoked")
        assert [bool(key["revoked_at"]) for key in locked.get("/keys")["data"]] == [False, True]
        page.goto(f"{locked.url}/#/jobs")  # live events take the key, too
        locked.submit({"name": "with a key"})
        expect(page.get_by_role("link", name="with a key")).to_be_visible(timeout=PATIENT)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(shared: Service, browser: Browser, trained: tuple[str, str], scheme: str) -> None:
    one, two = trained
    places = ["jobs", f"jobs/{one}", "new", f"compare?job={one}&job={two}", "try", "datasets", "workers", "keys"]
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    faults = []
    for place in places:
        page = context.new_page()
        page.goto(f"{shared.url}/#/{place}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENT)
        page.wait_for_timeout(700)
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        faults += [
            (place, fault["id"], fault["nodes"][0]["html"][:150])
            for fault in found.response["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        page.close()
    context.close()
    assert faults == []


def test_it_is_usable_by_keyboard_and_on_a_phone(shared: Service, browser: Browser, trained: tuple[str, str]) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{shared.url}/#/jobs?tag=dash&name=-digits")
    expect(page.locator("table.jobs tbody tr")).to_have_count(2, timeout=PATIENT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page itself does not scroll sideways"
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for place in (f"jobs/{trained[0]}", "new", "try", "datasets", "workers", "keys"):
        page.goto(f"{shared.url}/#/{place}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENT)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, place
    page.close()


def long_job(service: Service, epochs: int) -> str:
    """A job with so many epoch rows, put straight into the database: training them would take an hour."""
    job_id = service.submit({**DIGITS, "name": "long", "training": {"max_epochs": epochs}, "early_stopping": None})
    with sqlite3.connect(service.data / "whistlestop.db") as db:
        rows = (
            (
                job_id,
                epoch,
                1 / epoch**0.3,
                0.9,
                1.1 / epoch**0.3 + (5.0 if epoch == 31_234 else 0),
                0.88,
                1e-3,
                0.1,
                1e4,
            )
            for epoch in range(1, epochs + 1)
        )
        db.executemany(
            "INSERT INTO epochs (job_id, epoch, train_loss, train_acc, val_loss, val_acc, lr, seconds, "
            "samples_per_second) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.execute(
            "UPDATE jobs SET status = 'cancelled', epoch = ?, best_epoch = ?, val_loss = 0.05, val_acc = 0.9, "
            "finished_at = created_at WHERE id = ?",
            (epochs, epochs, job_id),
        )
    return job_id


def test_fifty_thousand_epochs_are_usable_at_once_and_pan_smoothly(service: Service, page: Page) -> None:
    service.api()
    job_id = long_job(service, 50_000)
    thinned = service.get(f"/jobs/{job_id}/metrics", max_points=2000)["data"]
    assert len(thinned) <= 2000
    assert max(row["val_loss"] for row in thinned) > 5, "no extreme is lost"
    page.goto(f"{service.url}/")
    expect(page.get_by_role("link", name="long")).to_be_visible(timeout=PATIENT)
    before = page.evaluate("performance.now()")
    page.get_by_role("link", name="long").click()
    canvas = page.locator(".charts canvas").first
    expect(canvas).to_be_visible(timeout=PATIENT)
    seconds = (page.evaluate("performance.now()") - before) / 1000
    assert seconds < 4, "one on a quiet machine (docs/benchmarks.md)"
    page.get_by_role("button", name="Zoom in").first.click()
    frames = page.evaluate(PAN)
    print(json.dumps({"seconds": seconds, **frames}))
    assert frames["moved"] > 20
    assert frames["median"] < 50, "milliseconds between frames; 17 on a quiet machine"
    expect(page.get_by_text("50,000 epochs, drawn with all extremes")).to_be_visible()


# Drags the first chart to and fro for sixty frames and takes the time of each.
PAN = """async () => {
  const over = document.querySelector('.charts .u-over'), box = over.getBoundingClientRect();
  const at = (type, x) => over.dispatchEvent(
    new PointerEvent(type, { clientX: x, clientY: box.top + 50, bubbles: true, pointerId: 1 }));
  at('pointerdown', box.left + 200);
  const times = [];
  let last = performance.now(), moved = 0;
  for (let frame = 0; frame < 60; frame++) {
    at('pointermove', box.left + 200 + 100 * Math.sin(frame / 10));
    moved++;
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  at('pointerup', box.left + 200);
  times.sort((a, b) => a - b);
  return { moved, median: times[30], worst: times[59] };
}"""
