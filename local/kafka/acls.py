"""What each user of the laptop's Kafka may do: the rights that mwaa/cloudformation/roles.yaml gives on AWS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import SecurityDisabledError

from local.kafka.config import AIRFLOW, CONNECT, CONNECT_GROUP, REST_PROXY

_SEE = ("DESCRIBE", "DESCRIBE_CONFIGS")


class NoAuthorizerError(Exception):
    """The broker runs without an authorizer: it was started from other settings than these."""


def grant(client_settings: dict[str, Any], *, prefix: str, tables: Sequence[str]) -> None:
    """Give the users their rights to the topics of prefix; harmless when they have them.

    :param client_settings: connection of a user who may do everything.
    :raises NoAuthorizerError: the broker knows no rights.
    """
    with KafkaAdminClient(**client_settings) as admin:
        failed = admin.create_acls(list(_rights(prefix, tables)))["failed"]
    if SecurityDisabledError in failed:
        raise NoAuthorizerError
    if failed:
        raise failed[0](f"Kafka refused {len(failed)} right(s)")


def _rights(prefix: str, tables: Sequence[str]) -> Iterator[ACL]:
    for topic in (f"{prefix}.{table}" for table in tables):
        yield from _topic(REST_PROXY, topic, "WRITE", *_SEE)
        yield from _topic(AIRFLOW, topic, "CREATE", *_SEE)
        yield from _topic(CONNECT, topic, "READ", *_SEE)
    yield from _topic(CONNECT, f"{prefix}.dead-letter", "CREATE", "WRITE", *_SEE)
    own = ResourcePattern(ResourceType.TOPIC, f"_{CONNECT_GROUP}-", ACLResourcePatternType.PREFIXED)
    yield from _allowed(CONNECT, own, "CREATE", "READ", "WRITE", *_SEE)
    for group in (CONNECT_GROUP, f"connect-{prefix}-s3-sink"):
        yield from _allowed(CONNECT, ResourcePattern(ResourceType.GROUP, group), "READ", "DESCRIBE")


def _topic(user: str, name: str, *operations: str) -> Iterator[ACL]:
    return _allowed(user, ResourcePattern(ResourceType.TOPIC, name), *operations)


def _allowed(user: str, pattern: ResourcePattern, *operations: str) -> Iterator[ACL]:
    for operation in operations:
        yield ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)
