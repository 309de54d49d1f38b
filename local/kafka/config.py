"""What the laptop's Kafka is started with: property files, JAAS and command lines, from ports and logins.

Pure functions: nothing here opens a file or a port. The caller writes the texts to files of mode 600 (they
hold passwords) and starts the commands (they hold none). One broker is enough for a laptop; every port is on
127.0.0.1 and wants a login: broker and controller SASL/PLAIN, Connect's REST port HTTP basic auth. What each user
may do once it is logged in says `acls`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
LOG4J2 = Path(__file__).with_name("log4j2.xml")

# The broker's own user; the one of tools and of whoever owns the stack, who may do everything; and one a part.
BROKER, OWNER = "broker", "pinterest"
AIRFLOW, CONNECT, REST_PROXY = "airflow", "connect", "rest_proxy"
PARTS = (AIRFLOW, CONNECT, REST_PROXY)

CONNECT_GROUP = "pinterest-connect"

_BASIC_AUTH = "org.apache.kafka.connect.rest.basic.auth.extension"
_HEAP_MB = 256
# Serial collector and first compiler tier only: both are ready in half the time and a third of the memory.
_JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)


@dataclass(frozen=True)
class Login:
    """A user name and its password; the password never shows in a repr."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class JavaCommands:
    """Argument lists, ready to be started; none holds a secret."""

    format: list[str]
    broker: list[str]
    connect: list[str]


def server_properties(
    *,
    port: int,
    controller_port: int,
    broker: Login,
    client: Login,
    parts: Sequence[Login] = (),
    data_dir: Path,
) -> str:
    """Render server.properties of the one broker, which is its own controller.

    broker and client may do everything, each of parts what it has been granted. An acknowledged record is in the
    log file before the answer leaves, so killing the process loses nothing.
    """
    listener_jaas = plain_login_module(broker, accepts=(broker, client, *parts))
    return _properties({
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        "listeners": f"CLIENT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"CLIENT://{HOST}:{port}",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": listener_jaas,
        "listener.name.controller.plain.sasl.jaas.config": plain_login_module(broker, accepts=(broker,)),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{broker.username};User:{client.username}",
        "log.dirs": data_dir,
        # A mistyped topic must be an error, as it is on MSK.
        "auto.create.topics.enable": "false",
        "num.partitions": 3,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        # A stack may be down for weeks: what it was sent, and how far the sink had got, must still be there.
        "log.retention.hours": -1,
        "offsets.retention.minutes": 365 * 24 * 60,
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 1,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 2 * 1024 * 1024,
        # A killed broker has to outlive its own old session before it serves again; the default is 9 s.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
    })


def connect_properties(
    *, port: int, broker_port: int, client: Login, plugin_dir: Path, group_id: str = CONNECT_GROUP
) -> str:
    """Render connect-distributed.properties of the one worker.

    plugin_dir holds one folder of jars for each plug-in.
    """
    sasl = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": plain_login_module(client),
    }
    return _properties({
        "bootstrap.servers": f"{HOST}:{broker_port}",
        "group.id": group_id,
        "listeners": f"HTTP://{HOST}:{port}",
        "rest.advertised.host.name": HOST,
        "rest.advertised.port": port,
        "rest.extension.classes": f"{_BASIC_AUTH}.BasicAuthSecurityRestExtension",
        # The worker, and the clients it makes for connectors, each log in for themselves.
        **{
            prefix + key: value
            for prefix in ("", "producer.", "consumer.", "admin.")
            for key, value in sasl.items()
        },
        **{
            f"{kind}.storage.{key}": value
            for kind in ("config", "offset", "status")
            for key, value in (("topic", f"_{group_id}-{kind}"), ("replication.factor", 1))
        },
        "offset.storage.partitions": 1,
        "status.storage.partitions": 1,
        "offset.flush.interval.ms": 5000,
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "plugin.path": plugin_dir,
        # Reads META-INF/services only: ready in a third of the time that scanning every class takes.
        "plugin.discovery": "service_load",
        "connector.client.config.override.policy": "All",
        # A killed worker is back in seconds (defaults: 10 s and 5 min).
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 2000,
        "scheduled.rebalance.max.delay.ms": 0,
    })


def connect_jaas(users_file: Path) -> str:
    """Render the JAAS file that makes Connect's REST port ask for a login (users_file: see connect_users)."""
    return f"KafkaConnect {{\n  {_BASIC_AUTH}.PropertyFileLoginModule required file={_quoted(str(users_file))};\n}};\n"


def connect_users(login: Login) -> str:
    """Render the users file of Connect's REST port."""
    return _properties({login.username: login.password})


def client_properties(*, broker_port: int, client: Login) -> str:
    """Render what Kafka's own command-line tools need (--command-config)."""
    return _properties({
        "bootstrap.servers": f"{HOST}:{broker_port}",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": plain_login_module(client),
    })


def java_commands(
    *,
    jars: Path,
    server_file: Path,
    connect_file: Path,
    jaas_file: Path,
    cluster_id: str,
    java: str = "java",
    log4j2: Path = LOG4J2,
) -> JavaCommands:
    """Return how to format the broker's folder (harmless when done before) and how to start both parts.

    cluster_id is 16 bytes in URL-safe base64 without padding (22 characters), kept for the life of the data.
    """
    jvm = [java, *_JVM_FLAGS, f"-Xmx{_HEAP_MB}m", f"-Dlog4j2.configurationFile={log4j2}"]
    class_path = ["-cp", f"{jars}/*"]
    storage_tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--standalone"]
    return JavaCommands(
        format=[*jvm, *class_path, *storage_tool, f"--cluster-id={cluster_id}", f"--config={server_file}"],
        broker=[*jvm, *class_path, "kafka.Kafka", str(server_file)],
        connect=[
            *jvm,
            f"-Djava.security.auth.login.config={jaas_file}",
            *class_path,
            "org.apache.kafka.connect.cli.ConnectDistributed",
            str(connect_file),
        ],
    )


def plain_login_module(login: Login, *, accepts: tuple[Login, ...] = ()) -> str:
    """Return a sasl.jaas.config value that logs in as login and, on a listener, accepts the logins given."""
    options = [f"username={_quoted(login.username)}", f"password={_quoted(login.password)}"]
    options += [f"user_{each.username}={_quoted(each.password)}" for each in accepts]
    return f"org.apache.kafka.common.security.plain.PlainLoginModule required {' '.join(options)};"


def _quoted(text: str) -> str:
    """Quote text as a JAAS option's value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _properties(values: Mapping[str, object]) -> str:
    """Render a Java properties file; any text survives it."""
    return "".join(f"{_escaped(key, in_key=True)}={_escaped(str(value))}\n" for key, value in values.items())


def _escaped(text: str, *, in_key: bool = False) -> str:
    special = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if in_key:
        special |= {mark: "\\" + mark for mark in " :=#!"}
    escaped = "".join(special.get(char, char if char.isascii() else _utf16_escapes(char)) for char in text)
    return "\\" + escaped if escaped.startswith(" ") else escaped


def _utf16_escapes(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
