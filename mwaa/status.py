"""One screen that says what runs and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa import connections, package
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
        ("environment", _dags),
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


def _dags(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    """Yield a line for each DAG and each file that Airflow cannot parse, as Airflow's own API tells it."""
    mwaa, name = client("mwaa"), deployment.settings.name
    if mwaa.get_environment(Name=name)["Environment"]["Status"] != "AVAILABLE":
        return  # the environment's own line says so

    def ask(path: str, **query: Any) -> dict[str, Any]:
        reply = mwaa.invoke_rest_api(Name=name, Path=path, Method="GET", QueryParameters=query)
        found: dict[str, Any] = reply["RestApiResponse"]
        return found

    try:
        known = {each["dag_id"]: each for each in ask("/dags", limit=100)["dags"]}
        for dag_id in sorted(path.stem for path in (package.ROOT / "dags").glob("*.py")):
            if dag_id in known:
                runs = ask(f"/dags/{dag_id}/dagRuns", limit=1, order_by="-run_after")["dag_runs"]
                yield _dag(known[dag_id], runs)
            else:
                yield Line(f"DAG {dag_id}", False, "Airflow does not know it")
        for error in ask("/importErrors", limit=100)["import_errors"]:
            said = (error["stack_trace"].strip().splitlines() or ["no reason given"])[-1]
            yield Line(f"file {error['filename'].rsplit('/', 1)[-1]}", False, f"cannot be parsed: {said}")
    except (BotoCoreError, ClientError) as error:
        said = getattr(error, "response", {}).get("RestApiResponse") or error
        yield Line(
            "DAGs",
            False,
            f"Airflow's API was not read: {said}. That takes airflow:InvokeRestApi on role/{name}/Viewer",
        )


def _dag(dag: dict[str, Any], runs: list[dict[str, Any]]) -> Line:
    state = "paused: switch it on in Airflow, or it never runs" if dag["is_paused"] else "active"
    last = "no run yet"
    if runs:
        last = f"last run {runs[0]['state']}, {runs[0]['end_date'] or runs[0]['run_after']}"
    good = (
        not dag["is_paused"] and not dag["has_import_errors"] and [run["state"] for run in runs] != ["failed"]
    )
    parsed = "; its file cannot be parsed any more" if dag["has_import_errors"] else ""
    return Line(f"DAG {dag['dag_id']}", good, f"{state}; {last}{parsed}")


def _alarms(deployment: Deployment, client: Callable[[str], Any]) -> Iterator[Line]:
    prefix = f"{deployment.settings.name}-"
    pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    alarms = [each for page in pages for each in page["MetricAlarms"]]
    loud = [each["AlarmName"] for each in alarms if each["StateValue"] == "ALARM"]
    yield Line("alarms", not loud, ", ".join(loud) or f"none of {len(alarms)}")
    yield _subscribers(client("sns"), deployment.stacks.outputs("alarms")["AlarmTopicArn"])


def _subscribers(sns: Any, topic: str) -> Line:
    """Say whether alarms and failed runs reach anybody; a mail address counts once it is confirmed."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    subscriptions = [each for page in pages for each in page["Subscriptions"]]
    waiting = [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] == "PendingConfirmation"]
    if told := len(subscriptions) - len(waiting):
        return Line("who is told of alarms", True, f"{told} subscribed")
    why = (
        f"{', '.join(waiting)} has not confirmed" if waiting else "set AlarmEmail, or subscribe to the topic"
    )
    return Line("who is told of alarms", False, f"nobody: {why}")


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
