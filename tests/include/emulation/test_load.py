"""Loading the source tables: from files of every sort, all or nothing."""

from __future__ import annotations

import gzip
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from include.emulation.load import load, main
from include.emulation.source import Source, SourceError

GEO = {"ind": 1, "timestamp": "2020-01-01 00:00:00", "latitude": 1, "longitude": 2.5, "country": "X"}
USER = {"ind": 1, "first_name": "A", "last_name": "B", "age": 30, "date_joined": "2016-01-01T00:00:00"}
PIN = {"index": 1, "title": "T", "downloaded": 1, "follower_count": "5k", "category": "art"}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "posts"
    folder.mkdir()
    (folder / "pin.jsonl").write_bytes(lines(PIN))
    (folder / "geo.jsonl").write_bytes(lines(GEO))
    (folder / "user.jsonl").write_bytes(lines(USER))
    return folder


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new' / 'source.db'}"


def content(database: str) -> Any:
    with Source(database) as source:
        return source.read(range(1_000))


@pytest.mark.parametrize(
    ("pin", "geo", "user"),
    [
        ("real_pin.jsonl.gz", "real_geo.jsonl.gz", "real_user.jsonl.gz"),
        ("pinterest_data.jsonl", "geolocation_data.jsonl", "user_data.jsonl"),
        ("pinterest_pin.json", "pinterest-geo.ndjson", "Pinterest.User.JSONL"),
        ("pins.jsonl", "geo-2020.jsonl.gz", "users.json.gz"),
    ],
)
def test_a_files_name_says_its_table(tmp_path: Path, database: str, pin: str, geo: str, user: str) -> None:
    for name, record in ((pin, PIN), (geo, GEO), (user, USER)):
        data = lines(record)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert load(database, tmp_path) == {"pin": 1, "geo": 1, "user": 1}
    found = content(database)
    assert found["geo"][1] == GEO
    assert found["user"][1] == USER
    assert found["pin"][1] == {**dict.fromkeys(found["pin"][1]), **PIN}


def test_a_table_may_come_in_parts(folder: Path, database: str) -> None:
    (folder / "geo-2.jsonl.gz").write_bytes(gzip.compress(lines({**GEO, "ind": 2}) + b"\n  \n"))
    (folder / "README.md").write_text("No data.")
    (folder / ".hidden.jsonl").write_text("No data.")
    assert load(database, folder) == {"pin": 1, "geo": 2, "user": 1}


def test_text_survives_unchanged(folder: Path, database: str) -> None:
    title = ' Ünï "q" \' \\ \\n 🎨👩‍🎨 \ufffd \N{NO-BREAK SPACE}\r\n\t\u2028… '
    (folder / "pin.jsonl").write_bytes(lines({**PIN, "title": title}))
    load(database, folder)
    assert content(database)["pin"][1]["title"] == title


def test_a_column_that_is_not_of_the_table_is_ignored(folder: Path, database: str) -> None:
    (folder / "user.jsonl").write_bytes(lines({**USER, "Unnamed: 0": 7}))
    load(database, folder)
    assert content(database)["user"][1] == USER


