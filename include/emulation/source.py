"""The source: a SQL database with the three tables of posts, read by the posts' numbers.

Any SQLAlchemy URL of SQLite or MySQL does: ``sqlite:////folder/source.db``,
``mysql+pymysql://user:password@host/database``. Reads go by the number column; give large tables an index on
it (:mod:`include.emulation.load` does).
"""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    TableClause,
    column,
    create_engine,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy import union as sql_union
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

READ_AT_ONCE = 1_000
"""Numbers asked for in one query: far below any database's limit of parameters."""

Record = dict[str, Any]


class SourceError(Exception):
    """The source cannot be used. The message says what is wrong and never holds a password."""


@dataclass(frozen=True)
class SourceTable:
    """A table of the source, and what its records look like."""

    name: str
    number: str
    """The column that numbers the post."""
    columns: Mapping[str, type]
    """Every column in the order of the record's fields, with its JSON type: int, float or str."""

    @cached_property
    def clause(self) -> TableClause:
        return table(self.name, *(column(name) for name in self.columns))


TABLES: Mapping[str, SourceTable] = MappingProxyType({
    "pin": SourceTable(
        "pinterest_data",
        "index",
        {
            "index": int,
            "unique_id": str,
            "title": str,
            "description": str,
            "poster_name": str,
            "follower_count": str,
            "tag_list": str,
            "is_image_or_video": str,
            "image_src": str,
            "downloaded": int,
            "save_location": str,
            "category": str,
        },
    ),
    "geo": SourceTable(
        "geolocation_data",
        "ind",
        {"ind": int, "timestamp": str, "latitude": float, "longitude": float, "country": str},
    ),
    "user": SourceTable(
        "user_data",
        "ind",
        {"ind": int, "first_name": str, "last_name": str, "age": int, "date_joined": str},
    ),
})
"""The tables by the names the records go by."""


class Source:
    """A checked connection to the source tables, with the `rows` of each; use it in a `with` block.

    :param url: the database's SQLAlchemy URL
    :raises SourceError: the URL, the database or its tables cannot be used
    """

    def __init__(self, url: str | URL) -> None:
        self._url = parse_url(url)
        self._engine = connect(self._url)
        try:
            self.rows: dict[str, int] = self._check()
        except BaseException:
            self._engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def read(self, numbers: Collection[int]) -> dict[str, dict[int, Record]]:
        """The records with these numbers: table → number → record. What a table lacks is absent."""
        wanted = sorted(set(numbers))
        found: dict[str, dict[int, Record]] = {}
        with _explained(self._url), self._engine.connect() as connection:
            for name, source_table in TABLES.items():
                found[name] = {}
                for start in range(0, len(wanted), READ_AT_ONCE):
                    part = wanted[start : start + READ_AT_ONCE]
                    found[name].update(_read(connection, source_table, part))
        return found

    def count(self) -> int:
        """How many posts there are: numbers that at least one table has."""
        numbers = sql_union(*(select(_number(t).label("number")) for t in TABLES.values())).subquery()
        with _explained(self._url), self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(numbers)).scalar_one())

    def numbers(self) -> Iterator[int]:
        """Numbers of all posts, ascending, each once. Read page by page, so any number of them fits."""
        merged = heapq.merge(*(self._numbers_of(source_table) for source_table in TABLES.values()))
        return (number for number, _ in groupby(merged))

    def _numbers_of(self, source_table: SourceTable) -> Iterator[int]:
        number = _number(source_table)
        page = select(number).order_by(number).limit(READ_AT_ONCE)
        last: int | None = None
        while True:
            query = page if last is None else page.where(number > last)
            with _explained(self._url), self._engine.connect() as connection:
                rows = connection.execute(query).scalars().all()
            if not rows:
                return
            yield from (int(row) for row in rows)
            last = rows[-1]

    def _check(self) -> dict[str, int]:
        with _explained(self._url), self._engine.connect() as connection:
            inspector = inspect(connection)
            there = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
            absent = [t.name for t in TABLES.values() if t.name not in there]
            if absent:
                raise SourceError(f"{shown(self._url)} has no table {', '.join(absent)}.")
            for source_table in TABLES.values():
                columns = {c["name"].lower() for c in inspector.get_columns(source_table.name)}
                if missing := [c for c in source_table.columns if c not in columns]:
                    raise SourceError(f"{source_table.name} has no column {', '.join(missing)}.")
            return {name: _count(connection, source_table) for name, source_table in TABLES.items()}


