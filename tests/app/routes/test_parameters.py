"""Query parameters that a call does not know, or that are given too often."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("call", "name", "words"),
    [
        ("GET /jobs?statuss=queued", "statuss", "GET /jobs has no such parameter; did you mean 'status'?"),
        ("GET /jobs?zzz=1", "zzz", "it has status, tag, name"),
        ("GET /jobs?limit=1&limit=2", "limit", 'it is given 2 times; give it once; got "2"'),
        ("POST /jobs?dryrun=true", "dryrun", "did you mean 'dry_run'?"),
        ("GET /workers?limit=1", "limit", "GET /workers has no such parameter; it has none"),
        ("GET /jobs/x/metrics?after=3", "after", "did you mean 'after_epoch'?"),
    ],
)
def test_a_parameter_that_would_be_ignored_is_refused(api: TestClient, call: str, name: str, words: str) -> None:
    method, _, url = call.partition(" ")
    answer = api.request(method, url, json={} if method == "POST" else None)
    assert answer.status_code == 422, answer.text
    (field,) = answer.json()["errors"]
    assert field["parameter"] == name
    assert words in field["message"]
    assert api.get("/jobs").json()["data"] == []


def test_lists_are_repeated_and_pages_are_opened_with_anything(api: TestClient) -> None:
    assert api.get("/jobs?status=queued&status=running&tag=a&tag=b").json()["data"] == []
    for page in ("/?utm_source=mail", "/docs?x=1", "/dashboard/app.js?v=3"):
        assert api.get(page).status_code == 200, page
