"""The notebooks over Spark Connect, the protocol of standard access mode and of serverless compute.

A real server runs in this process' own driver. Delta's Python class has no Connect server plug-in to be had from the
registries, so nothing here may need it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytest.importorskip("pyspark", reason="the notebooks are tested with .venv/databricks")

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql.connect.conf import RuntimeConf
from pyspark.sql.connect.dataframe import DataFrame

from tests.include.notebooks.conftest import Workspace, delta_jars, spark_settings, workspace_in

SETTABLE = {
    "spark.sql.ansi.enabled",
    "spark.sql.legacy.timeParserPolicy",
    "spark.sql.files.maxPartitionBytes",
    "spark.sql.session.timeZone",
    "spark.sql.shuffle.partitions",
}
"""What serverless compute lets a session set, by its documentation; anything else is refused."""


@pytest.fixture(scope="session")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    home = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPARK_TESTING", "1")  # a free port in place of 15002
        builder: Any = SparkSession.builder.remote("local[2]")
        settings = {"spark.connect.grpc.binding.address": "127.0.0.1", **spark_settings(delta_jars(), home)}
        for key, value in settings.items():
            builder = builder.config(key, value)
        with (
            warnings.catch_warnings()
        ):  # what belongs to the driver is set there, and cannot be set again by a session
            warnings.filterwarnings("ignore", message="Failed to set spark")
            session = builder.getOrCreate()
        yield session
        session.stop()


@pytest.fixture(params=["standard", "serverless"])
def spark(request: pytest.FixtureRequest, connected: SparkSession) -> Iterator[SparkSession]:
    """A session as standard access mode gives it, and one that refuses what serverless compute refuses."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "serverless":
            patch.setattr(DataFrame, "persist", _no_persist)
            patch.setattr(DataFrame, "cache", _no_persist)
            patch.setattr(RuntimeConf, "get", _get)
            patch.setattr(RuntimeConf, "set", _set)
        yield connected


def _no_persist(*_: Any, **__: Any) -> NoReturn:
    raise AnalysisException(
        "[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute. SQLSTATE: 0A000"
    )


_plain_get, _plain_set = RuntimeConf.get, RuntimeConf.set


def _get(conf: RuntimeConf, key: str, *default: Any) -> Any:
    if not key.startswith("spark.sql."):  # those the client itself asks for
        _check_setting(key)
    return _plain_get(conf, key, *default)


def _set(conf: RuntimeConf, key: str, value: Any) -> None:
    _check_setting(key)
    _plain_set(conf, key, value)


def _check_setting(key: str) -> None:
    if key not in SETTABLE:
        raise AnalysisException(
            f"[CONFIG_NOT_AVAILABLE] Configuration {key} is not available. SQLSTATE: 42K0I"
        )


@pytest.fixture
def workspace(spark: SparkSession, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_in(spark, tmp_path) as made:
        yield made
