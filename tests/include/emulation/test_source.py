"""Reading the source, and what is said when it cannot be read."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from include.emulation import source as source_module
from include.emulation.source import TABLES, Source, SourceError, parse_url


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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2020, 8, 28, 3, 52, 47, 900_000), "2020-08-28 03:52:47"),
        (Decimal("12"), 12),
        (Decimal("12.50"), 12.5),
        (Decimal("1.0"), 1.0),
        (7, 7),
        (-1.25, -1.25),
        ("  as stored ", "  as stored "),
        (None, None),
        (True, 1),
    ],
)
def test_values_as_json_says_them(value: Any, expected: Any) -> None:
    rendered = source_module._json_value(value, "t.c")
    assert json.dumps(rendered) == json.dumps(expected)


@pytest.mark.parametrize("value", [b"bytes", float("nan"), float("inf"), object()])
def test_values_that_json_cannot_say(value: Any) -> None:
    with pytest.raises(SourceError, match=r"t\.c holds"):
        source_module._json_value(value, "t.c")


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
