from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from kafka import KafkaAdminClient
from kafka.errors import InvalidReplicationFactorError

from pinterest_pipeline.exceptions import SettingError
from pinterest_pipeline.hooks.kafka import KafkaHook


def connection(monkeypatch: pytest.MonkeyPatch, **extra: str) -> None:
    value = {"conn_type": "kafka", "extra": {key.replace("__", "."): text for key, text in extra.items()}}
    monkeypatch.setenv("AIRFLOW_CONN_PINTEREST_KAFKA", json.dumps(value))


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    connection(monkeypatch, bootstrap__servers="127.0.0.1:9092")
    admin = mock.create_autospec(KafkaAdminClient, instance=True)
    admin.__enter__.return_value = admin
    admin.list_topics.return_value = ["there"]
    with mock.patch("kafka.KafkaAdminClient", autospec=True, return_value=admin):
        yield admin


def created(*topics: str, error_code: int = 0) -> dict[str, Any]:
    return {"topics": [{"name": topic, "error_code": error_code, "error_message": None} for topic in topics]}


def test_options_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(
        monkeypatch,
        bootstrap__servers="a:9092,b:9092",
        security__protocol="SASL_PLAINTEXT",
        sasl__mechanism="PLAIN",
        sasl__username="me",
        sasl__password="secret",
        group__id="means nothing here",
    )
    assert KafkaHook().client_options() == {
        "bootstrap_servers": ["a:9092", "b:9092"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }


@pytest.mark.parametrize(
    "option",
    [
        "ssl.ca.pem",
        "ssl.keystore.location",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
        "sasl.usrname",
        "sasl.kerberos.principal",
        "security.protocl",
        "metadata.broker.list",
        "socket.timeout.ms",
    ],
)
def test_an_option_that_cannot_be_followed_is_refused(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    connection(monkeypatch, bootstrap__servers="a:9092", **{option: "hush"})
    with pytest.raises(SettingError) as raised:
        KafkaHook().client_options()
    assert f"pinterest_kafka: extra has {option}, which this client cannot follow" in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "option",
    ["group.id", "auto.offset.reset", "enable.auto.commit", "max.poll.interval.ms", "linger.ms", "error_cb"],
)
def test_options_of_producers_and_consumers_may_be_there(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    connection(monkeypatch, bootstrap__servers="a:9092", **{option: "x"})
    assert KafkaHook().client_options() == {"bootstrap_servers": ["a:9092"]}


def test_bootstrap_servers_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, security__protocol="PLAINTEXT")
    with pytest.raises(SettingError, match=r"pinterest_kafka: extra needs bootstrap\.servers"):
        KafkaHook().client_options()


def test_iam_tokens_are_signed_with_the_aws_connection(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection(
        monkeypatch,
        bootstrap__servers="broker:9098",
        security__protocol="SASL_SSL",
        sasl__mechanism="AWS_MSK_IAM",
    )
    options = KafkaHook().client_options()
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert options["security_protocol"] == "SASL_SSL"
    import base64

    token = options["sasl_oauth_token_provider"].token()
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert url.startswith("https://kafka.us-east-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
    assert "X-Amz-Credential=key%2F" in url


def test_only_missing_topics_are_created(admin: Any) -> None:
    admin.create_topics.return_value = created("new")
    made = KafkaHook().create_topics(
        ["there", "new"], partitions=3, replication=2, configs={"retention.ms": "1000"}
    )
    assert made == ["new"]
    admin.create_topics.assert_called_once_with(
        {"new": {"num_partitions": 3, "replication_factor": 2, "configs": {"retention.ms": "1000"}}},
        raise_errors=False,
    )
    admin.wait_for_topics.assert_called_once_with(["new"])


def test_nothing_is_asked_for_when_all_topics_are_there(admin: Any) -> None:
    assert KafkaHook().create_topics(["there"]) == []
    admin.create_topics.assert_not_called()


def test_a_topic_that_somebody_else_creates_meanwhile_is_fine(admin: Any) -> None:
    admin.create_topics.return_value = created("new", error_code=36)
    KafkaHook().create_topics(["new"])
    admin.wait_for_topics.assert_called_once_with(["new"])


def test_a_refused_topic_is_named(admin: Any) -> None:
    admin.create_topics.return_value = created("new", error_code=38)
    with pytest.raises(InvalidReplicationFactorError, match="topic new"):
        KafkaHook().create_topics(["new"], replication=3)
