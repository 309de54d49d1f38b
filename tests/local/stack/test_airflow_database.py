"""What the parts are told, where a mistake would show only now and then."""

from __future__ import annotations

import configparser

import pytest
from sqlalchemy import create_engine, text

from local.stack import configure, settings


@pytest.mark.parametrize("home", ["airflow_home", "airflow_test_home"])
def test_airflow_waits_a_minute_for_whoever_writes_to_its_database(tmp_path, home):
    stack = settings.load_or_create(tmp_path / "home")
    configure.write_all(stack)
    config = configparser.ConfigParser()
    config.read(getattr(stack, home) / "airflow.cfg")
    with create_engine(config["database"]["sql_alchemy_conn"]).connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 60_000
    assert (getattr(stack, home) / "airflow.db").exists()
