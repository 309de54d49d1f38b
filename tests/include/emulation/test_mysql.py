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

from include.emulation.emulation import emulate
from include.emulation.load import load
from include.emulation.source import TABLES, Source, SourceError, shown
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
