"""The door: sizes, media types, YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.door import MAX_BODY_BYTES
from app.specs import JobSpec

YAML = {"Content-Type": "application/yaml"}


def jobs_of(api: TestClient) -> int:
    return len(api.get("/jobs").json()["data"])


def test_a_yaml_spec_is_the_same_job_as_its_json(api: TestClient) -> None:
    text = "name: a\noptimizer: {kind: adam, lr: 1e-3}   # YAML 1.1 would call 1e-3 text\ntags: [x, y]\n"
    answer = api.post("/jobs", content=text, headers=YAML)
    assert answer.status_code == 201
    assert JobSpec.model_validate_json(json.dumps(answer.json()["spec"])) == JobSpec(name="a", tags=("x", "y"))


def test_an_empty_yaml_body_is_told_what_to_send(api: TestClient) -> None:
    answer = api.post("/jobs", content="", headers=YAML)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not YAML"),
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("name: a\nname: b", "repeated"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("name: !!binary aGk=", "not JSON serializable"),
        ("seed: .nan", "not JSON compliant"),
        ("[" * 5000, "YAML"),
        (b"\xff\xfe\x00", "YAML"),
    ],
)
def test_yaml_that_is_no_json_is_refused_in_words(api: TestClient, text: str | bytes, words: str) -> None:
    answer = api.post("/jobs", content=text, headers=YAML)
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_body")
    assert words in answer.json()["detail"]
    assert jobs_of(api) == 0


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
def test_a_body_over_a_mebibyte_is_refused(api: TestClient, declared: bool) -> None:
    body = json.dumps({"name": "x" * MAX_BODY_BYTES}).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    answer = api.post("/jobs", content=body if declared else chunks(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert jobs_of(api) == 0


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
def test_what_any_web_page_could_post_is_refused(api: TestClient, media_type: str) -> None:
    answer = api.post("/jobs", content=b"{}", headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    assert jobs_of(api) == 0
