"""The source on a real MySQL server: MariaDB from the distribution's package, started for these tests only."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from include.emulation.database import SourceError, SourceUnavailable, shown
from include.emulation.emulation import emulate
from include.emulation.load import load
from include.emulation.source import TABLES, Source
from local.ports import free_ports

SERVER = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
INSTALL = shutil.which("mariadb-install-db")
PATIENCE_SECONDS = 300

pytestmark = pytest.mark.skipif(
    not (SERVER and INSTALL), reason="needs a MariaDB server: apt-get install mariadb-server"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A server of its own on a free port of 127.0.0.1; the URL of an empty database."""
    folder = tmp_path_factory.mktemp("mariadb")
    data = folder / "data"
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    assert INSTALL
    assert SERVER
    subprocess.run(
        [INSTALL, "--no-defaults", f"--datadir={data}", "--skip-test-db", *as_root],
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    url = URL.create(
        "mysql+pymysql", "pinterest", secrets.token_urlsafe(16), "127.0.0.1", free_ports(1)[0], "pinterest"
    )
    first = folder / "first.sql"
    first.touch(mode=0o600)
    first.write_text(
        "CREATE DATABASE pinterest;\n"
        f"CREATE USER pinterest@'127.0.0.1' IDENTIFIED BY '{url.password}';\n"
        "GRANT ALL ON pinterest.* TO pinterest@'127.0.0.1';\n"
    )
    process = subprocess.Popen(
        [
            SERVER,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={_socket_of(folder)}",
            f"--pid-file={folder / 'pid'}",
            f"--log-error={folder / 'log'}",
            f"--init-file={first}",
            "--bind-address=127.0.0.1",
            f"--port={url.port}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            *as_root,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _socket_of(folder: Path) -> str:
    # A socket's path holds some 100 characters, so it is given relative to the data folder.
    return os.path.relpath(folder / "socket", folder / "data")


def _await(url: URL, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with engine.connect():
                return
        except OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text() if log.exists() else ""
                pytest.fail(f"MariaDB did not start: {error.orig}\n{said[-2000:]}")
            time.sleep(0.1)
        finally:
            engine.dispose()


def execute(url: URL, *statements: str) -> list[Any]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []
    finally:
        engine.dispose()


@pytest.fixture
def database(server: URL) -> URL:
    """The database without any tables."""
    names = [name for (name,) in execute(server, "SHOW TABLES")]
    if names:
        execute(server, *(f"DROP TABLE `{name}`" for name in names))
    return server


def password_url(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def test_it_is_loaded_and_read_as_sqlite_is(database: URL, synthetic_source: str) -> None:
    assert load(password_url(database)) == dict.fromkeys(TABLES, 11_154)
    with Source(database) as mysql, Source(synthetic_source) as sqlite:
        assert mysql.read(range(11_154)) == sqlite.read(range(11_154))
        assert mysql.count() == 11_154
        assert sum(1 for _ in mysql.numbers()) == 11_154
    load(password_url(database))
    assert sorted(execute(database, "SHOW TABLES")) == [
        ("geolocation_data",),
        ("pinterest_data",),
        ("user_data",),
    ]


def test_a_failed_load_changes_nothing(database: URL, tmp_path: Path) -> None:
    load(password_url(database))
    for table in TABLES:
        (tmp_path / f"{table}.jsonl").write_text(
            '{"index": 1, "ind": 1, "category": "x", "age": 3, "country": "x"}\n'
        )
    (tmp_path / "user.jsonl").write_text('{"ind": 1, "age": 3}\n{"ind": "2"}\n')
    with pytest.raises(SourceError, match=r"user\.jsonl, line 2"):
        load(password_url(database), tmp_path)
    with Source(database) as source:
        assert source.rows == dict.fromkeys(TABLES, 11_154)
    assert len(execute(database, "SHOW TABLES")) == 3


COURSE_TABLES = (
    """CREATE TABLE pinterest_data (`index` BIGINT, unique_id TEXT, title TEXT, description TEXT, poster_name TEXT,
       follower_count TEXT, tag_list TEXT, is_image_or_video TEXT, image_src TEXT, downloaded TINYINT(1),
       save_location TEXT, category TEXT) CHARACTER SET utf8mb4""",
    """CREATE TABLE geolocation_data (ind BIGINT, timestamp DATETIME, latitude DECIMAL(10, 4), longitude DOUBLE,
       country TEXT) CHARACTER SET utf8mb4""",
    """CREATE TABLE user_data (ind INT, first_name TEXT, last_name TEXT, age DECIMAL(3, 0), date_joined DATETIME)
       CHARACTER SET utf8mb4""",
    """INSERT INTO pinterest_data VALUES (7528, 'u', 'Emoji 🎨 and \\\\', NULL, 'p', '5k', 't', 'image', 'i', 1, 's',
       'art')""",
    "INSERT INTO geolocation_data VALUES (7528, '2020-08-28 03:52:47', -12.5, 100.25, 'Côte d''Ivoire')",
    "INSERT INTO user_data VALUES (2863, 'Ada', 'B', 30, '2015-10-21 00:00:00')",
)


class Keep:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def destination(self, table: str) -> str:
        return table

    def send(self, table: str, records: Any) -> Any:
        self.sent += [(table, *record) for record in records]
        return [type("Ack", (), {"partition": 0, "offset": i})() for i in range(len(records))]


def test_typed_columns_become_plain_json(database: URL) -> None:
    execute(database, *COURSE_TABLES)
    keep = Keep()
    with Source(database) as source:
        report = emulate(source, keep, posts=2)
    assert report.acknowledged == 3
    assert [(table, number) for table, number, _ in keep.sent] == [
        ("pin", 7528),
        ("geo", 7528),
        ("user", 2863),
    ]
    pin, geo, user = (record for _, _, record in keep.sent)
    assert pin["title"] == "Emoji 🎨 and \\"
    assert pin["downloaded"] == 1
    assert pin["description"] is None
    assert geo == {
        "ind": 7528,
        "timestamp": "2020-08-28 03:52:47",
        "latitude": -12.5,
        "longitude": 100.25,
        "country": "Côte d'Ivoire",
    }
    assert user == {
        "ind": 2863,
        "first_name": "Ada",
        "last_name": "B",
        "age": 30,
        "date_joined": "2015-10-21 00:00:00",
    }
    assert isinstance(user["age"], int)


def test_what_is_wrong_is_said_without_the_password(database: URL) -> None:
    wrong = database.set(password="not-it-at-all")
    with pytest.raises(SourceError, match="Access denied") as caught:
        Source(wrong)
    assert "not-it-at-all" not in str(caught.value)
    with pytest.raises(
        SourceError, match="has no table pinterest_data, geolocation_data, user_data"
    ) as caught:
        Source(database)
    assert shown(database) in str(caught.value)
    assert str(database.password) not in str(caught.value)
    with pytest.raises(SourceError, match="cannot be read"):
        Source(database.set(database="nowhere"))


def course_tables(column: str, sql_type: str, value: str | None = None) -> list[str]:
    """The statements that make tables of one post, one column of which has another type and value."""
    types = {
        "pinterest_data": dict.fromkeys(TABLES["pin"].columns, "TEXT")
        | {"index": "BIGINT", "downloaded": "INT"},
        "geolocation_data": {
            **{"ind": "BIGINT", "timestamp": "DATETIME", "latitude": "DOUBLE", "longitude": "DOUBLE"},
            **{"country": "TEXT"},
        },
        "user_data": {
            **{"ind": "BIGINT", "first_name": "TEXT", "last_name": "TEXT", "age": "INT"},
            **{"date_joined": "DATETIME"},
        },
    }
    statements = ["SET sql_mode = ''"]
    for table, columns in types.items():
        changed = columns | ({column: sql_type} if column in columns else {})
        declared = ", ".join(f"`{name}` {kind}" for name, kind in changed.items())
        statements.append(f"CREATE TABLE {table} ({declared}) CHARACTER SET utf8mb4")
        number = next(iter(columns))
        given = {number: "1"} | ({column: value} if value and column in columns else {})
        names = ", ".join(f"`{name}`" for name in given)
        statements.append(f"INSERT INTO {table} ({names}) VALUES ({', '.join(given.values())})")
    return statements


@pytest.mark.parametrize(
    ("column", "sql_type", "says"),
    [
        ("index", "VARCHAR(20)", "pinterest_data.index is VARCHAR(20) (text), and a whole number is needed."),
        (
            "index",
            "DOUBLE",
            "pinterest_data.index is DOUBLE (numbers with a fraction), and a whole number is",
        ),
        ("follower_count", "INT", "follower_count is INTEGER(11) (whole numbers), and text is needed."),
        ("title", "YEAR", "title is YEAR(4) (whole numbers), and text is needed."),
        ("title", "DOUBLE", "title is DOUBLE (numbers with a fraction), and text is needed."),
        (
            "description",
            "LONGBLOB",
            "description is LONGBLOB (neither text, numbers nor moments), and text is",
        ),
        (
            "unique_id",
            "BINARY(16)",
            "unique_id is BINARY(16) (neither text, numbers nor moments), and text is",
        ),
        (
            "downloaded",
            "BIT(8)",
            "downloaded is BIT(8) (neither text, numbers nor moments), and a whole number",
        ),
        ("latitude", "VARCHAR(20)", "latitude is VARCHAR(20) (text), and a number is needed."),
        (
            "longitude",
            "POINT",
            "longitude is of a type that is not known (neither text, numbers nor moments)",
        ),
        ("timestamp", "TIME", "timestamp is TIME (neither text, numbers nor moments), and text is needed."),
        ("timestamp", "BIGINT", "timestamp is BIGINT(20) (whole numbers), and text is needed."),
        (
            "age",
            "DECIMAL(10, 2)",
            "age is DECIMAL(10, 2) (numbers with a fraction), and a whole number is needed.",
        ),
        ("age", "FLOAT", "age is FLOAT (numbers with a fraction), and a whole number is needed."),
        ("age", "DATE", "age is DATE (moments), and a whole number is needed."),
        ("date_joined", "YEAR", "date_joined is YEAR(4) (whole numbers), and text is needed."),
    ],
)
def test_a_column_that_cannot_become_its_fields_type_is_named_before_anything_is_sent(
    database: URL, column: str, sql_type: str, says: str
) -> None:
    execute(database, *course_tables(column, sql_type))
    with pytest.raises(SourceError) as caught:
        Source(database)
    assert says in str(caught.value)
    assert caught.value.retriable is False


@pytest.mark.parametrize(
    ("column", "sql_type", "value", "expected"),
    [
        ("downloaded", "BIT(1)", "b'1'", 1),
        ("downloaded", "BIT(1)", "b'0'", 0),
        ("downloaded", "BOOLEAN", "TRUE", 1),
        ("age", "DECIMAL", "30", 30),
        ("age", "TINYINT UNSIGNED", "200", 200),
        ("age", "YEAR", "2020", 2020),
        ("age", "BIGINT UNSIGNED", str(2**64 - 1), 2**64 - 1),
        ("latitude", "DECIMAL(9, 6)", "-12.5", -12.5),
        ("latitude", "INT", "7", 7.0),
        ("latitude", "FLOAT", "1.5", 1.5),
        ("date_joined", "DATE", "'2016-01-02'", "2016-01-02 00:00:00"),
        ("date_joined", "DATE", "'0000-00-00'", "0000-00-00"),
        ("date_joined", "DATETIME(6)", "'2016-01-02 03:04:05.999999'", "2016-01-02 03:04:05"),
        ("date_joined", "DATETIME", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00"),
        ("date_joined", "TIMESTAMP NULL", "'2016-01-02 03:04:05'", "2016-01-02 03:04:05"),
        ("title", "CHAR(10)", "'short'", "short"),
        ("title", "ENUM('a', 'b')", "'b'", "b"),
        ("title", "SET('a', 'b')", "'a,b'", "a,b"),
        ("title", "JSON", """'{"a": 1}'""", '{"a": 1}'),
        (
            "unique_id",
            "UUID",
            "'00000000-0000-4000-8000-000000000001'",
            "00000000-0000-4000-8000-000000000001",
        ),
        ("description", "DATE", "'2016-01-02'", "2016-01-02 00:00:00"),
    ],
)
def test_a_typed_value_becomes_its_fields_json_type(
    database: URL, column: str, sql_type: str, value: str, expected: object
) -> None:
    execute(database, *course_tables(column, sql_type, value))
    with Source(database) as source:
        found = source.read([1])
    (read,) = (records[1][column] for records in found.values() if column in records[1])
    assert (read, type(read)) == (expected, type(expected))


def test_a_view_that_converts_is_taken(database: URL) -> None:
    execute(database, *course_tables("follower_count", "INT", "1234"))
    columns = ", ".join(f"`{name}`" for name in TABLES["pin"].columns if name != "follower_count")
    execute(database, "RENAME TABLE pinterest_data TO raw")
    try:
        execute(
            database,
            f"CREATE VIEW pinterest_data AS SELECT {columns}, CAST(follower_count AS CHAR) AS follower_count FROM raw",
        )
        with Source(database) as source:
            assert source.read([1])["pin"][1]["follower_count"] == "1234"
    finally:
        execute(database, "DROP VIEW IF EXISTS pinterest_data")


def test_it_is_loaded_and_read_as_mariadb_too(database: URL) -> None:
    mariadb = database.set(drivername="mariadb+pymysql")
    execute(database, f"ALTER DATABASE {database.database} CHARACTER SET latin1")
    assert load(password_url(mariadb)) == dict.fromkeys(TABLES, 11_154)
    with Source(mariadb) as one, Source(password_url(database).replace("mysql+pymysql", "mysql")) as other:
        assert one.read(range(11_154)) == other.read(range(11_154))


def test_the_query_of_the_url_reaches_the_server(database: URL, tmp_path: Path) -> None:
    load(password_url(database))
    with Source(
        database.set(query={"charset": "latin1", "init_command": "SET time_zone = '+02:00'"})
    ) as source:
        assert source.rows["pin"] == 11_154
        with source._engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT @@character_set_client, @@time_zone").one() == (
                "latin1",
                "+02:00",
            )
    authority = tmp_path / "ca.pem"
    with pytest.raises(SourceError, match="No such file or directory"):
        Source(database.set(query={"ssl_ca": str(authority)}))


def test_a_wrong_login_is_final_and_a_lost_connection_is_not(database: URL) -> None:
    load(password_url(database))
    with pytest.raises(SourceError) as caught:
        Source(database.set(password="wrong"))
    assert caught.value.retriable is False
    with pytest.raises(SourceUnavailable):
        Source(database.set(port=1))
