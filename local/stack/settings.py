"""A stack's folder, ports and credentials: made once, then read back, so that a restart changes none of them."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.emulation.parameters import whole_number
from include.emulation.terminal import printable
from local.kafka import config as kafka
from local.ports import free_ports
from local.stack import home as home_of_a_stack
from local.stack.errors import StackError

ROOT = home_of_a_stack.ROOT
HOST = "127.0.0.1"
REGION = "us-east-1"
PREFIX = "pinterest"
TABLES = ("pin", "geo", "user")
SCHEMA = "pinterest"
STAGE = "local"
WARM_CLUSTER = "local-warm"
DEFAULT_PORTS = {
    "airflow": 8080,
    "api_gateway": 8000,
    "rest_proxy": 8082,
    "kafka": 9092,
    "kafka_controller": 9093,
    "connect": 8083,
    "aws": 4566,
    "databricks": 8090,
}


@dataclass(frozen=True)
class Stack:
    """Where one stack lives and how its parts are reached.

    :param home: the folder that holds all state of this stack (PIPELINE_HOME).
    :param ports: part -> TCP port on 127.0.0.1.
    :param credentials: name -> secret, random per stack.
    :param stack_id: carried in the environment of every process of this stack, so that ``down`` finds them all.
    """

    home: Path
    ports: dict[str, int]
    credentials: dict[str, str] = field(repr=False)
    stack_id: str

    @property
    def bucket(self) -> str:
        return f"{PREFIX}-data-{self.stack_id[:8]}"

    @property
    def etc(self) -> Path:
        return self.home / "etc"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def airflow_test_home(self) -> Path:
        """Home of `airflow dags test`: the same settings, but a database that no scheduler works on.

        In one database the scheduler would run the tasks of a test too, at the same time.
        """
        return self.home / "airflow-test"

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse"

    @property
    def source_database(self) -> Path:
        return self.home / "source.db"

    @property
    def source_url(self) -> str:
        """SQLAlchemy URL of the source tables: the stack's own SQLite file, or the database that SOURCE named."""
        try:
            return self.source_url_file.read_text("utf-8")
        except FileNotFoundError:
            return f"sqlite:///{self.source_database}"

    @property
    def source_url_file(self) -> Path:
        return self.etc / "source_url"

    @property
    def connector(self) -> str:
        return f"{PREFIX}-s3-sink"

    def url(self, part: str) -> str:
        return f"http://{HOST}:{self.ports[part]}"

    @property
    def api_url(self) -> str:
        return f"{self.url('api_gateway')}/{STAGE}"

    @property
    def kafka_bootstrap(self) -> str:
        return f"{HOST}:{self.ports['kafka']}"

    def kafka_settings(self) -> dict[str, Any]:
        """Connection settings, for kafka-python, of the user who may do everything in Kafka."""
        return {
            "bootstrap_servers": self.kafka_bootstrap,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": kafka.OWNER,
            "sasl_plain_password": self.credentials["kafka_password"],
            # It is asked as it starts, and the client's own pauses grow to half a minute.
            "reconnect_backoff_max_ms": 500,
        }

    def public(self) -> dict[str, str]:
        """What ``make env`` prints: addresses, then the credentials that a local client needs."""
        secret = self.credentials
        return {
            "PIPELINE_HOME": str(self.home),
            "AIRFLOW_URL": self.url("airflow"),
            "API_GATEWAY_URL": self.api_url,
            "REST_PROXY_URL": self.url("rest_proxy"),
            "KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "CONNECT_URL": self.url("connect"),
            "AWS_ENDPOINT_URL": self.url("aws"),
            "BUCKET": self.bucket,
            "PREFIX": PREFIX,
            "DATABRICKS_HOST": self.url("databricks"),
            "LAKE_DIR": str(self.warehouse / f"{SCHEMA}.db"),
            "SOURCE_URL": self.source_url,
            "AIRFLOW_HOME": str(self.airflow_test_home),
            "AIRFLOW_USERNAME": "admin",
            "AIRFLOW_PASSWORD": secret["airflow_password"],
            "AWS_ACCESS_KEY_ID": secret["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": secret["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "DATABRICKS_TOKEN": secret["databricks_token"],
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_USERNAME": kafka.OWNER,
            "KAFKA_PASSWORD": secret["kafka_password"],
            "REST_PROXY_USERNAME": "pinterest",
            "REST_PROXY_PASSWORD": secret["rest_proxy_password"],
            "CONNECT_USERNAME": "pinterest",
            "CONNECT_PASSWORD": secret["connect_password"],
        }


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old text or the new one, never half.

    :raises OSError: it cannot be written; names the file, and the file is as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk is met without a name


def home_folder() -> Path:
    """The folder that PIPELINE_HOME names.

    :raises StackError: no stack may live there, by its name alone.
    """
    return home_of_a_stack.named(os.environ.get("PIPELINE_HOME") or ".local")


def exists(home: Path) -> bool:
    return (home / "etc" / "stack.json").exists()


def stack_id(home: Path) -> str:
    """The id of the stack in a folder, or an empty text if its files do not say."""
    try:
        return str(json.loads((home / "etc" / "stack.json").read_text("utf-8"))["stack_id"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def load(home: Path) -> Stack:
    """Read a stack that ``make up`` has made.

    :raises StackError: there is none in this folder.
    """
    if not exists(home):
        raise StackError(f"There is no stack in {home} yet. Start one: make up")
    try:
        facts: dict[str, Any] = json.loads((home / "etc" / "stack.json").read_text("utf-8"))
        credentials = json.loads((home / "etc" / "credentials.json").read_text("utf-8"))
        stack = Stack(home, dict(facts["ports"]), dict(credentials), str(facts["stack_id"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StackError(
            f"The stack's files in {home}/etc cannot be read ({error}). Forget it: make reset"
        ) from None
    if set(stack.ports) != set(DEFAULT_PORTS):
        raise StackError(
            f"The stack in {home} was made by another version of this project. Forget it: make reset"
        )
    if missing := {name: value for name, value in _new_credentials().items() if name not in credentials}:
        # Of a stack from before its parts had them; they are taken at the next start.
        stack.credentials.update(missing)
        write_private(home / "etc" / "credentials.json", json.dumps(stack.credentials, indent=1))
    return stack


def load_or_create(home: Path) -> Stack:
    """Read the stack of this folder, or make one with new ports and credentials.

    PORT_OFFSET moves all ports by a number, or with ``auto`` takes free ones; it counts only when the stack is made.
    """
    if exists(home):
        return load(home)
    ports = _new_ports(os.environ.get("PORT_OFFSET") or "0")
    home_of_a_stack.claim(home)
    try:
        _require_hard_links(home)
    except StackError:
        home_of_a_stack.unclaim(home)
        raise
    home_of_a_stack.make_folders(home)
    stack = Stack(home, ports, _new_credentials(), secrets.token_hex(8))
    write_private(stack.etc / "credentials.json", json.dumps(stack.credentials, indent=1))
    write_private(
        stack.etc / "stack.json", json.dumps({"stack_id": stack.stack_id, "ports": stack.ports}, indent=1)
    )
    return stack


def _require_hard_links(home: Path) -> None:
    """Refuse a folder whose file system has none: a commit to a table is linked into its place (ADR 0026)."""
    run = home / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run) as folder:
        file = Path(folder, "file")
        file.touch()
        try:
            Path(folder, "link").hardlink_to(file)
        except OSError as error:
            raise StackError(
                f"The tables need hard links, and the file system of {home} makes none ({error.strerror}). "
                "Name a folder on another one: PIPELINE_HOME=<folder> make up"
            ) from None


def _new_ports(offset: str) -> dict[str, int]:
    if offset == "auto":
        return dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
    given = f"PORT_OFFSET={printable(offset, 40)}"
    try:
        moved = {name: port + whole_number(offset) for name, port in DEFAULT_PORTS.items()}
    except ValueError:
        raise StackError(f"{given} is neither a whole number nor 'auto'.") from None
    if not all(1024 <= port <= 65535 for port in moved.values()):
        raise StackError(f"{given} moves a port out of 1024..65535.")
    return moved


def _new_credentials() -> dict[str, str]:
    return {
        "aws_access_key_id": "AKIA" + secrets.token_hex(8).upper(),
        "aws_secret_access_key": secrets.token_urlsafe(30),
        "airflow_password": secrets.token_urlsafe(16),
        "airflow_fernet_key": _fernet_key(),
        "airflow_api_secret": secrets.token_urlsafe(32),
        "airflow_jwt_secret": secrets.token_urlsafe(48),
        "databricks_token": "dapi" + secrets.token_hex(16),
        "kafka_password": secrets.token_urlsafe(24),
        **{f"kafka_{user}_password": secrets.token_urlsafe(24) for user in (kafka.BROKER, *kafka.PARTS)},
        "rest_proxy_password": secrets.token_urlsafe(24),
        "connect_password": secrets.token_urlsafe(24),
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
