"""Settings of the service, read from `WHISTLESTOP_*` environment variables."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEVICES = r"^(auto|cpu|mps|cuda(:\d+)?)$"


class Settings(BaseSettings):
    """What the API and the worker need to know about the place that they run in."""

    model_config = SettingsConfigDict(env_prefix="WHISTLESTOP_", frozen=True)

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port that the API listens on; 0 takes a free one.")
    data_dir: Path = Field(
        Path("whistlestop-data"), description="Database, checkpoints, logs, W&B files and data sets."
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL of SQLite or PostgreSQL; empty: a SQLite file in the data folder."
    )
    datasets_dir: Path | None = Field(
        None, description="Raw and prepared data sets; unset: `datasets` in the data folder."
    )
    device: Annotated[str, StringConstraints(pattern=DEVICES)] = Field(
        "auto", description="auto, cpu, cuda, cuda:1 or mps."
    )
    slots: int = Field(1, ge=1, le=256, description="Jobs at a time on one worker.")
    auth: Literal["auto", "on", "off"] = Field(
        "auto", description="API keys: auto: needed unless only this machine reaches the API."
    )
    loopback_only: bool | None = Field(
        None,
        description="Whether only this machine reaches the API, as behind a port that Docker publishes on loopback; "
        "unset: whether it listens on loopback only.",
    )
    cors_origins: tuple[str, ...] = Field((), description="JSON list of sites whose pages may call the API.")
    rate_limit: int = Field(1200, ge=1, description="Calls a minute with one key.")
    webhook_secret: SecretStr | None = Field(
        None, description="Key of the webhooks' signatures, `whsec_` and base64; unset: made once, in the data folder."
    )
    webhook_private: bool = Field(False, description="Whether webhooks may go to private addresses.")
    keep_state_days: float = Field(7.0, ge=0, description="Days that `last.pth` of a job that has ended is kept.")
    keep_jobs_days: float | None = Field(None, ge=0, description="Days that ended jobs are kept; unset: ever.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")
    max_upload_bytes: int = Field(4 << 30, ge=1, description="Largest archive that POST /datasets takes, in bytes.")
    lease_seconds: float = Field(30.0, ge=1, le=86_400, description="How long a silent worker keeps its job.")

    @field_validator("data_dir", "datasets_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database, the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'whistlestop.db'}"

    @property
    def dataset_folders(self) -> tuple[Path, ...]:
        """Where raw files of data sets are looked for. The last is where new ones, and prepared data sets, go: the
        folder that was given, unless it is read-only, else the one in the data folder."""
        own = self.data_dir / "datasets"
        given = self.datasets_dir or own
        # The mode is asked, not the system: root may write anywhere, but somebody meant this folder to stay as it is.
        writable = not given.exists() or given.stat().st_mode & 0o222
        return (given,) if writable else (given, own)


def in_words(error: ValidationError) -> str:
    """Wrong settings in a line for the terminal."""
    wrong = [
        f"WHISTLESTOP_{'_'.join(map(str, problem['loc'])).upper()}={problem['input']!r}: {problem['msg']}"
        for problem in error.errors()
    ]
    return "; ".join(wrong)