BAD_LINES = [
    (b'{"ind": 2, "age": 3', "is no JSON:"),
    (b"{'ind': 2}", "is no JSON:"),
    (b'{"ind": 2, "age": NaN}', "NaN is no JSON"),
    (b'{"ind": 2} {"ind": 3}', "is no JSON:"),
    (b'{"first_name": "\xff"}', "is no JSON:"),
    (b"[2]", "is no JSON object"),
    (b"null", "is no JSON object"),
    (b'{"first_name": "A"}', "has no ind"),
    (b'{"ind": null, "age": 3}', "has no ind"),
    (b'{"ind": 2, "country": "X"}', "has no field of user_data"),
    (b'{"ind": 2.0, "age": 3}', "ind should be a whole number"),
    (b'{"ind": 2, "age": "3"}', "age should be a whole number"),
    (b'{"ind": 2, "age": true}', "age should be a whole number"),
    (b'{"ind": 9223372036854775808, "age": 3}', "ind should be a whole number"),
    (b'{"ind": 2, "first_name": 3}', "first_name should be text"),
    (b'{"ind": 2, "first_name": "\\ud800"}', "first_name should be text"),
    (b'{"ind": 1, "age": 3}', "ind 1 was given before"),
    (b'{"ind": 2, "ind": 3, "age": 3}', 'is no JSON: the key "ind" is repeated'),
    (b'{"ind": 2, "age": 3, "ind": 2}', 'is no JSON: the key "ind" is repeated'),
    (b'{"ind": 2, "in\\u0064": 3, "age": 3}', 'is no JSON: the key "ind" is repeated'),
    (b'{"ind": 2, "age": 3, "more": [{"a": 1, "a": 1}]}', 'is no JSON: the key "a" is repeated'),
    (b'{"ind": 2, "age": 3, "": 1, "": 1}', 'is no JSON: the key "" is repeated'),
    (b'\xef\xbb\xbf{"ind": 2, "age": 3}', "is no JSON: .*BOM"),
    (b'{"ind": 2, "age": 3} x', "is no JSON: Extra data"),
    (b'{"ind": 2, "age": 3}\r{"ind": 3, "age": 3}', "is no JSON: Extra data"),
    (b'{"ind": 2, "age": Infinity}', "Infinity is no JSON"),
    (b'{"ind": 2, "age": 3, "more": -Infinity}', "-Infinity is no JSON"),
    (b'{"ind": 2, "age": 3,}', "is no JSON:"),
    (b'{"ind": 2, "age": 03}', "is no JSON:"),
    (b'{"ind": 2, "first_name": "a\tb"}', "is no JSON: Invalid control character"),
    (b'\xc2\xa0{"ind": 2, "age": 3}', "is no JSON:"),
    (b'{"ind": 2, "age": 3, "more": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "is no JSON: .*recursion"),
    (b'{"ind": 2, "age": ' + b"9" * 5_000 + b"}", "is no JSON:"),
    (b'{"ind": 2, "age": 3, "more": {"\\ud83d": 1}}', r"is no UTF-8: \\ud83d is half a surrogate pair"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named_and_nothing_is_loaded(
    folder: Path, database: str, line: bytes, message: str
) -> None:
    load(database, folder)
    before = content(database)
    good = lines(*({**USER, "ind": number, "age": 99} for number in range(10, 2_510)))
    (folder / "user.jsonl").write_bytes(lines(USER) + good + line + b"\n" + lines({**USER, "ind": 5_000}))

    with pytest.raises(SourceError, match=r"user\.jsonl, line 2502.*" + message):
        load(database, folder)

    assert content(database) == before
    assert tables(database) == {"pinterest_data", "geolocation_data", "user_data"}


@pytest.mark.parametrize("latitude", ["1e400", "9" * 30, '"1.5"', "false", "[1]"])
def test_a_latitude_is_a_number_that_fits(folder: Path, database: str, latitude: str) -> None:
    (folder / "geo.jsonl").write_text(f'{{"ind": 1, "latitude": {latitude}}}\n')
    with pytest.raises(SourceError, match=r"geo\.jsonl, line 1: latitude should be a number"):
        load(database, folder)


def tables(database: str) -> set[str]:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


def _truncated(folder: Path) -> None:
    whole = gzip.compress(lines(*({**USER, "ind": number} for number in range(5_000))))
    (folder / "user.jsonl").unlink()
    (folder / "user.jsonl.gz").write_bytes(whole[: len(whole) // 2])


def _no_gzip(folder: Path) -> None:
    (folder / "user.jsonl").rename(folder / "user.jsonl.gz")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "comments.jsonl").write_bytes(lines(USER)),
            r"comments\.jsonl names none of the tables",
        ),
        (lambda f: (f / "pin_user.jsonl").write_bytes(lines(USER)), r"pin_user\.jsonl names none .* several"),
        (lambda f: (f / "pinterest_board.jsonl").write_bytes(lines(USER)), "names none of the tables"),
        (lambda f: (f / "geo.jsonl").unlink(), "has no file for geo"),
        (lambda f: (f / "user.jsonl").write_bytes(b""), r"user\.jsonl is empty"),
        (lambda f: (f / "user-2.jsonl").write_bytes(b"\n\n"), r"user-2\.jsonl is empty"),
        (_truncated, r"user\.jsonl\.gz cannot be read after line \d+"),
        (_no_gzip, r"user\.jsonl\.gz cannot be read after line 0"),
    ],
)
def test_a_folder_that_will_not_do(
    folder: Path, database: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(SourceError, match=message):
        load(database, folder)


def test_a_whole_surrogate_pair_is_text(folder: Path, database: str) -> None:
    (folder / "user.jsonl").write_bytes(
        b'{"ind": 1, "first_name": "\\ud83c\\udfa8", "more": "\\ud83c\\udfa8"}\n'
    )
    load(database, folder)
    assert content(database)["user"][1]["first_name"] == "\N{ARTIST PALETTE}"


def test_a_uri_is_filled_where_it_says(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    url = f"sqlite:///file:{tmp_path}/new%20folder/source.db?mode=rwc&uri=true"
    assert load(url, folder) == {"pin": 1, "geo": 1, "user": 1}
    assert (tmp_path / "new folder" / "source.db").is_file()
    assert sorted(folder.iterdir()) == before


def test_other_tables_of_the_database_stay(folder: Path, database: str) -> None:
    load(database, folder)
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    connection.close()
    load(database, folder)
    assert "mine" in tables(database)


def test_loading_again_replaces(folder: Path, database: str) -> None:
    load(database, folder)
    for name, record in (("geo", {**GEO, "ind": 9}), ("user", {**USER, "ind": 9})):
        (folder / f"{name}.jsonl").write_bytes(lines(record))
    load(database, folder)
    assert {table: list(records) for table, records in content(database).items()} == {
        "pin": [1],
        "geo": [9],
        "user": [9],
    }


def test_the_command_loads_a_folder(
    folder: Path, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE", raising=False)
    assert main(["--database", database, "--source", str(folder)]) == 0
    assert "pinterest_data 1 rows, geolocation_data 1 rows, user_data 1 rows" in capsys.readouterr().out


def test_the_command_checks_a_database_and_loads_nothing(
    make_source: Any, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE", make_source([1, 2], [1], [1]))
    assert main(["--database", database]) == 0
    assert "pinterest_data 2 rows" in capsys.readouterr().out
    assert not Path(database.removeprefix("sqlite:///")).exists()


def test_a_database_with_a_password_needs_no_argument(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE", raising=False)
    monkeypatch.setenv("SOURCE_URL", database)
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Loaded synthetic posts: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "sqlite:////no/such.db"], "There is no database /no/such.db"),
        (["--source", "mysql+pymysql://u:hush@127.0.0.1:1/db"], "cannot be read"),
        (["--database", "nonsense"], "no database URL"),
        (["--database", "sqlite:////dev/null/x.db"], "The folder /dev/null cannot be made"),
        ([], "--database"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE", raising=False)
    monkeypatch.delenv("SOURCE_URL", raising=False)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert "hush" not in said


def test_a_full_disk_is_told_with_its_folder_and_leaves_the_tables_as_they_were(tmp_path):
    database = f"sqlite:///{tmp_path}/source.db"
    load(database)
    with Source(database) as source:
        before = source.read(range(20))

    def no_more_pages(connection, _):
        connection.execute("PRAGMA max_page_count = 1")  # SQLite makes it as many as there are

    event.listen(Pool, "connect", no_more_pages)
    try:
        with pytest.raises(SourceError) as error:
            load(database)
    finally:
        event.remove(Pool, "connect", no_more_pages)
    assert str(error.value) == (
        f"{database} cannot be loaded: database or disk is full. "
        f"No space left on device: free some in the file system of {tmp_path}."
    )
    with Source(database) as source:
        assert source.read(range(20)) == before


def test_an_error_of_the_disk_is_not_hidden_by_one_in_its_clean_up(tmp_path):
    """SQLite rolls back by itself then: a second ROLLBACK fails, with words of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "include.emulation.load", "--database", f"sqlite:///{tmp_path}/source.db"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"load: sqlite:///{tmp_path}/source.db cannot be loaded: disk I/O error.\n"
