"""Fills the three source tables: from a folder of JSON lines, or with synthetic posts.

    python -m include.emulation.load --database sqlite:////tmp/source.db
    python -m include.emulation.load --database sqlite:////tmp/source.db --source ../posts
    SOURCE_URL=mysql+pymysql://user:password@host/database python -m include.emulation.load
    SOURCE=mysql+pymysql://user:password@host/database python -m include.emulation.load

The tables are replaced together once all is read, or not at all. A source that is a database already is only
checked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy import types as sql_types
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from include.emulation import synthetic
from include.emulation.columns import WANTED
from include.emulation.database import SourceError, connect, opened, parse_url, reason, shown, sqlite_file
from include.emulation.source import TABLES, Record, Source, SourceTable
from include.emulation.strict_json import loads, require_unicode
from include.emulation.terminal import accept_any_text, printable, printable_lines

ROWS_AT_ONCE = 1_000
LARGEST_INT = 2**63 - 1
FILE_NAME = re.compile(r"(?P<stem>.+?)\.(jsonl|ndjson|json)(\.gz)?", re.IGNORECASE)
TABLE_OF_WORD = {
    "pin": "pin",
    "pins": "pin",
    "geo": "geo",
    "geolocation": "geo",
    "user": "user",
    "users": "user",
}
NEW, OLD = "_being_loaded", "_being_replaced"
"""What a table's name ends in while it is filled, and while it is put aside."""

SQL_TYPES: Mapping[type, Callable[[], sql_types.TypeEngine[Any]]] = {
    int: lambda: BigInteger().with_variant(Integer, "sqlite"),
    float: Double,
    str: lambda: Text(2**24 - 1),  # MySQL's plain TEXT ends at 64 KiB
}

Progress = Callable[[str, int], None]
"""Called with a table and how many of its rows are loaded."""


def load(database: str, folder: Path | None = None, progress: Progress | None = None) -> dict[str, int]:
    """Replace the three tables of a database; return the rows of each.

    :param database: SQLAlchemy URL; a SQLite file and its folder are made where they are missing
    :param folder: gzipped or plain JSON lines, one or more files a table, whose names say which
        (`real_pin.jsonl.gz`, `geolocation_data.json`); None loads synthetic posts
    :raises SourceError: the folder or the database cannot be used; the tables are as they were
    """
    url = parse_url(database)
    records = read_folder(folder) if folder else synthetic.posts()
    if url.get_backend_name() == "sqlite" and (file := sqlite_file(url)):
        _make_folder(file.parent)
    engine = connect(url, create=True)
    try:
        with opened(engine):
            pass  # so that what is wrong with the URL is told as such
        return _replace(engine, records, progress or (lambda table, rows: None))
    except SQLAlchemyError as error:
        raise SourceError(f"{shown(url)} cannot be loaded: {reason(error)}.{_full(url, error)}") from error
    finally:
        engine.dispose()


def _full(url: URL, error: SQLAlchemyError) -> str:
    """A sentence more if the cause is a full disk, which SQLite has several words for."""
    file = sqlite_file(url) if url.get_backend_name() == "sqlite" else None
    if file is None:
        return ""
    folder = file.absolute().parent
    said = getattr(getattr(error, "orig", None), "sqlite_errorname", "")
    if said != "SQLITE_FULL" and shutil.disk_usage(folder).free >= 2**20:
        return ""
    return f" No space left on device: free some in the file system of {folder}."


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def read_folder(folder: Path) -> dict[str, Iterator[Record]]:
    """The records of each table, read while they are asked for.

    :raises SourceError: the folder, now, or a line, later, is not what it should be
    """
    if not folder.is_dir():
        raise SourceError(f"There is no folder {folder}.")
    files: dict[str, list[Path]] = {table: [] for table in TABLES}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (match := FILE_NAME.fullmatch(path.name)):
            files[_table_of(path, match["stem"])].append(path)
    missing = [table for table, paths in files.items() if not paths]
    if missing:
        raise SourceError(
            f"{folder} has no file for {', '.join(missing)}: a table's file is named after it and ends in .jsonl "
            "or .jsonl.gz, such as real_pin.jsonl.gz."
        )
    return {table: _read_files(TABLES[table], paths) for table, paths in files.items()}


def _table_of(path: Path, stem: str) -> str:
    words = {word for word in re.split(r"[^a-z]+", stem.lower()) if word}
    tables = {TABLE_OF_WORD[word] for word in words & set(TABLE_OF_WORD)}
    if not tables and words and words <= {"pinterest", "data"} and "pinterest" in words:
        tables = {"pin"}  # pinterest_data, the table's own name
    if len(tables) != 1:
        raise SourceError(f"{path} names none of the tables {', '.join(TABLES)}, or several.")
    return tables.pop()


