"""An Airflow of the tests' own, and an AWS that lives in this process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

if "airflow" not in sys.modules:  # Airflow reads its home once, when it is imported
    _HOME = tempfile.TemporaryDirectory(prefix="airflow-")
    os.environ["AIRFLOW_HOME"] = _HOME.name
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

REGION = "us-east-1"
BUCKET = "tests-bucket"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's configuration reaches a test."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW__PINTEREST__", "AIRFLOW_CONN_", "AWS_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> str:
    """An empty AWS behind the connection aws_default; its URL."""
    reset = urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    connection = {
        "conn_type": "aws",
        "login": "key",
        "password": "secret",
        "extra": {"endpoint_url": moto_url, "region_name": REGION},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return moto_url


def client(service: Any, url: str) -> Any:
    return boto3.client(
        service, endpoint_url=url, region_name=REGION, aws_access_key_id="key", aws_secret_access_key="secret"
    )


@pytest.fixture
def s3(aws: str) -> Any:
    """An S3 client; BUCKET exists and is empty."""
    s3 = client("s3", aws)
    s3.create_bucket(Bucket=BUCKET)
    return s3


@pytest.fixture
def kinesis(aws: str) -> Any:
    return client("kinesis", aws)


@pytest.fixture
def bucket() -> str:
    return BUCKET
