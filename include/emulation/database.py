"""The databases that a source can be: which URLs, how they are opened, and what their errors mean.

    sqlite:////folder/source.db
    sqlite:///file:/folder/source.db?mode=ro&uri=true
    mysql+pymysql://user:password@host:3306/database?ssl_ca=/folder/ca.pem
    mariadb+pymysql://user:password@host/database

A URL is used whole. A password stands in no message: neither as such nor in the query.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.util import asbool

DRIVER = "pymysql"
"""The driver of a MySQL or MariaDB URL that names none: the one that is installed here and on MWAA."""
EXAMPLES = "sqlite:////folder/source.db or mysql+pymysql://user:password@host/database"

SQLITE_ARGUMENTS = {
    "uri", "timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements",
}  # fmt: skip
"""What of a SQLite URL's query SQLAlchemy hands on; the rest counts in a `file:` URI only."""
SQLITE_PASSING = {5, 6, 10, 14, 15}
"""SQLITE_BUSY, LOCKED, IOERR, CANTOPEN and PROTOCOL."""
MYSQL_PASSING = {1040, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1317, 1927, 4031}
"""Too many connections, shutdown, network, lock and deadlock; all of 2000 to 2999 are the connection's own."""


class SourceError(Exception):
    """The source cannot be used. The message says what is wrong and never holds a password."""

    retriable = False
    """Whether another try may help."""


class SourceUnavailable(SourceError):
    """The database does not answer, or not now."""

    retriable = True


def parse_url(url: str | URL) -> URL:
    """Return the URL with its driver and an absolute path, once it names a database this project can read.

    :raises SourceError: it does not
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text itself stays unsaid: it may hold a password that could not be told apart.
        raise SourceError(f"The source is no database URL: give one like {EXAMPLES}.") from None
    if parsed.drivername in {"mysql", "mariadb"}:
        parsed = parsed.set(drivername=f"{parsed.drivername}+{DRIVER}")
    _require_driver(parsed)
    if parsed.get_backend_name() == "sqlite":
        return _parse_sqlite(parsed)
    if "@" in f"{parsed.host}{parsed.database}":
        raise SourceError(
            "The source is no database URL: percent-encode what is special in its user name and password "
            "(@ is %40, / is %2F, : is %3A)."
        )
    # Airflow keeps no empty password, and to a driver it is none.
    return parsed._replace(username=parsed.username or None, password=parsed.password or None)


def _require_driver(url: URL) -> None:
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
        usable = url.get_backend_name() in {"sqlite", "mysql", "mariadb"} and not dialect.is_async
    except (NoSuchModuleError, ImportError):
        usable = False
    if not usable:
        raise SourceError(f"There is no driver for {url.drivername!r}: give a URL like {EXAMPLES}.")


def _parse_sqlite(url: URL) -> URL:
    if url.host or url.username or url.password or url.port:
        raise SourceError(f"A SQLite URL has a path after three slashes and no host: {EXAMPLES}.")
    is_uri = _is_uri(url)
    database = url.database or ""
    ignored = sorted(set(url.query) - SQLITE_ARGUMENTS)
    if (is_uri or ignored) and not (is_uri and database.startswith("file:")):
        # Without file:, SQLite would make a file whose name ends in the query.
        what = ", ".join(ignored) or "uri"
        raise SourceError(
            f"{what} counts in a file: URI only: sqlite:///file:/folder/source.db?mode=ro&uri=true."
        )
    if not database or database == ":memory:":
        return url
    if not is_uri:
        return url if Path(database).is_absolute() else url.set(database=str(Path(database).resolve()))
    file = sqlite_file(url)
    if file is None or file.is_absolute():
        return url
    return url.set(database=f"file:{quote(str(file.resolve()))}")


def _is_uri(url: URL) -> bool:
    try:
        return asbool(url.query.get("uri", False))
    except ValueError:
        raise SourceError("uri is true or false in a SQLite URL.") from None


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, or None for one in memory."""
    database = url.database or ""
    if _is_uri(url) and database.startswith("file:"):
        path = database.removeprefix("file:")
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]
        in_memory = url.query.get("mode") == "memory" or url.query.get("vfs") == "memdb"
        database = "" if in_memory else unquote(path)
    return None if database in {"", ":memory:"} else Path(database)


def connect(url: URL, *, create: bool = False) -> Engine:
    """Return an engine on the database.

    :param create: whether SQLite may make the file
    :raises SourceError: there is no such SQLite file, or the URL's query makes no sense
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        file = sqlite_file(url)
        if not create and file and not file.is_file():
            raise SourceError(f"There is no database {file}.")
        # PEP 249's transactions, which hold CREATE and DROP too.
        options = {"connect_args": {"autocommit": False, "factory": _SQLiteConnection}}
    try:
        return create_engine(url, **options)
    except (SQLAlchemyError, ValueError) as error:
        raise _query_error(url, error) from error


class _SQLiteConnection(sqlite3.Connection):
    """A connection that can roll back what SQLite has rolled back by itself, as it does on a full disk."""

    def rollback(self) -> None:
        if not self.in_transaction:
            self.execute("BEGIN")
        super().rollback()


def shown(url: URL) -> str:
    """Return the URL as a message may show it: drivers take passwords in the query, too, so without it."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what a database says into a SourceError that names the database, not its password."""
    try:
        yield
    except SQLAlchemyError as error:
        kind = SourceUnavailable if _passes(error) else SourceError
        raise kind(f"{shown(url)} cannot be read: {reason(error)}.") from error


@contextmanager
def opened(engine: Engine) -> Iterator[Connection]:
    """Open a connection; what a driver itself says of the URL's query is a SourceError, too."""
    url = engine.url
    with explained(url):
        try:
            connection = engine.connect()
        except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise _query_error(url, error) from error
        with connection:
            yield connection


def _query_error(url: URL, error: Exception) -> SourceError:
    """Return the error for a file that is not there or an option that the driver does not know."""
    said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return SourceError(
        f"{shown(url)} cannot be opened with its query ({', '.join(sorted(url.query))}): "
        f"{type(error).__name__}: {said.rstrip('.')}."
    )


def reason(error: SQLAlchemyError) -> str:
    """Return what the database itself said, without the statement and its values."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    words = said.args[-1] if isinstance(said, Exception) and said.args else type(error).__name__
    return str(words).strip().rstrip(".") or type(error).__name__


def _passes(error: SQLAlchemyError) -> bool:
    """Return whether the same may succeed a moment later: the connection, locks, a server that is stopping."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeout)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF in SQLITE_PASSING
    code = error.orig.args[0] if error.orig and error.orig.args else None
    if isinstance(error, InterfaceError | InternalError):
        return True
    return isinstance(code, int) and (2_000 <= code < 3_000 or code in MYSQL_PASSING)