def _read_files(source_table: SourceTable, paths: Iterable[Path]) -> Iterator[Record]:
    seen: set[int] = set()
    for path in paths:
        before = len(seen)
        for line_number, line in _lines(path):
            where = f"{path}, line {line_number}"
            record = _record(source_table, line, where)
            number = record[source_table.number]
            if number in seen:
                raise SourceError(f"{where}: {source_table.number} {number} was given before.")
            seen.add(number)
            yield record
        if len(seen) == before:
            raise SourceError(f"{path} is empty.")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1."""
    line_number = 0
    try:
        with _open(path) as file:
            for line_number, line in enumerate(file, start=1):
                if line.strip():
                    yield line_number, line
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path} cannot be read after line {line_number}: {error}.") from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _record(source_table: SourceTable, line: bytes, where: str) -> Record:
    try:
        value = loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise SourceError(f"{where} is no JSON object.")
    record = {
        name: _checked(value.get(name), name, kind, where) for name, kind in source_table.columns.items()
    }
    if record[source_table.number] is None:
        raise SourceError(f"{where} has no {source_table.number}.")
    if sum(field is not None for field in record.values()) == 1:
        raise SourceError(f"{where} has no field of {source_table.name} besides its number.")
    if b"\\u" in line:
        _require_unicode(value, where)
    return record


def _require_unicode(value: Any, where: str) -> None:
    try:
        require_unicode(value)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is no UTF-8: {error}.") from error


def _checked(value: Any, name: str, kind: type, where: str) -> Any:
    if value is None or _fits(value, kind):
        return value
    wanted = "a whole number of 64 bits" if kind is int else WANTED[kind]
    raise SourceError(f"{where}: {name} should be {wanted}, not {json.dumps(value):.60}.")


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    if kind is str:
        # A lone surrogate is text to JSON, but to no database.
        return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return abs(value) <= LARGEST_INT
    return kind is float and isinstance(value, float) and math.isfinite(value)


def _replace(engine: Engine, records: Mapping[str, Iterable[Record]], progress: Progress) -> dict[str, int]:
    new = {name: _table(source_table) for name, source_table in TABLES.items()}
    try:
        with engine.begin() as connection:
            for table in new.values():
                table.drop(connection, checkfirst=True)
                table.create(connection)
            rows = {
                name: _fill(connection, name, table, records[name], progress) for name, table in new.items()
            }
            _swap(connection)
    except BaseException:
        # SQLite has undone everything. MySQL commits with each CREATE, so there the new tables are still around.
        with suppress(SQLAlchemyError), engine.begin() as connection:
            for table in new.values():
                table.drop(connection, checkfirst=True)
        raise
    return rows


def _table(source_table: SourceTable) -> Table:
    columns = [
        Column(name, SQL_TYPES[kind](), primary_key=name == source_table.number, autoincrement=False)
        for name, kind in source_table.columns.items()
    ]
    return Table(
        source_table.name + NEW, MetaData(), *columns, mysql_charset="utf8mb4", mariadb_charset="utf8mb4"
    )


def _fill(
    connection: Connection, name: str, table: Table, records: Iterable[Record], progress: Progress
) -> int:
    rows = 0
    remaining = iter(records)
    while batch := list(islice(remaining, ROWS_AT_ONCE)):
        connection.execute(table.insert(), batch)
        rows += len(batch)
        progress(name, rows)
    return rows


def _swap(connection: Connection) -> None:
    """Put the filled tables in the place of those in use, all three at once."""
    inspector = inspect(connection)
    names = [source_table.name for source_table in TABLES.values()]
    in_use = [name for name in names if inspector.has_table(name)]
    if connection.dialect.name == "sqlite":
        statements = [f"DROP TABLE {name}" for name in in_use]
        statements += [f"ALTER TABLE {name}{NEW} RENAME TO {name}" for name in names]
    else:
        # One RENAME of several tables is atomic in MySQL.
        put_aside = [f"DROP TABLE IF EXISTS {name}{OLD}" for name in names]
        renames = [f"{name} TO {name}{OLD}" for name in in_use] + [f"{name}{NEW} TO {name}" for name in names]
        statements = [*put_aside, f"RENAME TABLE {', '.join(renames)}", *put_aside]
    for statement in statements:
        connection.execute(text(statement))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    accept_any_text()
    options = _parser().parse_args(arguments)
    source = options.source or ""
    try:
        if "://" in source:
            with Source(source) as checked:
                print(f"The source is a database already: {_summary(checked.rows)}.")
            return 0
        if not options.database:
            raise SourceError("Say which database to fill: --database sqlite:////folder/source.db.")
        rows = load(options.database, Path(source) if source else None, _show_progress)
    except SourceError as error:
        print(printable_lines(f"load: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("load: interrupted; the tables are as they were.", file=sys.stderr)
        return 130
    print(f"Loaded {printable(source) or 'synthetic posts'}: {_summary(rows)}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m include.emulation.load",
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("SOURCE_URL"),
        help="SQLAlchemy URL of the database to fill (one with a password belongs in the variable SOURCE_URL)",
    )
    parser.add_argument(
        "--source",
        metavar="FOLDER",
        default=os.environ.get("SOURCE"),
        help="folder of .jsonl or .jsonl.gz files named after the tables pin, geo and user; or the URL of a "
        "database, which is only checked (one with a password belongs in the variable SOURCE, where no process "
        "list shows it); synthetic posts without it",
    )
    return parser


def _show_progress(table: str, rows: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{table}: {rows:,} rows ", end="", file=sys.stderr, flush=True)


def _summary(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{TABLES[table].name} {count:,} rows" for table, count in rows.items())


if __name__ == "__main__":
    sys.exit(main())
