"""A source's URL becomes a connection and the same URL again, through every place that connections are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
from airflow.sdk import Connection
from airflow.secrets.local_filesystem import load_connections_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from include.emulation.database import parse_url
from mwaa import connections
from mwaa.errors import SettingError
from pinterest_pipeline.config import source_url

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NAMES = st.text("abcXYZ019_-.", min_size=1, max_size=12)
VALUES = TEXT.filter(bool)
QUERIES = st.dictionaries(
    NAMES.filter(lambda name: name != "ssl"),
    VALUES | st.lists(VALUES, min_size=2, max_size=3).map(tuple),
    max_size=4,
)


@st.composite
def servers(draw: st.DrawFn) -> URL:
    username = draw(st.none() | VALUES)
    return URL.create(
        draw(st.sampled_from(["mysql+pymysql", "mariadb+pymysql"])),
        username=username,
        password=None if username is None else draw(st.none() | VALUES),
        host=draw(st.none() | NAMES | st.sampled_from(["::1", "fe80::1%eth0"])),
        port=draw(st.none() | st.integers(1, 65_535)),
        database=draw(st.none() | NAMES),
        query=draw(QUERIES),
    )


FILES = st.builds(
    lambda path, uri: (
        URL.create("sqlite", database=f"file:/{path}", query={"uri": "true", **uri})
        if uri is not None
        else URL.create("sqlite", database=f"/{path}")
    ),
    TEXT.filter(lambda path: "?" not in path),
    st.none() | st.dictionaries(NAMES, VALUES, max_size=2),
)


def through_a_file(fields: dict[str, object], folder: Path) -> Connection:
    """Read a connection as Airflow reads that of the laptop's stack."""
    path = folder / "connections.json"
    path.write_text(json.dumps({"pinterest_source": fields}), encoding="utf-8")
    found = load_connections_dict(str(path))["pinterest_source"]
    names = ("conn_type", "host", "login", "password", "schema", "port", "extra")
    return Connection(conn_id="pinterest_source", **{name: getattr(found, name) for name in names})


def through_a_secret(fields: dict[str, object], _: Path) -> Connection:
    """Read a connection as MWAA reads it."""
    backend = SecretsManagerBackend(connections_prefix="n/connections")
    backend._get_secret = lambda *_: json.dumps(fields, sort_keys=True)  # type: ignore[method-assign]
    return Connection.from_json(backend.get_conn_value("pinterest_source"), conn_id="pinterest_source")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("connections")


@pytest.mark.parametrize("read", [through_a_file, through_a_secret])
@given(url=servers() | FILES)
@settings(deadline=None)
def test_no_part_of_a_url_is_lost(
    read: Callable[[dict[str, object], Path], Connection], folder: Path, url: URL
) -> None:
    assert source_url(read(connections.source_connection(url), folder)) == url


@given(url=servers())
@settings(deadline=None)
def test_no_part_of_a_url_is_lost_as_text(url: URL) -> None:
    # as the stack keeps it, and prints it for the shell
    assert make_url(url.render_as_string(hide_password=False)) == url


@pytest.mark.parametrize("read", [through_a_file, through_a_secret])
@pytest.mark.parametrize(
    "text",
    [
        "mysql+pymysql://u:p@h:3306/db?ssl_ca=/a/ca.pem&charset=utf8mb4",
        "mariadb+pymysql://u:p@h/db",
        "mysql://u:p@h/db",
        "mariadb://u:p@h/db?ssl_verify_identity=true",
        "mysql+pymysql://u%40x:p%2F%3A%40%25%3F%23%26%20%2B%c3%a9@h/db",
        "mysql+pymysql://u:@h/db",
        "mysql+pymysql://u@h/db",
        "mysql+pymysql://u:p@/db?unix_socket=/run/mysqld/mysqld.sock",
        "mysql+pymysql://u:p@[::1]:3307/db?init_command=SET+time_zone%3D%27%2B00%3A00%27",
        "sqlite:////a/b.db",
        "sqlite:////a/b.db?timeout=5",
        "sqlite+pysqlite:////a/b.db",
        "sqlite:///file:/a/b%20c.db?mode=ro&uri=true",
        "sqlite:///relative.db",
        "sqlite:///file:relative.db?mode=ro&uri=true",
    ],
)
def test_the_check_and_the_dag_use_one_url(
    read: Callable[[dict[str, object], Path], Connection], folder: Path, text: str
) -> None:
    checked = parse_url(text)
    used = source_url(read(connections.source_connection(checked), folder))
    assert used == checked
    assert parse_url(used) == checked


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mysql://u:p%40@h/db", "mysql+pymysql://u:p%40@h:3306/db?charset=utf8mb4"),
        (
            "mysql+pymysql://u:p@h:3307/db?ssl_ca=/a/ca.pem",
            "mysql+pymysql://u:p@h:3307/db?ssl_ca=%2Fa%2Fca.pem",
        ),
        ("mariadb://u:p@h/db?compress=true", "mariadb+pymysql://u:p@h:3306/db?charset=utf8mb4&compress=true"),
    ],
)
def test_the_url_of_a_deployment_reaches_the_dag_whole(folder: Path, text: str, url: str) -> None:
    wanted = connections.wanted(
        {"Region": "us-east-1", "ExternalSource": "true"}, {"PINTEREST_SOURCE_URL": text}
    )["pinterest_source"]
    assert wanted
    assert source_url(through_a_secret(wanted, folder)).render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    "text",
    [
        "mysql+mysqldb://u:hush@h/db",
        "mysql://u:hush@word@h/db",
        "mysql://u:hush@h",
        "mysql://u:hush@h:port/db",
        "sqlite:////a/b.db?password=hush",
        "hush",
    ],
)
def test_a_url_that_mwaa_cannot_use_is_refused_unsaid(text: str) -> None:
    with pytest.raises(SettingError, match="is not of the form") as caught:
        connections.wanted({"Region": "us-east-1", "ExternalSource": "true"}, {"PINTEREST_SOURCE_URL": text})
    assert "hush" not in str(caught.value)
