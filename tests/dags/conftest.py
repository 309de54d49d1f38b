"""The DAGs, parsed as strictly as can be: no network, no Variables, no database."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

if "airflow" not in sys.modules:  # Airflow reads its home once, when it is imported
    _HOME = tempfile.TemporaryDirectory(prefix="airflow-")
    os.environ["AIRFLOW_HOME"] = _HOME.name
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

ROOT = Path(__file__).parents[2]

OPTIONS = {
    "BUCKET": "tests-bucket",
    "COMPUTE": json.dumps({"existing_cluster_id": "local-warm"}),
    "STREAM_COMPUTE": json.dumps({"new_cluster": {"num_workers": 0, "data_security_mode": "SINGLE_USER"}}),
    "POLL_SECONDS": "1",
}


def _refuse(what: str) -> Any:
    return mock.Mock(side_effect=AssertionError(f"a DAG file uses {what} while it is parsed"))


def _parse(**options: str) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    environment = {f"AIRFLOW__PINTEREST__{name}": value for name, value in {**OPTIONS, **options}.items()}
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(socket.socket, "connect", _refuse("the network")),
        mock.patch("airflow.sdk.Variable.get", _refuse("a Variable")),
        mock.patch("airflow.sdk.BaseHook.get_connection", _refuse("a Connection")),
        mock.patch("sqlalchemy.engine.Engine.connect", _refuse("a database")),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)  # of Airflow's own file discovery
        return DagBag(ROOT / "dags")


@pytest.fixture(scope="session")
def parse() -> Callable[..., Any]:
    """The function that parses the DAGs, with these options of [pinterest] besides the usual ones."""
    return _parse


@pytest.fixture(scope="session")
def dag_bag() -> Any:
    return _parse()
