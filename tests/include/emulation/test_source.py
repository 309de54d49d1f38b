"""Reading the source, and what is said when it cannot be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from include.emulation import source as source_module
from include.emulation.database import SourceError, SourceUnavailable, parse_url, sqlite_file
from include.emulation.source import TABLES, Source


def test_records_are_read_by_number(make_source: Any) -> None:
    with Source(make_source([1, 2], [2], [2, 3])) as source:
        assert source.rows == {"pin": 2, "geo": 1, "user": 2}
        found = source.read([2, 3, 2])

    assert {table: sorted(records) for table, records in found.items()} == {
        "pin": [2],
        "geo": [2],
        "user": [2, 3],
    }
    assert found["geo"][2] == {
        "ind": 2,
        "timestamp": "2020-08-28 03:52:47",
        "latitude": -1.25,
        "longitude": 100.0,
        "country": "Côte d'Azur & (elsewhere)",
    }
    assert found["user"][3]["last_name"] is None
    assert found["user"][3]["date_joined"] == "2016-01-02T03:04:05"
    assert [list(found[table][2]) for table in TABLES] == [list(TABLES[table].columns) for table in TABLES]
    assert found["pin"][2]["title"] == 'Title "2" 🎨\nsecond line \\'


def test_any_number_of_numbers_can_be_asked_for(synthetic_source: str) -> None:
    with Source(synthetic_source) as source:
        found = source.read(range(20_000))
    assert {table: len(records) for table, records in found.items()} == dict.fromkeys(TABLES, 11_154)
    assert found["pin"][11_153]["index"] == 11_153


def test_numbers_are_walked_in_order(make_source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "READ_AT_ONCE", 2)
    with Source(make_source([1, 5, 9, 10], [2, 5, 6], [5, 12, 13])) as source:
        assert list(source.numbers()) == [1, 2, 5, 6, 9, 10, 12, 13]
        assert source.count() == 8


def edited(url: str, *statements: str) -> str:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return url


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["DROP TABLE user_data"], "has no table user_data"),
        (["DROP TABLE user_data", "DROP TABLE pinterest_data"], "has no table pinterest_data, user_data"),
        (["DELETE FROM geolocation_data"], "geolocation_data is empty"),
        (["ALTER TABLE user_data DROP COLUMN age"], "user_data has no column age"),
        (['ALTER TABLE pinterest_data RENAME COLUMN "index" TO ind'], "pinterest_data has no column index"),
    ],
)
def test_tables_that_cannot_be_drawn_from(make_source: Any, statements: list[str], message: str) -> None:
    url = edited(make_source([1], [1], [1]), *statements)
    with pytest.raises(SourceError, match=message):
        Source(url)


@pytest.mark.parametrize(
    "insert", ["INSERT INTO user_data SELECT * FROM copy", "INSERT INTO user_data (age) VALUES (3)"]
)
def test_numbers_that_are_no_key(make_source: Any, insert: str) -> None:
    url = edited(
        make_source([1], [1], [1]),
        "CREATE TABLE copy AS SELECT * FROM user_data",
        "DROP TABLE user_data",
        "CREATE TABLE user_data AS SELECT * FROM copy",
        insert,
    )
    with pytest.raises(SourceError, match="user_data cannot be drawn from: 1 of its 2 rows"):
        Source(url)


def test_a_view_is_as_good_as_a_table(make_source: Any) -> None:
    url = edited(
        make_source([1], [1], [1]),
        "ALTER TABLE user_data RENAME TO people",
        "CREATE VIEW user_data AS SELECT * FROM people",
    )
    with Source(url) as source:
        assert source.read([1])["user"][1]["first_name"] == "Ada"


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no database .*nowhere\.db"):
        Source(f"sqlite:///{tmp_path / 'nowhere.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("This is no database, it is text. " * 50)
    with pytest.raises(SourceError, match="file is not a database"):
        Source(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["", "source.db", "/folder/source.db", "mysql+pymysql://u:hush@host:port/db"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(SourceError, match="no database URL") as caught:
        parse_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["nosuch://u:hush@host/db", "mysql+mysqldb://u:hush@host/db"])
def test_urls_without_a_driver(url: str) -> None:
    with pytest.raises(SourceError, match="no driver") as caught:
        Source(url)
    assert "hush" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(
        SourceError, match=r"mysql\+pymysql://u:\*\*\*@127\.0\.0\.1:1/db cannot be read"
    ) as caught:
        Source("mysql+pymysql://u:hush@127.0.0.1:1/db")
    assert "hush" not in str(caught.value)


def with_column(make_source: Any, table: str, column: str, declared: str, *values: object) -> str:
    """A source whose table has this column, declared so, with these values; posts are numbered from 1."""
    numbers = range(1, len(values) + 1)
    url = make_source(numbers, numbers, numbers)
    kept = [name for t in TABLES.values() if t.name == table for name in t.columns]
    number = kept[0]
    columns = ", ".join(f'"{name}" {declared if name == column else ""}' for name in kept)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        rows = connection.execute(f'SELECT * FROM {table} ORDER BY "{number}"').fetchall()
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"CREATE TABLE {table} ({columns})")
        for row, value in zip(rows, values, strict=True):
            changed = [value if name == column else old for name, old in zip(kept, row, strict=True)]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(kept))})", changed)
    connection.close()
    return str(url)


@pytest.mark.parametrize(
    ("table", "column", "declared", "values", "says"),
    [
        ("pinterest_data", "index", "TEXT", (1, 2), "holds 2 text value(s), and a whole number is needed"),
        ("pinterest_data", "index", "", (1, "two"), "holds 1 text value(s), and a whole number is needed"),
        ("pinterest_data", "downloaded", "BIT(1)", (1, b"\x01"), "holds 1 blob value(s), and a whole number"),
        (
            "pinterest_data",
            "description",
            "LONGBLOB",
            ("a", b"b"),
            "holds 1 blob value(s), and text is needed",
        ),
        ("pinterest_data", "follower_count", "INTEGER", (5, "5k"), "holds 1 integer value(s), and text is"),
        ("pinterest_data", "title", "REAL", (1.5, "a"), "holds 1 real value(s), and text is needed"),
        (
            "geolocation_data",
            "latitude",
            "VARCHAR(20)",
            ("1.5", None),
            "holds 1 text value(s), and a number is",
        ),
        (
            "geolocation_data",
            "longitude",
            "REAL",
            (1e999, -1e999),
            "holds 2 infinite value(s), and a number is",
        ),
        (
            "geolocation_data",
            "timestamp",
            "INTEGER",
            (1598586767, None),
            "holds 1 integer value(s), and text is",
        ),
        ("user_data", "age", "DECIMAL(10, 2)", (30, 30.5), "holds 1 real value(s), and a whole number is"),
        ("user_data", "age", "REAL", (30, None), "holds 1 real value(s), and a whole number is needed"),
        (
            "user_data",
            "age",
            "INTEGER",
            ("thirty", 30),
            "holds 1 text value(s), and a whole number is needed",
        ),
        (
            "user_data",
            "date_joined",
            "DATE",
            (20160102, None),
            "holds 1 integer value(s), and text is needed",
        ),
        ("user_data", "date_joined", "", (b"2016-01-02", None), "holds 1 blob value(s), and text is needed"),
    ],
)
def test_what_is_stored_has_to_become_the_fields_json_type(
    make_source: Any, table: str, column: str, declared: str, values: tuple[object, ...], says: str
) -> None:
    with pytest.raises(SourceError) as caught:
        Source(with_column(make_source, table, column, declared, *values))
    assert f"{table}.{column} {says}" in str(caught.value)
    assert caught.value.retriable is False


def test_every_unsuitable_column_is_named_at_once(make_source: Any) -> None:
    url = with_column(make_source, "user_data", "age", "TEXT", 30)
    edited(url, "UPDATE geolocation_data SET latitude = 'north', country = x'00'")
    with pytest.raises(SourceError) as caught:
        Source(url)
    assert str(caught.value) == (
        "geolocation_data.latitude holds 1 text value(s), and a number is needed. "
        "geolocation_data.country holds 1 blob value(s), and text is needed. "
        "user_data.age holds 1 text value(s), and a whole number is needed. "
        "Change the column, or put a view that converts it in the table's place."
    )


@pytest.mark.parametrize(
    ("table", "column", "declared", "value", "expected"),
    [
        ("user_data", "date_joined", "DATE", "2016-01-02", "2016-01-02 00:00:00"),
        ("user_data", "date_joined", "DATETIME", "2016-01-02 03:04:05.999999", "2016-01-02 03:04:05"),
        ("user_data", "date_joined", "TIMESTAMP", "2016-01-02T03:04:05", "2016-01-02 03:04:05"),
        ("user_data", "date_joined", "TIMESTAMP", "2016-01-02 03:04:05+02:00", "2016-01-02 03:04:05+02:00"),
        ("user_data", "date_joined", "DATE", "0000-00-00", "0000-00-00"),
        ("user_data", "date_joined", "DATE", None, None),
        ("user_data", "date_joined", "TEXT", "2016-01-02", "2016-01-02"),
        ("user_data", "age", "DECIMAL(10, 2)", 30.0, 30),
        ("user_data", "age", "BIGINT UNSIGNED", 2**63 - 1, 2**63 - 1),
        ("pinterest_data", "downloaded", "BOOLEAN", True, 1),
        ("pinterest_data", "follower_count", "INTEGER", "5k", "5k"),
        ("pinterest_data", "description", "BLOB", "text", "text"),
        ("geolocation_data", "latitude", "INTEGER", 1, 1.0),
    ],
)
def test_values_that_fit_are_read_as_the_rules_say(
    make_source: Any, table: str, column: str, declared: str, value: object, expected: object
) -> None:
    name = next(name for name, source_table in TABLES.items() if source_table.name == table)
    with Source(with_column(make_source, table, column, declared, value)) as source:
        read = source.read([1])[name][1][column]
    assert (read, type(read)) == (expected, type(expected))


def test_a_view_is_checked_by_what_it_says(make_source: Any) -> None:
    url = with_column(make_source, "user_data", "age", "TEXT", 30, 31)
    edited(url, "ALTER TABLE user_data RENAME TO people", "CREATE VIEW user_data AS SELECT * FROM people")
    with pytest.raises(SourceError, match=r"user_data\.age holds 2 text value"):
        Source(url)
    edited(
        url,
        "DROP VIEW user_data",
        "CREATE VIEW user_data AS SELECT ind, first_name, last_name, CAST(age AS INTEGER) AS age, date_joined "
        "FROM people",
    )
    with Source(url) as source:
        assert source.read([2])["user"][2]["age"] == 31


def test_text_that_is_no_utf8_is_named_and_final(make_source: Any) -> None:
    url = edited(make_source([1], [1], [1]), "UPDATE user_data SET first_name = CAST(x'ff' AS TEXT)")
    with (
        Source(url) as source,
        pytest.raises(SourceError, match="Could not decode to UTF-8 column") as caught,
    ):
        source.read([1])
    assert caught.value.retriable is False


def test_a_database_that_is_locked_may_be_tried_again(make_source: Any) -> None:
    url = make_source([1], [1], [1])
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(SourceUnavailable, match="database is locked") as caught:
            Source(f"{url}?timeout=0.01")
        assert caught.value.retriable is True
    finally:
        holder.close()


def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    with pytest.raises(SourceUnavailable):
        Source("mysql+pymysql://u:hush@127.0.0.1:1/db")


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("mysql://u:p@h/db", "mysql+pymysql"),
        ("mysql+pymysql://u:p@h/db", "mysql+pymysql"),
        ("mariadb://u:p@h/db", "mariadb+pymysql"),
        ("mariadb+pymysql://u:p@h/db", "mariadb+pymysql"),
        ("sqlite:////a/b.db", "sqlite"),
        ("sqlite+pysqlite:////a/b.db", "sqlite+pysqlite"),
    ],
)
def test_drivers(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    "url", ["postgresql://u:hush@h/db", "sqlite+aiosqlite:////a/b.db", "mysql+aiomysql://u:hush@h/db"]
)
def test_databases_that_cannot_be_read(url: str) -> None:
    with pytest.raises(SourceError, match="There is no driver for") as caught:
        parse_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://u:hush@word@h/db",
        "mysql+pymysql://u:p@hush/word@h/db",
        "mysql+pymysql://a/b:hush@h/db",
    ],
)
def test_a_password_that_is_not_encoded_is_not_repeated(url: str) -> None:
    with pytest.raises(SourceError, match="percent-encode") as caught:
        parse_url(url)
    assert "hush" not in str(caught.value)


def test_a_password_in_the_query_is_not_repeated() -> None:
    with pytest.raises(SourceError, match=r"mysql\+pymysql://u@127\.0\.0\.1:1/db cannot be read") as caught:
        Source("mysql+pymysql://u@127.0.0.1:1/db?password=hush")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("nonsense=hush", "unexpected keyword argument 'nonsense'"),
        ("ssl_ca=/no/such/ca.pem", "No such file or directory"),
        ("connect_timeout=soon", "invalid literal for int"),
        ("charset=martian", "cannot be opened with its query"),
    ],
)
def test_a_query_that_the_driver_does_not_take(query: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        Source(f"mysql+pymysql://u:hush@127.0.0.1:1/db?{query}")
    assert says in str(caught.value)
    assert f"({query.partition('=')[0]})" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.retriable is False


def test_a_relative_path_becomes_absolute(make_source: Any, tmp_path: Path, monkeypatch: Any) -> None:
    url = make_source([1], [1], [1])
    monkeypatch.chdir(tmp_path)
    assert url == f"sqlite:///{tmp_path}/source.db"
    for relative in ("sqlite:///source.db", "sqlite:///./source.db", "sqlite:///file:source.db?uri=true"):
        parsed = parse_url(relative)
        assert sqlite_file(parsed) == tmp_path / "source.db"
        monkeypatch.chdir("/")
        with Source(parsed) as source:
            assert source.rows["pin"] == 1
        monkeypatch.chdir(tmp_path)


def test_a_uri_is_opened_as_it_says(make_source: Any, tmp_path: Path) -> None:
    make_source([1], [1], [1], "a b")
    url = f"sqlite:///file:{tmp_path}/a%20b.db?mode=ro&uri=true"
    assert parse_url(url) == make_url(url)
    with Source(url) as source:
        assert source.rows == {"pin": 1, "geo": 1, "user": 1}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///{folder}/source.db?mode=ro", "mode counts in a file: URI only"),
        ("sqlite:///{folder}/source.db?mode=ro&uri=true", "mode counts in a file: URI only"),
        ("sqlite:///{folder}/source.db?uri=true", "uri counts in a file: URI only"),
        ("sqlite:///file:{folder}/nowhere.db?uri=true", "There is no database {folder}/nowhere.db"),
        ("sqlite:///file:{folder}/source.db?mode=ro&uri=maybe", "uri is true or false"),
        ("sqlite://folder/source.db", "a path after three slashes and no host"),
        ("sqlite:///{folder}/source.db?timeout=soon", "could not convert string to float"),
    ],
)
def test_sqlite_urls_that_will_not_do_make_no_file(
    make_source: Any, tmp_path: Path, url: str, says: str
) -> None:
    make_source([1], [1], [1])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SourceError) as caught:
        Source(url.format(folder=tmp_path))
    assert says.format(folder=tmp_path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
