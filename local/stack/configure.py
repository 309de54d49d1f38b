"""The files a stack's parts read: written anew at every start, readable by their owner only."""

from __future__ import annotations

import base64
import configparser
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from include.emulation.database import parse_url
from local.kafka import config as kafka
from local.stack.settings import (
    HOST,
    PREFIX,
    REGION,
    ROOT,
    SCHEMA,
    STAGE,
    TABLES,
    WARM_CLUSTER,
    Stack,
    write_private,
)
from mwaa.connections import source_connection

NOTEBOOK_DIR = f"/Shared/{PREFIX}"
MOUNT_POINT = f"/mnt/{PREFIX}"
DAG_IDS = {"pinterest_msk_ingestion", "pinterest_daily_batch", "pinterest_kinesis_streams"}


def write_all(stack: Stack) -> None:
    """Write every part's configuration below ``etc/`` and ``airflow/``."""
    for folder in ("etc", "log", "run", "kafka", "aws", "databricks", "airflow", "warehouse"):
        (stack.home / folder).mkdir(parents=True, exist_ok=True)
    _write_aws(stack)
    _write_kafka(stack)
    _write_api(stack)
    _write_databricks(stack)
    write_connections(stack)
    for home in (stack.airflow_home, stack.airflow_test_home):
        _write_airflow(stack, home)


def _write_json(stack: Stack, name: str, content: dict[str, Any]) -> None:
    write_private(stack.etc / f"{name}.json", json.dumps(content, indent=1))


def _write_aws(stack: Stack) -> None:
    secret = stack.credentials
    key = {"access_key_id": secret["aws_access_key_id"], "secret_access_key": secret["aws_secret_access_key"]}
    connect = {
        "connect_url": stack.url("connect"),
        "username": "pinterest",
        "password": secret["connect_password"],
    }
    listen = {"host": HOST, "port": stack.ports["aws"], "region": REGION}
    _write_json(stack, "aws", {**listen, **key, "data_dir": str(stack.home / "aws"), "kafkaconnect": connect})
    # What an instance profile is on AWS: where Java, Spark and boto3 find their credentials.
    lines = ["[default]", *(f"aws_{name} = {value}" for name, value in key.items()), f"region = {REGION}", ""]
    write_private(stack.etc / "aws_credentials", "\n".join(lines))


def _write_kafka(stack: Stack) -> None:
    server = kafka.server_properties(
        port=stack.ports["kafka"],
        controller_port=stack.ports["kafka_controller"],
        broker=_kafka_login(stack, kafka.BROKER),
        client=kafka.Login(kafka.OWNER, stack.credentials["kafka_password"]),
        parts=[_kafka_login(stack, user) for user in kafka.PARTS],
        data_dir=stack.home / "kafka",
    )
    connect = kafka.connect_properties(
        port=stack.ports["connect"],
        broker_port=stack.ports["kafka"],
        client=_kafka_login(stack, kafka.CONNECT),
        plugin_dir=ROOT / ".jars" / "connect-plugins",
    )
    users = stack.etc / "connect-users.properties"
    write_private(stack.etc / "server.properties", server)
    write_private(stack.etc / "connect-distributed.properties", connect)
    write_private(stack.etc / "connect-jaas.conf", kafka.connect_jaas(users))
    write_private(users, kafka.connect_users(kafka.Login("pinterest", stack.credentials["connect_password"])))


def _kafka_login(stack: Stack, user: str) -> kafka.Login:
    return kafka.Login(user, stack.credentials[f"kafka_{user}_password"])


def kafka_commands(stack: Stack) -> kafka.JavaCommands:
    cluster = hashlib.sha256(stack.stack_id.encode()).digest()[:16]
    return kafka.java_commands(
        jars=ROOT / ".jars" / "kafka",
        server_file=stack.etc / "server.properties",
        connect_file=stack.etc / "connect-distributed.properties",
        jaas_file=stack.etc / "connect-jaas.conf",
        cluster_id=base64.urlsafe_b64encode(cluster).decode().rstrip("="),
    )


def _write_api(stack: Stack) -> None:
    secret = stack.credentials
    login = base64.b64encode(f"pinterest:{secret['rest_proxy_password']}".encode()).decode()
    _write_json(stack, "rest_proxy", {
        "host": HOST,
        "port": stack.ports["rest_proxy"],
        "bootstrap_servers": stack.kafka_bootstrap,
        "topics": [f"{PREFIX}.{table}" for table in TABLES],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": kafka.REST_PROXY,
        "sasl_password": secret["kafka_rest_proxy_password"],
        "basic_auth_username": "pinterest",
        "basic_auth_password": secret["rest_proxy_password"],
    })  # fmt: skip
    _write_json(stack, "api_gateway", {
        "host": HOST,
        "port": stack.ports["api_gateway"],
        "openapi": str(ROOT / "mwaa" / "cloudformation" / "openapi.yaml"),
        "stage": STAGE,
        "stage_variables": {
            "restProxy": f"{HOST}:{stack.ports['rest_proxy']}",
            "restProxyAuthorization": f"Basic {login}",
            "vpcLinkId": "none",
        },
        "access_key_id": secret["aws_access_key_id"],
        "secret_access_key": secret["aws_secret_access_key"],
        "region": REGION,
        "aws_endpoint_url": stack.url("aws"),
    })  # fmt: skip


