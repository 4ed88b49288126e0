"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, in_words


def test_the_defaults_are_the_documented_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Settings()
    assert (found.host, found.port, found.device, found.slots, found.lease_seconds) == (
        "127.0.0.1",
        8000,
        "auto",
        1,
        30,
    )
    assert found.data_dir == tmp_path / "whistlestop-data"
    assert found.resolved_database_url == f"sqlite:///{tmp_path}/whistlestop-data/whistlestop.db"
    assert found.dataset_folders == (tmp_path / "whistlestop-data" / "datasets",)


def test_a_read_only_data_sets_folder_is_only_read(tmp_path: Path) -> None:
    given, data = tmp_path / "given", tmp_path / "data"
    given.mkdir()
    assert Settings(data_dir=data, datasets_dir=given).dataset_folders == (given,)
    given.chmod(0o555)
    assert Settings(data_dir=data, datasets_dir=given).dataset_folders == (given, data / "datasets")


def test_the_environment_overrides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISTLESTOP_DATA_DIR", "~/runs")
    monkeypatch.setenv("WHISTLESTOP_DATABASE_URL", "postgresql://localhost/jobs")
    monkeypatch.setenv("WHISTLESTOP_DEVICE", "cuda:1")
    monkeypatch.setenv("WHISTLESTOP_SLOTS", "4")
    found = Settings()
    assert found.data_dir == Path.home() / "runs"
    assert (found.resolved_database_url, found.device, found.slots) == ("postgresql://localhost/jobs", "cuda:1", 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("SLOTS", "0"), ("DEVICE", "gpu"), ("LEASE_SECONDS", "0.1")],
)
def test_a_wrong_setting_is_named_with_its_value(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WHISTLESTOP_{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert in_words(caught.value).startswith(f"WHISTLESTOP_{name}='{value}': ")
