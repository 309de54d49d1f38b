"""Secret scopes in one SQLite file that only its owner can read; the server writes, drivers read."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from local.databricks.errors import ApiError

_NAME = re.compile(r"[\w.@-]{1,128}")
_LARGEST = 128 * 1024


class SecretScopes:
    """Scopes, keys and values. Every method raises ApiError with Databricks' codes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.touch(mode=0o600)
        with closing(self._connect()) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS scopes (name TEXT PRIMARY KEY)")
            db.execute(
                "CREATE TABLE IF NOT EXISTS secrets (scope TEXT, key TEXT, value BLOB, updated INTEGER,"
                " PRIMARY KEY (scope, key))"
            )

    def create_scope(self, scope: str) -> None:
        if not _NAME.fullmatch(scope):
            raise ApiError(
                "INVALID_PARAMETER_VALUE", "A scope name has 1 to 128 letters, digits, '-', '_', '@', '.'."
            )
        with closing(self._connect()) as db, db:
            try:
                db.execute("INSERT INTO scopes VALUES (?)", (scope,))
            except sqlite3.IntegrityError:
                raise ApiError("RESOURCE_ALREADY_EXISTS", f"Scope {scope} already exists!") from None

    def delete_scope(self, scope: str) -> None:
        with closing(self._connect()) as db, db:
            self._need(db, scope)
            db.execute("DELETE FROM secrets WHERE scope = ?", (scope,))
            db.execute("DELETE FROM scopes WHERE name = ?", (scope,))

    def scopes(self) -> list[str]:
        with closing(self._connect()) as db:
            return [name for (name,) in db.execute("SELECT name FROM scopes ORDER BY name")]

    def put(self, scope: str, key: str, value: bytes) -> None:
        if not _NAME.fullmatch(key):
            raise ApiError(
                "INVALID_PARAMETER_VALUE", "A key has 1 to 128 letters, digits, '-', '_', '@', '.'."
            )
        if len(value) > _LARGEST:
            raise ApiError(
                "INVALID_PARAMETER_VALUE", f"A secret holds at most {_LARGEST} bytes, not {len(value)}."
            )
        with closing(self._connect()) as db, db:
            self._need(db, scope)
            now = int(time.time() * 1000)
            db.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)", (scope, key, value, now))

    def get(self, scope: str, key: str) -> bytes:
        with closing(self._connect()) as db:
            self._need(db, scope)
            found = db.execute(
                "SELECT value FROM secrets WHERE scope = ? AND key = ?", (scope, key)
            ).fetchone()
        if found is None:
            message = f"Secret does not exist with scope: {scope} and key: {key}"
            raise ApiError("RESOURCE_DOES_NOT_EXIST", message)
        return bytes(found[0])

    def delete(self, scope: str, key: str) -> None:
        self.get(scope, key)
        with closing(self._connect()) as db, db:
            db.execute("DELETE FROM secrets WHERE scope = ? AND key = ?", (scope, key))

    def keys(self, scope: str) -> list[tuple[str, int]]:
        """Keys and the milliseconds since the epoch at which each was last written."""
        with closing(self._connect()) as db:
            self._need(db, scope)
            query = "SELECT key, updated FROM secrets WHERE scope = ? ORDER BY key"
            return list(db.execute(query, (scope,)))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10)

    @staticmethod
    def _need(db: sqlite3.Connection, scope: str) -> None:
        if db.execute("SELECT 1 FROM scopes WHERE name = ?", (scope,)).fetchone() is None:
            raise ApiError("RESOURCE_DOES_NOT_EXIST", f"Scope {scope} does not exist!")
