"""Swagger UI in a real browser that has no internet."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.service import Service


def asked_elsewhere(page: Page, service: Service) -> list[str]:
    """Fills, while the page is used, with the addresses outside the service that it asks for."""
    found: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith((service.url, "data:", "blob:")) else found.append(request.url),
    )
    return found


def test_swagger_ui_shows_the_endpoints_and_try_it_out_creates_a_job(
    shared: Service, page: Page, kept: Callable[[str], Path]
) -> None:
    elsewhere = asked_elsewhere(page, shared)
    page.goto(f"{shared.url}/docs")
    paths = page.locator(".opblock-summary-path")
    expect(paths.first).to_be_visible()
    shown = [text.replace("\u200b", "") for text in paths.all_inner_texts()]
    for path in ("/jobs", "/jobs/{job_id}", "/jobs/{job_id}/metrics", "/jobs/{job_id}/checkpoints/{name}", "/workers"):
        assert path in shown
    page.screenshot(path=kept("swagger-ui.png"))

    create = page.locator("#operations-jobs-create_job_jobs_post")
    create.locator(".opblock-summary").click()
    example = create.get_by_role("combobox").filter(has_text="Exercise 1").first
    example.select_option(label="A few seconds on real digits, no download")
    body = create.locator("textarea.body-param__text")
    expect(body).to_have_value(re.compile("smoke"))
    before = len(shared.get("/jobs", name="smoke")["data"])
    create.get_by_role("button", name="Execute").click()
    status = create.locator(".live-responses-table tbody .response-col_status").first
    expect(status).to_contain_text("201", timeout=30_000)
    create.screenshot(path=kept("swagger-ui-try-it-out.png"))
    jobs = shared.get("/jobs", name="smoke")["data"]
    assert len(jobs) == before + 1
    assert shared.succeeded(jobs[0]["id"])["progress"]["epoch"] <= 5

    listing = page.locator("#operations-jobs-list_jobs_jobs_get")
    listing.locator(".opblock-summary").click()
    listing.get_by_role("button", name="Execute").click()
    listed = listing.locator(".live-responses-table tbody .response-col_status").first
    expect(listed).to_contain_text("200", timeout=30_000)  # fifty jobs of the tests before this one, on a busy machine
    assert elsewhere == []


def test_redoc_shows_the_endpoints(shared: Service, page: Page, kept: Callable[[str], Path]) -> None:
    elsewhere = asked_elsewhere(page, shared)
    page.goto(f"{shared.url}/redoc")
    expect(page.get_by_role("heading", name="Create Job")).to_be_visible()
    page.screenshot(path=kept("redoc.png"))
    # ReDoc leaves its maker's logo out where it cannot be had.
    assert set(elsewhere) <= {"https://cdn.redoc.ly/redoc/logo-mini.svg"}
