"""API keys: made, known again by their hash, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from app.jobs import ApiKey, Scope
from app.store.base import Base
from app.store.database import now
from app.store.errors import KeyExists, UnknownKey
from app.store.tables import keys

_PREFIX = "ws_"


def _hashed(secret: str) -> str:
    # A key has 256 random bits, so there is nothing to guess that a slow hash would protect.
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys(Base):
    """The keys of a store."""

    def create_key(self, name: str, scopes: Sequence[Scope], max_jobs: int | None = None) -> tuple[ApiKey, str]:
        """A new key, and its secret, which is not stored. Raises KeyExists."""
        secret = _PREFIX + secrets.token_urlsafe(32)
        made = ApiKey(
            id=str(uuid7()), name=name, scopes=tuple(scopes), max_jobs=max_jobs, created_at=now(), revoked_at=None
        )
        with self._db.write() as db:
            if db.execute(sa.select(keys.c.id).where(keys.c.name == name)).first() is not None:
                raise KeyExists(f"There is a key '{name}' already. Choose another name.")
            db.execute(keys.insert().values(**made.model_dump(), hash=_hashed(secret)))
        return made, secret

    def list_keys(self) -> list[ApiKey]:
        """All keys, oldest first, revoked ones too."""
        with self._db.read() as db:
            return [_key_of(row) for row in db.execute(sa.select(keys).order_by(keys.c.id))]

    def key(self, secret: str) -> ApiKey | None:
        """The key with this secret, unless it is revoked. Its hash is looked up, so the time that it takes tells
        nothing of how near a guess is."""
        with self._db.read() as db:
            row = db.execute(sa.select(keys).where(keys.c.hash == _hashed(secret), keys.c.revoked_at.is_(None))).first()
            return _key_of(row) if row else None

    def revoke_key(self, name: str) -> ApiKey:
        """Make a key useless, at once. Raises UnknownKey."""
        with self._db.write() as db:
            change = keys.update().where(keys.c.name == name, keys.c.revoked_at.is_(None)).values(revoked_at=now())
            if db.execute(change).rowcount != 1:
                raise UnknownKey(f"There is no key '{name}' that could be revoked. GET /keys lists the keys.")
            return _key_of(db.execute(sa.select(keys).where(keys.c.name == name)).one())


def _key_of(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey.model_validate({name: value for name, value in row._mapping.items() if name != "hash"})
