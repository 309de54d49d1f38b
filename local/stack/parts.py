"""The parts of the stack: what is started, what each needs first, and how each is asked whether it is ready."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from kafka.errors import KafkaError

from local.kafka import acls
from local.stack.airflow_api import AirflowApi
from local.stack.configure import kafka_commands
from local.stack.errors import StackError
from local.stack.home import check_characters
from local.stack.settings import HOST, PREFIX, ROOT, TABLES, Stack
from local.stack.supervisor import Part


def all_parts(stack: Stack) -> list[Part]:
    """Every part, in the order in which a person would name them."""
    return [*_data_parts(stack), *_airflow_parts(stack)]


def _data_parts(stack: Stack) -> list[Part]:
    python, etc = sys.executable, stack.etc
    kafka = kafka_commands(stack)
    aws_credentials = {"AWS_SHARED_CREDENTIALS_FILE": str(etc / "aws_credentials"), "AWS_REGION": "us-east-1"}
    spark_python = str(ROOT / ".venv" / "databricks" / "bin" / "python")
    secret = stack.credentials
    proxy_login = ("pinterest", secret["rest_proxy_password"])
    connect_login = ("pinterest", secret["connect_password"])
    return [
        Part("kafka", kafka.broker, _knows_its_users(stack), ports=("kafka", "kafka_controller")),
        Part(
            "aws",
            [python, "-m", "local.aws", str(etc / "aws.json")],
            _accepts(stack.ports["aws"]),
            ports=("aws",),
        ),
        Part(
            "rest-proxy",
            [python, "-m", "msk.rest_proxy", str(etc / "rest_proxy.json")],
            _answers(f"{stack.url('rest_proxy')}/topics", auth=proxy_login),
            after=("kafka",),
            ports=("rest_proxy",),
        ),
        Part(
            "connect",
            kafka.connect,
            _answers(f"{stack.url('connect')}/connectors", auth=connect_login),
            after=("kafka", "aws"),
            ports=("connect",),
            environment=aws_credentials,
        ),
        Part(
            "api-gateway",
            [python, "-m", "local.api_gateway", str(etc / "api_gateway.json")],
            _accepts(stack.ports["api_gateway"]),
            after=("aws", "rest-proxy"),
            ports=("api_gateway",),
        ),
        Part(
            "databricks",
            [spark_python, "-m", "local.databricks", str(etc / "databricks.json")],
            _cluster_runs(stack),
            after=("aws",),
            ports=("databricks",),
            environment=aws_credentials,
        ),
    ]


def _airflow_parts(stack: Stack) -> list[Part]:
    airflow = str(Path(sys.executable).parent / "airflow")
    variables = {"AIRFLOW_HOME": str(stack.airflow_home), "PATH": f"{Path(airflow).parent}:/usr/bin:/bin"}
    api = AirflowApi(stack)
    # Logs are read from the same disk: the two log servers, which listen on every address, are left out.
    return [
        Part(
            "airflow-api-server",
            [airflow, "api-server"],
            api.serving,
            ports=("airflow",),
            environment=variables,
        ),
        Part(
            "airflow-scheduler",
            [airflow, "scheduler", "--skip-serve-logs"],
            lambda: True,
            environment=variables,
        ),
        Part("airflow-dag-processor", [airflow, "dag-processor"], lambda: True, environment=variables),
        Part(
            "airflow-triggerer",
            [airflow, "triggerer", "--skip-serve-logs"],
            api.healthy,
            environment=variables,
        ),
    ]


def check_installed() -> None:
    """Say what is missing before anything is started.

    :raises StackError: a tool or an install is missing; it says how to get it.
    """
    check_characters(ROOT, "The project cannot run where it lies", "Move it to another folder")
    if not shutil.which("java"):
        raise StackError(
            "java is not on the PATH, and Kafka and Spark need it. Install a JDK 17: make install"
        )
    wanted = {
        ".jars/kafka": "*.jar",
        ".jars/spark": "*.jar",
        ".jars/connect-plugins/s3_sink": "*.jar",
        ".venv/databricks/bin": "python",
    }
    missing = [folder for folder, pattern in wanted.items() if not any((ROOT / folder).glob(pattern))]
    if missing:
        raise StackError(f"Not installed: {', '.join(missing)}. Run: make install")


def _accepts(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=2):
                return True
        except OSError:
            return False

    return ready


def _knows_its_users(stack: Stack) -> Callable[[], bool]:
    """Kafka is ready once its users have their rights: without, Connect ends as it starts."""
    accepts = _accepts(stack.ports["kafka"])

    def ready() -> bool:
        if not accepts():
            return False
        try:
            acls.grant(stack.kafka_settings(), prefix=PREFIX, tables=TABLES)
        except (KafkaError, OSError):
            return False
        except acls.NoAuthorizerError:
            raise StackError(
                "Kafka runs with the settings of another version of this project: make down, then make up"
            ) from None
        return True

    return ready


def _answers(url: str, *, auth: tuple[str, str]) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return requests.get(url, auth=auth, timeout=5).ok
        except requests.RequestException:
            return False

    return ready


def _cluster_runs(stack: Stack) -> Callable[[], bool]:
    headers = {"Authorization": f"Bearer {stack.credentials['databricks_token']}"}

    def ready() -> bool:
        try:
            reply = requests.get(
                f"{stack.url('databricks')}/api/2.1/clusters/list", headers=headers, timeout=5
            )
            clusters: Sequence[dict[str, str]] = reply.json().get("clusters", [])
        except (requests.RequestException, ValueError):
            return False
        return any(cluster.get("state") == "RUNNING" for cluster in clusters)

    return ready
