"""The rendered files and commands say what they should; that Kafka runs by them is tested in tests/msk."""

import subprocess
from pathlib import Path

import pytest

from local.kafka import config
from local.kafka.config import Login
from local.kafka.throwaway import JARS

BROKER = Login("broker", "broker-secret")
CLIENT = Login("pinterest", "client-secret")


def parsed(text: str) -> dict[str, str]:
    """Read a rendered properties file whose values need no unescaping."""
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def server() -> dict[str, str]:
    return parsed(
        config.server_properties(
            port=9092, controller_port=9093, broker=BROKER, client=CLIENT, data_dir=Path("/state/kafka")
        )
    )


@pytest.fixture
def worker() -> dict[str, str]:
    return parsed(
        config.connect_properties(port=8083, broker_port=9092, client=CLIENT, plugin_dir=Path("/plugins"))
    )


def test_broker_listens_on_this_machine_only_and_asks_for_a_login(server: dict[str, str]) -> None:
    assert server["listeners"] == "CLIENT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert server["listener.security.protocol.map"] == "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"


def test_clients_may_log_in_to_the_broker_but_not_to_the_controller(server: dict[str, str]) -> None:
    assert 'user_pinterest="client-secret"' in server["listener.name.client.plain.sasl.jaas.config"]
    assert "client-secret" not in server["listener.name.controller.plain.sasl.jaas.config"]


def test_each_part_logs_in_as_itself_and_the_owner_may_do_everything() -> None:
    server = parsed(
        config.server_properties(
            port=9092,
            controller_port=9093,
            broker=BROKER,
            client=CLIENT,
            parts=[Login("connect", "part-secret")],
            data_dir=Path("/state/kafka"),
        )
    )
    assert 'user_connect="part-secret"' in server["listener.name.client.plain.sasl.jaas.config"]
    assert "part-secret" not in server["listener.name.controller.plain.sasl.jaas.config"]
    assert server["authorizer.class.name"] == "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    assert server["super.users"] == "User:broker;User:pinterest"


def test_topics_are_never_made_by_mistake(server: dict[str, str]) -> None:
    assert server["auto.create.topics.enable"] == "false"


@pytest.mark.parametrize("client_kind", ["", "producer.", "consumer.", "admin."])
def test_every_client_of_connect_logs_in(worker: dict[str, str], client_kind: str) -> None:
    assert worker[f"{client_kind}security.protocol"] == "SASL_PLAINTEXT"
    assert 'password="client-secret"' in worker[f"{client_kind}sasl.jaas.config"]


def test_connects_rest_port_is_local_and_locked(worker: dict[str, str]) -> None:
    assert worker["listeners"] == "HTTP://127.0.0.1:8083"
    assert worker["rest.extension.classes"].endswith(".BasicAuthSecurityRestExtension")


def test_no_command_line_holds_a_secret_and_all_name_their_files() -> None:
    commands = config.java_commands(
        jars=Path("/jars"),
        server_file=Path("/etc/server.properties"),
        connect_file=Path("/etc/connect.properties"),
        jaas_file=Path("/etc/jaas.conf"),
        cluster_id="AAAAAAAAAAAAAAAAAAAAAA",
    )
    assert commands.format[-2:] == ["--cluster-id=AAAAAAAAAAAAAAAAAAAAAA", "--config=/etc/server.properties"]
    assert commands.broker[-2:] == ["kafka.Kafka", "/etc/server.properties"]
    assert "-Djava.security.auth.login.config=/etc/jaas.conf" in commands.connect
    assert commands.connect[-1] == "/etc/connect.properties"
    for command in (commands.format, commands.broker, commands.connect):
        assert command[command.index("-cp") + 1] == "/jars/*"


def test_a_password_with_every_special_sign_is_quoted_twice_over() -> None:
    text = config.client_properties(broker_port=9092, client=Login("a b", 'say "\\" é😀'))
    line = next(line for line in text.splitlines() if line.startswith("sasl.jaas.config="))
    # JAAS quotes the sign and the backslash, then the properties file doubles each backslash
    assert 'username="a b" password="say \\\\"\\\\\\\\\\\\" \\u00e9\\ud83d\\ude00"' in line


def test_a_users_file_takes_any_name() -> None:
    assert config.connect_users(Login("a=b c", " x")) == "a\\=b\\ c=\\ x\n"


def test_a_login_does_not_show_its_password() -> None:
    assert "client-secret" not in repr(CLIENT)


def test_a_cluster_id_that_begins_with_a_dash_is_taken_for_an_id(tmp_path: Path) -> None:
    # One id in 64 begins so, and to Kafka's own command line a word that begins so is an option
    cluster_id = "-AAAAAAAAAAAAAAAAAAAAA"
    server_file = tmp_path / "server.properties"
    server_file.write_text(
        config.server_properties(
            port=9092, controller_port=9093, broker=BROKER, client=CLIENT, data_dir=tmp_path / "data"
        )
    )
    commands = config.java_commands(
        jars=JARS, server_file=server_file, connect_file=tmp_path, jaas_file=tmp_path, cluster_id=cluster_id
    )
    formatted = subprocess.run(commands.format, capture_output=True, text=True, check=False)
    assert formatted.returncode == 0, formatted.stderr
    assert f"cluster.id={cluster_id}\n" in (tmp_path / "data" / "meta.properties").read_text()
