"""Names that are taken: by another account, by hand, or by a deployment that was taken away in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from mwaa.checks.report import Context, Result, missing, ok, refused_as

Client = Callable[[str], Any]
ABSENT = (
    *("404", "NoSuchBucket", "NoSuchEntity", "NoSuchEntityException"),
    *("ResourceNotFoundException", "NotFoundException"),
)


@dataclass(frozen=True)
class Kind:
    """Things of one kind that a part makes under names of its own choice.

    :param holder: says who has a name; None where it is free.
    """

    thing: str
    part: str
    type: str
    name: str
    holder: Callable[[Client, str], str | None]
    remedy: str


def _check(kind: Kind) -> Callable[[Context], Iterator[Result]]:
    def check(context: Context) -> Iterator[Result]:
        if context.creates(kind.part):
            yield _result(context, kind)

    return check


def _result(context: Context, kind: Kind) -> Result:
    names = sorted(_names(context, kind))
    held = {name: holder for name in names if (holder := _holder(context, kind, name))}
    if not held:
        return ok(kind.thing, f"free: {', '.join(names)}")
    return missing(kind.thing, "; ".join(f"{name} {holder}" for name, holder in held.items()), kind.remedy)


def _holder(context: Context, kind: Kind, name: str) -> str | None:
    try:
        return kind.holder(context.client, name)
    except ClientError as error:
        if refused_as(error, *ABSENT):
            return None
        raise


def _names(context: Context, kind: Kind) -> Iterator[str]:
    """Yield the names that a template gives its resources of a type."""
    values = context.settings.values(context.deployment.account)
    for resource in context.template(kind.part)["Resources"].values():
        if resource["Type"] == kind.type and kind.name in resource["Properties"]:
            if resource.get("Condition") == "SourceIsExternal" and values["ExternalSource"] != "true":
                continue
            text = str(resource["Properties"][kind.name])
            # !Ref and !Sub have become their text: a parameter, or a text with parameters in it.
            yield (
                values
                .get(text, text)
                .replace("${Name}", values["Name"])
                .replace("${Prefix}", values["Prefix"])
            )


def _bucket(client: Client, name: str) -> str | None:
    try:
        client("s3").head_bucket(Bucket=name)
    except ClientError as error:
        if refused_as(error, "403"):
            return "exists already and is another account's, or closed to you"
        if refused_as(error, "301", "PermanentRedirect"):
            return "exists already, in another region"
        raise
    return "exists already"


def _role(client: Client, name: str) -> str | None:
    client("iam").get_role(RoleName=name)
    return "exists already"


def _stream(client: Client, name: str) -> str | None:
    client("kinesis").describe_stream_summary(StreamName=name)
    return "exists already"


def _secret(client: Client, name: str) -> str | None:
    found = client("secretsmanager").describe_secret(SecretId=name)
    return "waits to be deleted" if found.get("DeletedDate") else "exists already"


def _log_group(client: Client, name: str) -> str | None:
    found = client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return "exists already" if name in {each["logGroupName"] for each in found} else None


def _cluster(client: Client, name: str) -> str | None:
    found = client("kafka").list_clusters_v2(ClusterNameFilter=name)["ClusterInfoList"]
    return "exists already" if name in {each["ClusterName"] for each in found} else None


def _connector(client: Client, name: str) -> str | None:
    found = client("kafkaconnect").list_connectors(connectorNamePrefix=name)["connectors"]
    return "exists already" if name in {each["connectorName"] for each in found} else None


def _environment(client: Client, name: str) -> str | None:
    client("mwaa").get_environment(Name=name)
    return "exists already"


_REMOVE = "choose another name in mwaa.toml, or remove what has it"
KINDS = (
    Kind(
        *("buckets", "storage", "AWS::S3::Bucket", "BucketName", _bucket),
        "choose others in mwaa.toml: data_bucket, mwaa_bucket",
    ),
    Kind("roles", "roles", "AWS::IAM::Role", "RoleName", _role, _REMOVE),
    Kind("role of Databricks", "databricks", "AWS::IAM::Role", "RoleName", _role, _REMOVE),
    Kind(
        *("streams", "streams", "AWS::Kinesis::Stream", "Name", _stream),
        "choose another prefix in mwaa.toml, or remove what has it",
    ),
    Kind(
        *("secrets", "secrets", "AWS::SecretsManager::Secret", "Name", _secret),
        "aws secretsmanager delete-secret --force-delete-without-recovery --secret-id NAME, or choose another name",
    ),
    *(
        Kind(
            *(f"log group of {part}", part, "AWS::Logs::LogGroup", "LogGroupName", _log_group),
            "aws logs delete-log-group --log-group-name NAME",
        )
        for part in ("api", "kafka", "proxy", "connect")
    ),
    Kind("Kafka cluster", "kafka", "AWS::MSK::Cluster", "ClusterName", _cluster, _REMOVE),
    Kind("connector", "connect", "AWS::KafkaConnect::Connector", "ConnectorName", _connector, _REMOVE),
    Kind("environment", "environment", "AWS::MWAA::Environment", "Name", _environment, _REMOVE),
)
CHECKS = {kind.thing: _check(kind) for kind in KINDS}