def parse_url(url: str | URL) -> URL:
    """The URL, once it is known to name a database this project can read.

    :raises SourceError: it does not
    """
    wanted = "sqlite:////folder/source.db or mysql+pymysql://user:password@host/database"
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError):
        raise SourceError(
            f"There is no driver for {parsed.drivername!r}: give a URL like {wanted}."
        ) from None
    except (ArgumentError, ValueError):
        # The text itself stays unsaid: it may hold a password that could not be told apart.
        raise SourceError(f"The source is no database URL: give one like {wanted}.") from None
    return parsed


def connect(url: URL, *, create: bool = False) -> Engine:
    """An engine on the database.

    :param create: whether SQLite may make the file
    :raises SourceError: there is no such SQLite file
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if not create and url.database and not url.database.startswith("file:"):
        path = Path(url.database)
        if not path.is_file():
            raise SourceError(f"There is no database {path}.")
    # PEP 249's transactions, which hold CREATE and DROP too.
    return create_engine(url, connect_args={"autocommit": False, "factory": _SQLiteConnection})


class _SQLiteConnection(sqlite3.Connection):
    """A connection that can roll back what SQLite has rolled back by itself, as it does on a full disk."""

    def rollback(self) -> None:
        if not self.in_transaction:
            self.execute("BEGIN")
        super().rollback()


def shown(url: URL) -> str:
    """The URL as a message may show it."""
    return url.render_as_string(hide_password=True)


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    """Turns what a database says into a SourceError that names the database, not its password."""
    try:
        yield
    except SQLAlchemyError as error:
        raise SourceError(f"{shown(url)} cannot be read: {reason(error)}.") from error


def reason(error: SQLAlchemyError) -> str:
    """What the database itself said, without the statement and its values."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    words = said.args[-1] if isinstance(said, Exception) and said.args else type(error).__name__
    return str(words).strip().rstrip(".") or type(error).__name__


def _number(source_table: SourceTable) -> Any:
    return source_table.clause.c[source_table.number]


def _count(connection: Connection, source_table: SourceTable) -> int:
    """Rows of a table whose every row can be found by its number."""
    number = _number(source_table)
    query = select(func.count(), func.count(number.distinct())).select_from(source_table.clause)
    rows, numbers = connection.execute(query).one()
    if not rows:
        raise SourceError(f"{source_table.name} is empty.")
    if rows != numbers:
        what = (
            f"{rows - numbers} of its {rows} rows have no {source_table.number} or one that another row has"
        )
        raise SourceError(f"{source_table.name} cannot be drawn from: {what}.")
    return int(rows)


def _read(
    connection: Connection, source_table: SourceTable, numbers: Sequence[int]
) -> Iterator[tuple[int, Record]]:
    query = select(source_table.clause).where(_number(source_table).in_(numbers))
    for row in connection.execute(query):
        record = _record(source_table, row)
        yield int(record[source_table.number]), record


def _record(source_table: SourceTable, row: Row[Any]) -> Record:
    return {
        name: _json_value(value, f"{source_table.name}.{name}")
        for name, value in zip(source_table.columns, row, strict=True)
    }


def _json_value(value: Any, where: str) -> Any:
    """The value as JSON can say it, so that a database's own types never reach the wire."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, Decimal):
        value = (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else float(value)
        )
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    raise SourceError(f"{where} holds {value!r:.40}, which is neither text, a number nor a moment.")