def _write_databricks(stack: Stack) -> None:
    _write_json(stack, "databricks", {
        "host": HOST,
        "port": stack.ports["databricks"],
        "token": stack.credentials["databricks_token"],
        "home": str(stack.home / "databricks"),
        "warehouse": str(stack.warehouse),
        "jars": [str(ROOT / ".jars" / "spark")],
        "s3_endpoint_url": stack.url("aws"),
        "region": REGION,
        "cluster_id": WARM_CLUSTER,
        "driver_memory": "1g",
        # an older workspace: the bucket is mounted, and checkpoints lie on the machine's own disk
        "legacy_features": True,
    })  # fmt: skip


def _write_airflow(stack: Stack, home: Path) -> None:
    secret = stack.credentials
    (home / "logs").mkdir(parents=True, exist_ok=True)
    passwords = home / "passwords.json"
    write_private(passwords, json.dumps({"admin": secret["airflow_password"]}))
    backend = {"connections_file_path": str(_connections_file(stack))}
    sections: dict[str, dict[str, Any]] = {
        "core": {
            "dags_folder": ROOT / "dags",
            "plugins_folder": ROOT / "plugins",
            "executor": "LocalExecutor",
            "parallelism": 4,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "fernet_key": secret["airflow_fernet_key"],
            "simple_auth_manager_users": "admin:admin",
            "simple_auth_manager_passwords_file": passwords,
            "execution_api_server_url": f"{stack.url('airflow')}/execution/",
        },
        "api": {
            "host": HOST,
            "port": stack.ports["airflow"],
            "base_url": stack.url("airflow"),
            "workers": 1,
            "secret_key": secret["airflow_api_secret"],
            "expose_config": False,
        },
        "api_auth": {"jwt_secret": secret["airflow_jwt_secret"]},
        # One process writes at a time. On a busy machine others wait for longer than SQLite's 5 s, after which the
        # API answers 500: each of its calls writes a line of the audit log.
        "database": {"sql_alchemy_conn": f"sqlite:///{home}/airflow.db?timeout=60"},
        "logging": {"base_log_folder": home / "logs"},
        "secrets": {
            "backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "backend_kwargs": json.dumps(backend),
        },
        "dag_processor": {"refresh_interval": 10, "min_file_process_interval": 10, "parsing_processes": 1},
        "usage_data_collection": {"enabled": False},
        "pinterest": pinterest_settings(stack),
    }
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict({name: {k: str(v) for k, v in options.items()} for name, options in sections.items()})
    text = io.StringIO()
    parser.write(text)
    write_private(home / "airflow.cfg", text.getvalue().replace("%", "%%"))


def pinterest_settings(stack: Stack) -> dict[str, Any]:
    """The section [pinterest] of airflow.cfg: the only settings of the DAGs that differ from one place to another."""
    return {
        "prefix": PREFIX,
        "bucket": stack.bucket,
        "storage": MOUNT_POINT,
        "mount_point": MOUNT_POINT,
        "schema": SCHEMA,
        "notebook_dir": NOTEBOOK_DIR,
        "connector_name": stack.connector,
        "compute": json.dumps({"existing_cluster_id": WARM_CLUSTER}),
        "stream_compute": json.dumps({
            "new_cluster": {
                "spark_version": "18.x-scala2.13",
                "data_security_mode": "SINGLE_USER",
                "num_workers": 0,
            }
        }),
        # the default lies in the bucket, where each micro-batch of the laptop would wait for a dozen requests
        "checkpoint_dir": f"dbfs:/{PREFIX}/checkpoints",
        "kinesis_endpoint_url": stack.url("aws"),
        "topic_partitions": 3,
        "topic_replication": 1,
        "poll_seconds": 1,
    }


def write_connections(stack: Stack) -> None:
    """Write the file that Airflow reads its connections from, each time it needs one."""
    write_private(_connections_file(stack), json.dumps(connections(stack), indent=1))


def _connections_file(stack: Stack) -> Path:
    return stack.airflow_home / "connections.json"


def connections(stack: Stack) -> dict[str, dict[str, Any]]:
    """Airflow's connections; on MWAA the same names lie in Secrets Manager."""
    secret = stack.credentials
    aws = {"endpoint_url": stack.url("aws"), "region_name": REGION}
    kafka_extra = {
        "bootstrap.servers": stack.kafka_bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": kafka.AIRFLOW,
        "sasl.password": secret["kafka_airflow_password"],
    }
    return {
        "aws_default": {
            "conn_type": "aws",
            "login": secret["aws_access_key_id"],
            "password": secret["aws_secret_access_key"],
            "extra_dejson": aws,
        },
        "pinterest_source": source_connection(parse_url(stack.source_url)),
        "pinterest_api": {
            "conn_type": "http",
            "host": stack.api_url,
            "extra_dejson": {"aws_conn_id": "aws_default", "region_name": REGION},
        },
        "pinterest_kafka": {"conn_type": "kafka", "extra_dejson": kafka_extra},
        # The provider builds its address from these parts; of an address as host it keeps the name only.
        "databricks_default": {
            "conn_type": "databricks",
            "schema": "http",
            "host": HOST,
            "port": stack.ports["databricks"],
            "password": secret["databricks_token"],
        },
    }
