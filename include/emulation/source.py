"""The source: a SQL database with the three tables of posts, read by the posts' numbers.

Opening one checks that each column can become its field's JSON type (:mod:`include.emulation.columns`). Reads go
by the number column; give large tables an index on it (:mod:`include.emulation.load` does).
"""

from __future__ import annotations

import heapq
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    TableClause,
    column,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy import types as sql_types
from sqlalchemy import union as sql_union
from sqlalchemy.engine import URL
from sqlalchemy.exc import SAWarning
from sqlalchemy.types import TypeEngine

from include.emulation import columns
from include.emulation.database import SourceError, connect, opened, parse_url, shown

READ_AT_ONCE = 1_000
"""Numbers asked for in one query: far below any database's limit of parameters."""

Record = dict[str, Any]


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
        self._moments: Mapping[str, frozenset[str]] = {}
        """Columns of SQLite that are declared to hold moments, which it stores as text: table → names."""
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
        with opened(self._engine) as connection:
            for name, source_table in TABLES.items():
                found[name] = {}
                for start in range(0, len(wanted), READ_AT_ONCE):
                    part = wanted[start : start + READ_AT_ONCE]
                    found[name].update(self._read(connection, source_table, part))
        return found

    def count(self) -> int:
        """How many posts there are: numbers that at least one table has."""
        numbers = sql_union(*(select(_number(t).label("number")) for t in TABLES.values())).subquery()
        with opened(self._engine) as connection:
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
            with opened(self._engine) as connection:
                rows = connection.execute(query).scalars().all()
            if not rows:
                return
            yield from (int(row) for row in rows)
            last = rows[-1]

    def _check(self) -> dict[str, int]:
        with opened(self._engine) as connection:
            sql_types_of = _sql_types(connection, shown(self._url))
            is_sqlite = connection.dialect.name == "sqlite"
            unsuitable = _unsuitable_storage if is_sqlite else _unsuitable_types
            problems = [
                problem
                for source_table in TABLES.values()
                for problem in unsuitable(connection, source_table, sql_types_of[source_table.name])
            ]
            if problems:
                raise SourceError(
                    f"{' '.join(problems)} Change the column, or put a view that converts it in the table's place."
                )
            if is_sqlite:
                self._moments = {name: _moments(found) for name, found in sql_types_of.items()}
            return {name: _count(connection, source_table) for name, source_table in TABLES.items()}

    def _read(
        self, connection: Connection, source_table: SourceTable, numbers: Sequence[int]
    ) -> Iterator[tuple[int, Record]]:
        query = select(source_table.clause).where(_number(source_table).in_(numbers))
        moments = self._moments.get(source_table.name, frozenset())
        for row in connection.execute(query):
            record = _record(source_table, row, moments)
            yield int(record[source_table.number]), record


ColumnTypes = Mapping[str, TypeEngine[Any]]
"""The SQL types of a table's columns, by name in lower case."""


def _sql_types(connection: Connection, name: str) -> dict[str, ColumnTypes]:
    """Return the types of every table's columns.

    :raises SourceError: a table or a column is missing
    """
    inspector = inspect(connection)
    there = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    if absent := [t.name for t in TABLES.values() if t.name not in there]:
        raise SourceError(f"{name} has no table {', '.join(absent)}.")
    found: dict[str, ColumnTypes] = {}
    for source_table in TABLES.values():
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", SAWarning
            )  # of types that SQLAlchemy does not know: they are refused
            types = {c["name"].lower(): c["type"] for c in inspector.get_columns(source_table.name)}
        if missing := [c for c in source_table.columns if c not in types]:
            raise SourceError(f"{source_table.name} has no column {', '.join(missing)}.")
        found[source_table.name] = types
    return found


def _unsuitable_types(
    connection: Connection, source_table: SourceTable, sql_types_of: ColumnTypes
) -> Iterator[str]:
    """Yield what is wrong with each column whose type cannot become its field's JSON type."""
    for name, json_type in source_table.columns.items():
        sql_type = sql_types_of[name]
        family = columns.family_of_type(sql_type)
        if json_type not in columns.JSON_TYPES[family]:
            what = columns.type_name(sql_type, connection.dialect)
            yield f"{source_table.name}.{name} is {what} ({family}), and {columns.WANTED[json_type]} is needed."


def _unsuitable_storage(connection: Connection, source_table: SourceTable, _: ColumnTypes) -> Iterator[str]:
    """Yield what is wrong with each column of SQLite that stores values which cannot become its field's JSON type.

    Any value may lie in any column there, so its declared type says nothing. One pass over the table.
    """
    wrong = {
        (name, storage): func.typeof(source_table.clause.c[name]) == storage
        for name, json_type in source_table.columns.items()
        for storage, family in columns.STORAGE.items()
        if json_type not in columns.JSON_TYPES[family]
    }
    for name, json_type in source_table.columns.items():
        if json_type is float:
            wrong[name, "infinite"] = _is_infinite(source_table.clause.c[name])
    counts = connection.execute(
        select(*(func.count().filter(condition) for condition in wrong.values())).select_from(
            source_table.clause
        )
    ).one()
    for (name, storage), count in zip(wrong, counts, strict=True):
        if count:
            needed = columns.WANTED[source_table.columns[name]]
            yield f"{source_table.name}.{name} holds {count} {storage} value(s), and {needed} is needed."


def _is_infinite(number: ColumnElement[Any]) -> ColumnElement[bool]:
    return (func.typeof(number) == "real") & (func.abs(number) > sys.float_info.max)


def _moments(sql_types_of: ColumnTypes) -> frozenset[str]:
    kinds = (sql_types.Date, sql_types.DateTime)
    return frozenset(name for name, sql_type in sql_types_of.items() if isinstance(sql_type, kinds))


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


def _record(source_table: SourceTable, row: Row[Any], moments: frozenset[str]) -> Record:
    record = {}
    for (name, json_type), value in zip(source_table.columns.items(), row, strict=True):
        if name in moments and isinstance(value, str):
            value = columns.moment_of_text(value)
        try:
            record[name] = columns.json_value(value, json_type)
        except columns.UnsuitableValue as error:
            number = dict(zip(source_table.columns, row, strict=True))[source_table.number]
            raise SourceError(f"{source_table.name}.{name} of post {number} holds {error}.") from None
    return record
