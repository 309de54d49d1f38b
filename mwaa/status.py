"""One screen that says what runs and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mwaa import connections
from mwaa.deployment import Deployment
from mwaa.errors import DeployError
from mwaa.stacks import GOOD, Say


@dataclass(frozen=True)
class Line:
    """One thing and how it is."""

    thing: str
    good: bool
    state: str


def show(deployment: Deployment, client: Callable[[str], Any], say: Say) -> bool:
    """Print the state of every part; return whether all is as it should be."""
    settings = deployment.settings
    say(f"{settings.name} in {settings.region}, account {deployment.account}")
    all_good = True
    for line in _lines(deployment, client):
        all_good &= line.good
        say(f"  {'ok ' if line.good else 'NOT'}  {line.thing:<34} {line.state}")
    return all_good


def _lines(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    deployed = []
    for part in deployment.settings.parts:
        status = deployment.stacks.status(part)
        yield Line(f"stack {deployment.settings.stack(part)}", status in GOOD, status or "not deployed")
        if status in GOOD:
            deployed.append(part)
    for part, look in (
        ("streams", _streams),
        ("kafka", _cluster),
        ("proxy", _proxy),
        ("connect", _connector),
        ("source", _database),
        ("environment", _environment),
        ("alarms", _alarms),
        ("secrets", _connections),
    ):
        if part in deployed:
            yield from look(deployment, client)
    if deployment.uses_workspace:
        yield _notebooks(deployment)


def _streams(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    kinesis = client("kinesis")
    for name in deployment.stacks.outputs("streams").values():
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        shards = f"{summary['StreamStatus']}, {summary['OpenShardCount']} shards"
        yield Line(f"stream {name}", summary["StreamStatus"] == "ACTIVE", shards)


def _cluster(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    arn = deployment.stacks.outputs("kafka")["KafkaClusterArn"]
    state = client("kafka").describe_cluster_v2(ClusterArn=arn)["ClusterInfo"]["State"]
    yield Line("Kafka cluster", state == "ACTIVE", state)


def _proxy(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    group = deployment.stacks.outputs("proxy")["RestProxyTargetGroupArn"]
    targets = client("elbv2").describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    healthy = sum(each["TargetHealth"]["State"] == "healthy" for each in targets)
    yield Line("REST proxy", healthy > 0, f"{healthy} of {len(targets)} machines healthy")


def _connector(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    arn = deployment.stacks.outputs("connect")["ConnectorArn"]
    found = client("kafkaconnect").describe_connector(connectorArn=arn)
    reason = found.get("stateDescription", {}).get("message", "")
    state = found["connectorState"]
    yield Line("S3 sink", state == "RUNNING", f"{state} {reason}".strip())


def _database(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    name = deployment.stacks.outputs("source")["SourceInstanceId"]
    state = client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0][
        "DBInstanceStatus"
    ]
    yield Line("source database", state == "available", state)


def _environment(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    found = client("mwaa").get_environment(Name=deployment.settings.name)["Environment"]
    last = found.get("LastUpdate", {})
    failed = last.get("Error", {}).get("ErrorMessage", "") if last.get("Status") == "FAILED" else ""
    state = f"{found['Status']}  https://{found.get('WebserverUrl', '')}"
    yield Line("MWAA environment", found["Status"] == "AVAILABLE" and not failed, f"{state} {failed}".strip())


def _alarms(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    prefix = f"{deployment.settings.name}-"
    pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    alarms = [each for page in pages for each in page["MetricAlarms"]]
    loud = [each["AlarmName"] for each in alarms if each["StateValue"] == "ALARM"]
    yield Line("alarms", not loud, ", ".join(loud) or f"none of {len(alarms)}")


def _connections(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    secrets = connections.Secrets(client("secretsmanager"), deployment.settings.name)
    names = connections.wanted(deployment.values(), {})
    empty = [name for name in names if not secrets.has_value(name)]
    yield Line("connections", not empty, f"without a value: {', '.join(empty)}" if empty else f"{len(names)}")


def _notebooks(deployment: Deployment) -> Line:
    try:
        changes = deployment.notebook_changes()
    except DeployError as error:
        return Line("notebooks", False, str(error))
    different = len(changes.added + changes.changed + changes.removed)
    return Line(
        "notebooks",
        not different,
        f"{different} differ from here: deploy" if different else "as they are here",
    )
