"""What each user of the laptop's Kafka may do, on a real broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import SaslAuthenticationFailed
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from local.kafka import acls, config
from local.kafka.throwaway import Broker

PREFIX = "rights"
OWN = f"_{config.CONNECT_GROUP}-config"
TOPICS = (f"{PREFIX}.pin", f"{PREFIX}.dead-letter", "other.pin", OWN)


@pytest.fixture(scope="module")
def broker(kafka_broker: Broker, kafka_admin: KafkaAdminClient) -> Broker:
    kafka_admin.create_topics([NewTopic(name, 1, 1) for name in TOPICS])
    for _ in range(2):  # at every start of the stack
        acls.grant(kafka_broker.client_settings(), prefix=PREFIX, tables=("pin", "geo", "user"))
    for topic in TOPICS:
        write(kafka_broker.client_settings(), topic)
    return kafka_broker


def write(settings: dict[str, Any], topic: str) -> None:
    with KafkaProducer(**settings, max_block_ms=5000, retries=0) as producer:
        producer.send(topic, b"{}").get(10)


def read(settings: dict[str, Any], topic: str) -> None:
    """Read a topic that holds a record; this client takes one that it may not see for one that is not there."""
    consumer = KafkaConsumer(**settings)
    try:
        if topic not in consumer.topics():
            raise TopicAuthorizationFailedError(topic)
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        assert consumer.poll(timeout_ms=20_000)
    finally:
        consumer.close()


def create(settings: dict[str, Any], topic: str) -> None:
    with KafkaAdminClient(**settings) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True)


def delete(settings: dict[str, Any], topic: str) -> None:
    with KafkaAdminClient(**settings) as admin:
        admin.delete_topics([topic])


def refused(action: Callable[[dict[str, Any], str], None], settings: dict[str, Any], topic: str) -> bool:
    try:
        action(settings, topic)
    except (TopicAuthorizationFailedError, GroupAuthorizationFailedError):
        return True
    except KafkaError as error:
        assert "AuthorizationFailed" in str(error), repr(error)
        return True
    return False


@pytest.mark.parametrize(
    ("user", "action", "topic", "allowed"),
    [
        (config.REST_PROXY, write, f"{PREFIX}.pin", True),
        (config.REST_PROXY, write, f"{PREFIX}.dead-letter", False),
        (config.REST_PROXY, write, OWN, False),
        (config.REST_PROXY, write, "other.pin", False),
        (config.REST_PROXY, read, f"{PREFIX}.pin", False),
        (config.REST_PROXY, create, f"{PREFIX}.geo", False),
        (config.CONNECT, read, f"{PREFIX}.pin", True),
        (config.CONNECT, write, f"{PREFIX}.pin", False),
        (config.CONNECT, write, f"{PREFIX}.dead-letter", True),
        (config.CONNECT, write, OWN, True),
        (config.CONNECT, read, "other.pin", False),
        (config.AIRFLOW, create, f"{PREFIX}.geo", True),
        (config.AIRFLOW, create, "other.geo", False),
        (config.AIRFLOW, write, f"{PREFIX}.pin", False),
        (config.AIRFLOW, read, f"{PREFIX}.pin", False),
        (config.AIRFLOW, delete, f"{PREFIX}.pin", False),
        (config.OWNER, write, f"{PREFIX}.dead-letter", True),
        (config.OWNER, read, OWN, True),
    ],
)
def test_each_user_may_do_its_work_and_nothing_else(
    broker: Broker, user: str, action: Callable[[dict[str, Any], str], None], topic: str, allowed: bool
) -> None:
    assert refused(action, broker.client_settings(user), topic) is not allowed


@pytest.mark.parametrize("user", [config.OWNER, *config.PARTS])
async def test_no_client_is_the_broker(broker: Broker, user: str) -> None:
    own = broker.client_settings(user)
    (await log_in(own)).close()
    with pytest.raises(SaslAuthenticationFailed):
        await log_in(own | {"sasl_plain_username": config.BROKER})


async def log_in(settings: dict[str, str]) -> AIOKafkaConnection:
    host, _, port = settings["bootstrap_servers"].partition(":")
    login = {name: value for name, value in settings.items() if name != "bootstrap_servers"}
    return await create_conn(host, int(port), **login)
