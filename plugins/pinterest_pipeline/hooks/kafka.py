"""Kafka: topics and their offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseHook

from pinterest_pipeline.exceptions import SettingError

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

IAM = "AWS_MSK_IAM"

# The connection is written as for Airflow's Kafka provider, in librdkafka's names.
CLIENT_OPTIONS = {
    "bootstrap.servers": "bootstrap_servers",
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "ssl.crl.location": "ssl_crlfile",
}
AWS_OPTIONS = {"aws_conn_id", "region_name"}
# What librdkafka knows about producing and consuming means nothing here. Whatever else is in the connection says how
# the cluster is reached, and must not be passed over: with less of it, another cluster or a plain one is spoken to.
ELSEWHERE = re.compile(
    r"(group|auto|enable\.auto|enable\.idempotence|enable\.partition|fetch|max\.poll|max\.in\.flight|queued|queue|isolation"
    r"|session\.timeout|heartbeat|partition|linger|batch|acks|request\.required\.acks|compression|message|retries|retry"
    r"|transaction|transactional|delivery|statistics|consume|offset|check\.crcs|sticky|log|debug)(\..*|_.*)?|.*_cb"
)


class KafkaHook(BaseHook):
    """
    Look after the topics of a Kafka cluster.

    The connection's extra holds librdkafka's options: ``bootstrap.servers``, ``security.protocol``,
    ``sasl.mechanism``, ``sasl.username``, ``sasl.password``. With ``sasl.mechanism`` = ``AWS_MSK_IAM`` the
    credentials of ``aws_conn_id`` (default ``aws_default``) are used, in ``region_name``.

    :param kafka_conn_id: the connection.
    """

    default_conn_name = "pinterest_kafka"

    def __init__(self, kafka_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def client_options(self) -> dict[str, Any]:
        """
        Return the connection as options of kafka-python.

        :raises SettingError: ``bootstrap.servers`` is missing, or there is an option that cannot be followed.
        """
        extra = self.get_connection(self.kafka_conn_id).extra_dejson
        if not extra.get("bootstrap.servers"):
            raise SettingError(f"Connection {self.kafka_conn_id}: extra needs bootstrap.servers.")
        known = {*CLIENT_OPTIONS, *AWS_OPTIONS}
        if unknown := sorted(name for name in extra if name not in known and not ELSEWHERE.fullmatch(name)):
            raise SettingError(
                f"Connection {self.kafka_conn_id}: extra has {', '.join(unknown)}, which this client cannot follow. "
                f"It knows {', '.join(CLIENT_OPTIONS)}."
            )
        options: dict[str, Any] = {
            CLIENT_OPTIONS[name]: value for name, value in extra.items() if name in CLIENT_OPTIONS
        }
        options["bootstrap_servers"] = options["bootstrap_servers"].split(",")
        if options.get("sasl_mechanism") == IAM:
            options["sasl_mechanism"] = "OAUTHBEARER"
            options["sasl_oauth_token_provider"] = self._token_provider(extra)
        return options

    def _token_provider(self, extra: Mapping[str, Any]) -> Any:
        region = extra.get("region_name")
        aws = AwsBaseHook(
            aws_conn_id=extra.get("aws_conn_id", AwsBaseHook.default_conn_name),
            region_name=region,
            client_type="kafka",
        )
        region = region or aws.region_name
        if not region:
            raise SettingError(f"Connection {self.kafka_conn_id}: extra needs region_name for {IAM}.")
        return iam_token_provider(aws, region)

    def get_conn(self) -> KafkaAdminClient:
        """Return an admin client; close it after use."""
        from kafka import KafkaAdminClient

        return KafkaAdminClient(**self.client_options())

    def create_topics(
        self,
        topics: Iterable[str],
        *,
        partitions: int = -1,
        replication: int = -1,
        configs: Mapping[str, str] | None = None,
    ) -> list[str]:
        """
        Create those of the topics that are missing, and wait until they can be used.

        :param topics: names of the topics.
        :param partitions: number of partitions of a new topic; -1: the brokers' default.
        :param replication: replication factor of a new topic; -1: the brokers' default.
        :param configs: further configuration of a new topic.
        :return: the topics that were created; an existing topic stays as it is.
        """
        wanted = list(topics)
        with self.get_conn() as admin:
            existing = set(admin.list_topics())
            missing = [topic for topic in wanted if topic not in existing]
            if missing:
                reply = admin.create_topics(
                    {
                        topic: {
                            "num_partitions": partitions,
                            "replication_factor": replication,
                            "configs": dict(configs or {}),
                        }
                        for topic in missing
                    },
                    raise_errors=False,
                )
                _raise_for(reply, admin)
        return missing

    def open_transactions(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return for each partition with an open transaction the offset from which on readers must wait for its end."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec
        from kafka.protocol.consumer import IsolationLevel

        latest = {TopicPartition(topic, partition): OffsetSpec.LATEST for topic, partition in partitions}
        with self.get_conn() as admin:
            stable = admin.list_partition_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED)
            ends = admin.list_partition_offsets(latest)
        return {
            (place.topic, place.partition): stable[place].offset
            for place in latest
            if stable[place].offset < ends[place].offset
        }


def _raise_for(reply: Mapping[str, Any], admin: KafkaAdminClient) -> None:
    """Raise the first real error of a reply; a topic that somebody else has just created is none."""
    from kafka import errors

    for topic in reply["topics"]:
        error = errors.for_code(topic["error_code"])
        if error not in {errors.NoError, errors.TopicAlreadyExistsError}:
            raise error(f"topic {topic['name']}: {topic.get('error_message') or error.__name__}")
    admin.wait_for_topics([topic["name"] for topic in reply["topics"]])


def iam_token_provider(aws: AwsBaseHook, region: str) -> Any:
    """Return a kafka-python token provider that signs MSK IAM tokens with the hook's credentials."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    from botocore.credentials import CredentialProvider, Credentials
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class HookCredentials(CredentialProvider):  # type: ignore[misc]
        METHOD = "airflow-connection"

        def load(self) -> Credentials:
            frozen = aws.get_credentials(region_name=region)
            return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
        def token(self) -> str:
            token, _ = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(
                region, HookCredentials()
            )
            return str(token)

    return TokenProvider()
