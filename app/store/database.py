"""The connection to SQLite or PostgreSQL: transactions, migrations, and faults in words."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from app.store.errors import StoreUnavailable

BUSY_SECONDS = 15
_SQLITE_TIME = "%Y-%m-%d %H:%M:%S.%f"  # as SQLAlchemy writes it
_MIGRATION_LOCK = 0x57484953  # any number that is ours alone, for pg_advisory_xact_lock


def now() -> datetime:
    """The one clock of the store, in UTC."""
    return datetime.now(UTC)


class Database:
    """An engine, and the two kinds of transaction that the store uses."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            if self.url.database in (None, "", ":memory:"):
                raise StoreUnavailable(
                    "The database must be a file that the API and the worker share, not an in-memory one. "
                    "Set WHISTLESTOP_DATABASE_URL to sqlite:////path/to/file.db."
                )
            self.engine = sa.create_engine(
                self.url,
                connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
            )
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            if self.url.drivername == "postgresql":
                self.url = self.url.set(drivername="postgresql+psycopg")
            self.engine = sa.create_engine(self.url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        self._writing = self.engine.execution_options(writing=True)
        self._kept: Any = None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: one snapshot, never in a writer's way."""
        with self._in_words(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it or nothing. SQLite takes the write lock at once, so that a
        transaction never fails half-way because another one wrote meanwhile."""
        with self._in_words(), self._writing.begin() as connection:
            yield connection

    def glance(self, sql: str) -> bool:
        """Whether a query may find a row, for polls: on a kept connection of the driver's own, at a fifth of the CPU
        time of `read`. `:now` in the query is the time. Where the database does not answer it may, and the transaction
        that follows says what is wrong."""
        try:
            if self._kept is None:
                pooled = self.engine.raw_connection()
                self._kept = pooled.driver_connection
                pooled.detach()
                if not self.sqlite:
                    self._kept.autocommit = True
            if self.sqlite:
                found = self._kept.execute(sql, {"now": now().strftime(_SQLITE_TIME)})
            else:
                found = self._kept.execute(sql.replace(":now", "%(now)s"), {"now": now()})
            return found.fetchone() is not None
        except (DBAPIError, self.engine.dialect.loaded_dbapi.Error):
            self._forget_kept()
            return True

    def migrate(self) -> None:
        """Bring the tables to the newest version. Safe to call from several processes at once."""
        # Imported here: only a process that starts needs it, and it is a third of the store's import time.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        if self.sqlite and not str(self.url.database).startswith("file:"):  # a URI names a database that is there
            folder = Path(str(self.url.database)).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreUnavailable(
                    f"The data folder {folder} cannot be made: {error.strerror}. "
                    "Set WHISTLESTOP_DATA_DIR to a folder that you may write to."
                ) from error
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
        config.set_main_option("path_separator", "os")
        with self.write() as connection:
            if not self.sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreUnavailable(
                    f"The database is of a version that this Whistlestop does not know ({error}). "
                    "It was made by a newer release: install that one, or restore a backup."
                ) from error

    def dispose(self) -> None:
        """Close all connections."""
        self._forget_kept()
        self.engine.dispose()

    def _forget_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            unavailable = _explain(self.url, error)
            if unavailable is None:
                raise
            raise unavailable from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    cursor = connection.cursor()
    # WAL: readers and the writer do not wait for each other. FULL: a job that was answered 201 survives a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


_SQLITE_FAULTS = {
    "disk is full|disk I/O error": "The disk of the database {path} is full or failing. Free some space; "
    "nothing was lost.",
    "readonly|read-only": "The database {path} is read-only. Make the file and its folder writable for this user.",
    "locked|busy": "The database {path} has been locked by another program for {busy} s. Try again; if it stays so, "
    "see which program holds the file.",
    "unable to open": "The database {path} cannot be opened. See that its folder exists and that this "
    "user may write there.",
    "not a database|malformed": "The database {path} is damaged or no SQLite file. Restore a backup.",
}


def _explain(url: sa.URL, error: DBAPIError) -> StoreUnavailable | None:
    """Words for a fault of the database's place; None for a fault of ours."""
    cause = str(error.orig)
    if url.get_backend_name() == "sqlite":
        for pattern, words in _SQLITE_FAULTS.items():
            if re.search(pattern, cause):
                message = words.format(path=url.database, busy=BUSY_SECONDS)
                return StoreUnavailable(message, full="full" in pattern)
        return None
    if error.connection_invalidated or isinstance(error, OperationalError):
        place = url.set(username=None, password=None).render_as_string()
        reason = cause.strip().splitlines()[0] if cause.strip() else "no reason given"
        return StoreUnavailable(f"The database {place} cannot be used: {reason}. See that it runs and is reachable.")
    return None
