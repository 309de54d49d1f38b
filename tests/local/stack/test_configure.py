"""Airflow's connections as a stack writes them."""

import json
import os
import subprocess

import pytest
from airflow.sdk import Connection
from airflow.secrets.local_filesystem import load_connections_dict
from sqlalchemy import make_url

from include.emulation.database import parse_url
from include.emulation.load import load
from local import __main__ as command
from local.stack import prepare, settings
from local.stack.configure import connections, write_connections
from local.stack.errors import StackError
from pinterest_pipeline.config import source_url


@pytest.fixture
def stack(tmp_path):
    return settings.load_or_create(tmp_path / "home")


def source_of(stack):
    """The URL that the DAGs make of the stack's connection."""
    found = load_connections_dict(str(stack.airflow_home / "connections.json"))["pinterest_source"]
    fields = ("conn_type", "host", "login", "password", "schema", "port", "extra")
    return source_url(
        Connection(conn_id="pinterest_source", **{name: getattr(found, name) for name in fields})
    )


def test_without_a_source_of_ones_own_it_is_the_stacks_file(stack):
    write_connections(stack)
    assert connections(stack)["pinterest_source"] == {
        "conn_type": "sqlite",
        "host": f"{stack.home}/source.db",
    }
    assert source_of(stack) == make_url(f"sqlite:///{stack.home}/source.db")


@pytest.mark.parametrize(
    "text",
    [
        "mysql+pymysql://u:p%40%26@h:3307/db?ssl_ca=/a/ca.pem&charset=utf8mb4",
        "mariadb+pymysql://u:p@h/db",
        "mysql://u:p@h/db?unix_socket=/run/mysqld.sock",
        "sqlite:///file:/a/b.db?mode=ro&uri=true",
    ],
)
def test_a_source_reaches_the_dags_whole(stack, text):
    settings.write_private(stack.source_url_file, text)
    write_connections(stack)
    assert source_of(stack) == parse_url(text)


@pytest.fixture
def posts(tmp_path):
    """A source of one's own, in the folder that one is in."""
    folder = tmp_path / "posts"
    folder.mkdir()
    for table in ("pin", "geo", "user"):
        (folder / f"{table}.jsonl").write_text(
            '{"index": 1, "ind": 1, "category": "x", "age": 3, "country": "x"}\n'
        )
    load(f"sqlite:///{tmp_path}/own.db", folder)
    return tmp_path / "own.db"


def test_a_relative_path_is_kept_absolute(stack, posts):
    relative = os.path.relpath(posts, settings.ROOT)
    prepare.load_source(stack, f"sqlite:///{relative}?timeout=5")
    assert stack.source_url == f"sqlite:///{posts}?timeout=5"
    assert source_of(stack) == make_url(f"sqlite:///{posts}?timeout=5")


def test_a_source_that_is_refused_changes_nothing(stack, posts, capfd):
    prepare.load_source(stack, f"sqlite:///{posts}")
    with pytest.raises(StackError, match="what was there before is unchanged"):
        prepare.load_source(stack, f"sqlite:///{posts}?mode=ro&uri=true")
    assert "mode counts in a file: URI only" in capfd.readouterr().err
    assert stack.source_url == f"sqlite:///{posts}"


def test_a_shell_reads_the_environment_whole(stack, monkeypatch, capfd):
    url = "mysql+pymysql://u:p%40@h/db?charset=utf8mb4&ssl_ca=%2Fa%2Fca.pem"
    settings.write_private(stack.source_url_file, url)
    monkeypatch.setenv("PIPELINE_HOME", str(stack.home))
    assert command.env(None) == 0
    (stack.home / "env").write_text(capfd.readouterr().out)
    read = subprocess.run(
        ["bash", "-ec", 'set -a; . "$1"; exec env -0', "-", str(stack.home / "env")],
        env={"PATH": os.environ["PATH"]}, capture_output=True, check=True,
    )  # fmt: skip
    found = dict(each.split("=", 1) for each in read.stdout.decode().split("\0") if each)
    assert {name: found[name] for name in stack.public()} == stack.public()
    assert found["SOURCE_URL"] == url


def test_a_repeated_parameter_of_a_run_is_refused():
    arguments = command.parser().parse_args([
        "dag",
        "pinterest_msk_ingestion",
        "--conf",
        '{"posts": 1, "posts": 2}',
    ])
    with pytest.raises(StackError, match="CONF names 'posts' more than once\\."):
        arguments.run(arguments)


def test_connections_are_json(stack):
    json.dumps(connections(stack))
