"""Backups of a running service on SQLite: a snapshot of its database, and the files that the snapshot records.

Own data sets and the webhooks' secret are part of it; what can be made or fetched again is not.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from app.artifacts import ArtifactStore, sha256_of
from app.datasets import uploads_of
from app.settings import Settings
from app.store import JobStore

_DATABASE, _CHECKPOINTS, _DATASETS, _SECRET = "whistlestop.db", "checkpoints", "datasets", "webhook-secret"
_SNAPSHOTS = 10


class CannotBackUp(Exception):
    """Why not, in words."""


def back_up(settings: Settings, target: Path) -> int:
    """Write a backup into `target`, a new folder; returns how many files of weights it holds. The service may run.

    Raises CannotBackUp, StoreUnavailable, OSError.
    """
    database = _database(settings)
    if target.exists() and any(target.iterdir()):
        raise CannotBackUp(f"{target} is not empty. Name a new folder.")
    if not database.exists():
        raise CannotBackUp(f"There is no database at {database}. Set WHISTLESTOP_DATA_DIR to the service's folder.")
    target.mkdir(parents=True, exist_ok=True)
    artifacts = ArtifactStore(settings.data_dir / _CHECKPOINTS)
    for _ in range(_SNAPSHOTS):
        _snapshot(database, target / _DATABASE)
        missing = 0
        recorded = _recorded(target / _DATABASE)
        for _, key, _ in recorded:
            copy = target / _CHECKPOINTS / key
            if copy.exists():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(artifacts.path(key), copy)
            except FileNotFoundError:
                missing += 1  # a newer epoch has taken its place: the next snapshot knows which
        if not missing:
            break
    _drop_unrecorded(target / _CHECKPOINTS, {key for _, key, _ in recorded})
    for archive, about in uploads_of(settings.dataset_folders[-1]):
        (target / _DATASETS / "uploaded").mkdir(parents=True, exist_ok=True)
        shutil.copy2(archive, target / _DATASETS / archive.name)
        shutil.copy2(about, target / _DATASETS / "uploaded" / about.name)
    if (settings.data_dir / _SECRET).exists():
        shutil.copy2(settings.data_dir / _SECRET, target / _SECRET)
    _check(target, recorded)
    return len(recorded)


def restore(settings: Settings, source: Path) -> int:
    """Put a backup into the data folder, which must have no database yet; returns how many files of weights there are.

    Raises CannotBackUp, OSError.
    """
    database = _database(settings)
    if database.exists():
        raise CannotBackUp(f"{database} is there already. Restore into a new WHISTLESTOP_DATA_DIR, or move it away.")
    if not (source / _DATABASE).exists():
        raise CannotBackUp(f"{source} is no backup: it has no {_DATABASE}.")
    recorded = _recorded(source / _DATABASE)
    _check(source, recorded)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    for name in (_CHECKPOINTS, _SECRET):
        if (source / name).is_dir():
            shutil.copytree(source / name, settings.data_dir / name, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copy2(source / name, settings.data_dir / name)
    if (source / _DATASETS).is_dir():
        shutil.copytree(source / _DATASETS, settings.dataset_folders[-1], dirs_exist_ok=True)
    database.parent.mkdir(parents=True, exist_ok=True)
    part = database.with_name(".restoring")
    shutil.copy2(source / _DATABASE, part)
    part.replace(database)  # last: until it is there, nothing is restored
    return len(recorded)


def _database(settings: Settings) -> Path:
    url = settings.resolved_database_url
    if not url.startswith("sqlite:///"):
        raise CannotBackUp("Only SQLite is backed up here; for PostgreSQL use pg_dump, then copy the data folder.")
    return Path(url.removeprefix("sqlite:///"))


def _snapshot(database: Path, target: Path) -> None:
    source = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _recorded(database: Path) -> list[tuple[str, str, str]]:
    store = JobStore(f"sqlite:///{database}")
    try:
        return store.all_recorded_files()
    finally:
        store.close()


def _drop_unrecorded(folder: Path, keys: set[str]) -> None:
    for file in list(folder.rglob("*")) if folder.is_dir() else ():
        if file.is_file() and file.relative_to(folder).as_posix() not in keys:
            file.unlink()


def _check(folder: Path, recorded: list[tuple[str, str, str]]) -> None:
    for job_id, key, sha256 in recorded:
        file = folder / _CHECKPOINTS / key
        if not file.exists():
            raise CannotBackUp(f"{file}, of job {job_id}, is not there.")
        if sha256_of(file) != sha256:
            raise CannotBackUp(f"{file}, of job {job_id}, is damaged.")
