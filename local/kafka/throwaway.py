"""A broker and a Connect worker that live as long as a `with` block: for tests and measurements.

They are started from the same property files and command lines as the laptop stack's, on free ports.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.kafka import config
from local.kafka.config import HOST, Login
from local.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".jars" / "kafka"

_READY_SECONDS = 300
_STOP_SECONDS = 60


class NotReadyError(RuntimeError):
    """A part did not start or stop; the message holds the end of its log."""


@dataclass
class Part:
    """One process that can be stopped, killed and started again."""

    name: str
    command: list[str]
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process and return once it serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return once the part serves; raise NotReadyError when it ends or takes longer than five minutes."""
        assert self.process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise NotReadyError(f"{self.name} does not serve; the end of {self.log}:\n{tail}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the process politely, then not politely."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process as kill -9 does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass
class Broker(Part):
    """A running broker, the login of the user who may do everything, and those of the parts by their names."""

    port: int = 0
    client: Login = field(default_factory=lambda: Login(config.OWNER, ""))
    parts: Mapping[str, Login] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    def client_settings(self, user: str = config.OWNER) -> dict[str, str]:
        """Return the connection settings that aiokafka and kafka-python share."""
        login = self.parts.get(user, self.client)
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": login.username,
            "sasl_plain_password": login.password,
        }


@dataclass
class Connect(Part):
    """A running Connect worker and the login for its REST port."""

    port: int = 0
    login: Login = field(default_factory=lambda: Login("connect", ""))

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call Connect's REST API and return the parsed answer (None when it is empty)."""
        return connect_call(self.port, self.login, method, path, body)


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker whose data, property files and log lie in folder."""
    folder.mkdir(parents=True, exist_ok=True)
    port, controller_port = free_ports(2)
    client, broker, *parts = (
        Login(user, secrets.token_urlsafe(18)) for user in (config.OWNER, config.BROKER, *config.PARTS)
    )
    server_file = folder / "server.properties"
    write_private(
        server_file,
        config.server_properties(
            port=port,
            controller_port=controller_port,
            broker=broker,
            client=client,
            parts=parts,
            data_dir=folder / "data",
        ),
    )
    commands = _commands(folder)
    formatted = subprocess.run(commands.format, capture_output=True, text=True, check=False)
    if formatted.returncode:
        raise NotReadyError(f"the broker's folder cannot be formatted: {formatted.stderr}{formatted.stdout}")
    part = Broker(
        name="kafka",
        command=commands.broker,
        log=folder / "broker.log",
        ready=lambda: _is_open(port),
        port=port,
        client=client,
        parts={each.username: each for each in parts},
        folder=folder,
    )
    try:
        part.start()
        yield part
    finally:
        part.stop()


@contextmanager
def connect(
    kafka: Broker, folder: Path, *, plugin_dir: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Connect]:
    """Run a Connect worker beside kafka, whose users must have their rights.

    environment is its whole environment (None: this process's).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    login = Login("connect", secrets.token_urlsafe(18))
    write_private(
        folder / "connect-distributed.properties",
        config.connect_properties(
            port=port, broker_port=kafka.port, client=kafka.parts[config.CONNECT], plugin_dir=plugin_dir
        ),
    )
    write_private(folder / "connect-users.properties", config.connect_users(login))
    write_private(folder / "connect-jaas.conf", config.connect_jaas(folder / "connect-users.properties"))
    part = Connect(
        name="connect",
        command=_commands(folder).connect,
        log=folder / "connect.log",
        ready=lambda: _connect_answers(port, login),
        environment=environment,
        port=port,
        login=login,
    )
    try:
        part.start()
        yield part
    finally:
        part.stop()


def connect_call(port: int, login: Login, method: str, path: str, body: object = None) -> Any:
    """Call the REST API of a Connect worker on this machine."""
    token = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        answer = response.read()
    return json.loads(answer) if answer else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)


def _commands(folder: Path) -> config.JavaCommands:
    if not any(JARS.glob("kafka_*.jar")):
        raise NotReadyError(f"Kafka's jars are not in {JARS}; run: make install")
    return config.java_commands(
        jars=JARS,
        server_file=folder / "server.properties",
        connect_file=folder / "connect-distributed.properties",
        jaas_file=folder / "connect-jaas.conf",
        cluster_id=base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
    )


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _connect_answers(port: int, login: Login) -> bool:
    try:
        connect_call(port, login, "GET", "/connectors")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True
