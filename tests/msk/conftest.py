"""A real broker, and the real proxy in front of it, for all tests of this folder."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from local.kafka import throwaway
from local.kafka.config import AIRFLOW
from local.kafka.throwaway import Broker, Part
from local.ports import free_ports

if "airflow" not in sys.modules:  # Airflow reads its home once, when it is imported
    _HOME = tempfile.TemporaryDirectory(prefix="airflow-")
    os.environ["AIRFLOW_HOME"] = _HOME.name
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RunningProxy:
    """The proxy as its own process, and an HTTP client that is logged in."""

    part: Part
    http: httpx.Client

    def produce(self, topic: str, body: bytes | str) -> httpx.Response:
        """Post a produce request's body as it stands."""
        return self.http.post(
            f"/topics/{topic}", content=body, headers={"Content-Type": "application/vnd.kafka.json.v2+json"}
        )


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of the tests' own, with logins, on free ports of 127.0.0.1."""
    with throwaway.broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_admin(kafka_broker: Broker) -> Iterator[KafkaAdminClient]:
    """kafka-python's admin client, connected to kafka_broker."""
    admin = KafkaAdminClient(**kafka_broker.client_settings())
    yield admin
    admin.close()


@pytest.fixture
def topic(kafka_admin: KafkaAdminClient, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own with three partitions."""
    name = f"test.{request.node.name}".replace("[", ".").replace("]", "").replace(" ", "_")[:200]
    kafka_admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1)])
    return name


@pytest.fixture(scope="session")
def rest_proxy(kafka_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """The proxy, started as the stack starts it."""
    with running_proxy(kafka_broker, tmp_path_factory.mktemp("rest_proxy")) as proxy:
        yield proxy


class running_proxy:
    """Start the proxy for a broker, with settings on top of the usual ones."""

    def __init__(self, broker: Broker, folder: Path, **settings: object) -> None:
        (port,) = free_ports(1)
        config = {
            "host": "127.0.0.1",
            "port": port,
            "bootstrap_servers": broker.bootstrap_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": broker.client.username,
            "sasl_password": broker.client.password,
            "basic_auth_username": "gateway",
            "basic_auth_password": "let me in",
            **settings,
        }
        throwaway.write_private(folder / "rest_proxy.json", json.dumps(config))
        token = base64.b64encode(b"gateway:let me in").decode()
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Basic {token}"}, timeout=300
        )
        self._part = Part(
            name="rest proxy",
            command=[sys.executable, "-m", "msk.rest_proxy", str(folder / "rest_proxy.json")],
            log=folder / "rest_proxy.log",
            ready=self._listens,
        )

    def _listens(self) -> bool:
        try:
            self._http.get("/nothing")
        except httpx.TransportError:
            return False
        return True

    def __enter__(self) -> RunningProxy:
        try:
            self._part.start()
        except BaseException:
            self._part.stop()
            raise
        return RunningProxy(self._part, self._http)

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._part.stop()


def await_that(true: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Return once a condition holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def run_proxy(config: Path) -> subprocess.CompletedProcess[str]:
    """Run the proxy to its end, for settings with which it cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "msk.rest_proxy", str(config)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def airflow_connections(broker: Broker, s3_url: str, user: str = AIRFLOW) -> dict[str, str]:
    """Return the variables that make broker and S3 the DAGs' connections."""
    settings = broker.client_settings(user)
    kafka = {
        "bootstrap.servers": settings["bootstrap_servers"],
        "security.protocol": settings["security_protocol"],
        "sasl.mechanism": settings["sasl_mechanism"],
        "sasl.username": settings["sasl_plain_username"],
        "sasl.password": settings["sasl_plain_password"],
    }
    aws = {"endpoint_url": s3_url, "region_name": "us-east-1"}
    return {
        "AIRFLOW_CONN_PINTEREST_KAFKA": json.dumps({"conn_type": "kafka", "extra": kafka}),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({
            "conn_type": "aws",
            "login": "AKIAEXAMPLE",
            "password": "notverysecret",
            "extra": aws,
        }),
    }
