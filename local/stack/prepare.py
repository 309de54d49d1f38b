"""What a stack needs once: before its parts start, and in them when they run. All of it can be done again."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import requests
from kafka import KafkaAdminClient

from include.emulation.database import parse_url
from local.stack.configure import DAG_IDS, NOTEBOOK_DIR, kafka_commands, write_connections
from local.stack.errors import StackError
from local.stack.processes import MARKER
from local.stack.settings import PREFIX, REGION, ROOT, STAGE, TABLES, Stack, write_private
from local.stack.supervisor import await_that
from mwaa.bucket import Objects, checksum
from mwaa.errors import DeployError
from mwaa.settings import Settings
from mwaa.stacks import Stacks

# In the order in which they need each other's outputs.
TEMPLATES = ("storage", "roles", "streams", "api", "secrets")


def before_start(stack: Stack) -> None:
    """Format Kafka's folder and make Airflow's database, where that has not been done."""
    environment = {**os.environ, MARKER: stack.stack_id}
    if not (stack.home / "kafka" / "meta.properties").exists():
        _run_once(stack, "kafka-format", kafka_commands(stack).format, environment)
    database = stack.airflow_home / "airflow.db"
    version = stack.airflow_home / "migrated"
    if not database.exists() or not version.exists() or version.read_text() != sys.executable:
        airflow = str(Path(sys.executable).parent / "airflow")
        _run_once(
            stack,
            "airflow-db",
            [airflow, "db", "migrate"],
            {**environment, "AIRFLOW_HOME": str(stack.airflow_home)},
        )
        shutil.copyfile(database, stack.airflow_test_home / database.name)
        version.write_text(sys.executable)


def _run_once(stack: Stack, name: str, command: list[str], environment: dict[str, str]) -> None:
    log = stack.log / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=output, stderr=output, umask=0o077)
    if done.returncode:
        lines = log.read_text("utf-8", "replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "it wrote no log")
        raise StackError(f"{name} failed with status {done.returncode}: {said.strip()}\nLog: {log}")


def deploy_templates(stack: Stack) -> None:
    """Deploy those of mwaa/cloudformation/ that the AWS stand-in knows: what works on AWS was made here first.

    :raises StackError: CloudFormation does not take a template; with its reason.
    """
    client = functools.partial(aws_client, stack)
    settings = Settings(
        name=PREFIX,
        prefix=PREFIX,
        data_bucket=stack.bucket,
        mwaa_bucket=f"{PREFIX}-mwaa-{stack.stack_id[:8]}",
    )
    stacks = Stacks(client("cloudformation"), settings.stack, lambda line: None)
    values = {
        **settings.values("000000000000"),
        "DataVersioning": "Suspended",
        "StreamMode": "PROVISIONED",
        "StageName": STAGE,
    }
    try:
        for part in TEMPLATES:
            if found := _kept_by_itself(part, stacks, client, settings):
                values |= found
                continue
            if part == "api":
                values["OpenApiLocation"] = _put_openapi(client("s3"), values["MwaaBucket"])
            stacks.apply(stacks.plan(part, values), values)
            values |= stacks.outputs(part)
    except DeployError as error:
        raise StackError(f"{error} Log: {stack.log}/aws.log") from None


def _kept_by_itself(part: str, stacks: Stacks, client: Any, settings: Settings) -> dict[str, str]:
    """Outputs of a part whose resources are there without their stack, which deploying would refuse or overwrite.

    A stand-in that was killed while it deployed keeps its buckets and forgets the stack; streams without a stack are
    made by the DAG that needs them.
    """
    if part == "storage" and stacks.status(part) is None:
        buckets = {each["Name"] for each in client("s3").list_buckets()["Buckets"]}
        if settings.data_bucket in buckets:
            if settings.mwaa_bucket not in buckets:
                client("s3").create_bucket(Bucket=settings.mwaa_bucket)
            return {"DataBucket": settings.data_bucket, "MwaaBucket": settings.mwaa_bucket}
    if part == "streams" and stacks.status(part) is None:
        streams = client("kinesis").list_streams()["StreamNames"]
        return {name: name for name in streams if name.startswith(f"streaming-{settings.prefix}-")}
    return {}


def _put_openapi(s3: Any, bucket: str) -> str:
    """Put the API's definition where CloudFormation includes it from; return its address."""
    path = ROOT / "mwaa" / "cloudformation" / "openapi.yaml"
    key = f"templates/openapi-{checksum(path)[:16]}.yaml"
    objects = Objects(s3, bucket)
    if not objects.checksums([key]):
        objects.put(key, path)
    return f"s3://{bucket}/{key}"


def aws_client(stack: Stack, service: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=stack.url("aws"),
        region_name=REGION,
        aws_access_key_id=stack.credentials["aws_access_key_id"],
        aws_secret_access_key=stack.credentials["aws_secret_access_key"],
    )


def create_topics(stack: Stack) -> None:
    """Create the topics that are missing; the sink needs its dead-letter topic, with its settings, when it starts.

    :raises StackError: the bucket holds records of other topics than Kafka has; nothing is created then.
    """
    if str(ROOT / "plugins") not in sys.path:  # on MWAA it is there already
        sys.path.append(str(ROOT / "plugins"))
    from pinterest_pipeline.topic_notes import TopicConflict, TopicNotes

    wanted = {topic.pop("name"): topic for topic in _from_msk(stack, "topics.json")}
    landing = [f"{PREFIX}.{table}" for table in TABLES]
    with KafkaAdminClient(**stack.kafka_settings()) as admin:
        notes = TopicNotes(admin, aws_client(stack, "s3"), stack.bucket)
        try:
            notes.check(landing)
            _create_missing(admin, wanted)
            notes.write(landing)
        except TopicConflict as conflict:
            raise StackError(
                f"{conflict}\n(On the laptop the prefix is always {PREFIX}, what to run again is `make up`, "
                "and `make reset` forgets all data.)"
            ) from None


def _create_missing(admin: KafkaAdminClient, wanted: dict[str, Any]) -> None:
    existing = set(admin.list_topics())
    missing = {
        name: {
            "num_partitions": topic["partitions"],
            "replication_factor": topic["replication_factor"],
            "configs": topic["configs"],
        }
        for name, topic in wanted.items()
        if name not in existing
    }
    if missing:
        admin.create_topics(missing)
        admin.wait_for_topics(list(missing))


def _from_msk(stack: Stack, name: str) -> Any:
    """A JSON file of msk/, its placeholders filled in for this stack."""
    values = {"prefix": PREFIX, "bucket": stack.bucket, "region": REGION, "store_url": stack.url("aws")}
    template = string.Template((ROOT / "msk" / name).read_text("utf-8"))
    try:
        return json.loads(template.substitute(values))
    except KeyError as error:
        raise StackError(f"msk/{name} has a placeholder that the laptop does not know: {error}") from None


def create_connector(stack: Stack) -> None:
    """Create the S3 sink from the one connector file, or bring it to what the file says now."""
    connector = _from_msk(stack, "connector.json")
    login = ("pinterest", stack.credentials["connect_password"])
    url = f"{stack.url('connect')}/connectors/{stack.connector}/config"
    reply = requests.put(url, json=connector, auth=login, timeout=60)
    if not reply.ok:
        raise StackError(
            f"Connect refused the S3 sink ({reply.status_code}): {reply.text[:300]}. Log: {stack.log}/connect.log"
        )


def deploy_notebooks(stack: Stack) -> int:
    """Upload the notebooks the way production does it; returns how many files."""
    # The SDK looks for the workspace's optional description, and warns where there is none.
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    from databricks.sdk import WorkspaceClient

    from mwaa.workspace import deploy_notebooks as deploy

    client = WorkspaceClient(host=stack.url("databricks"), token=stack.credentials["databricks_token"])
    return len(deploy(client, ROOT / "include" / "notebooks", NOTEBOOK_DIR))


def await_dags(api: Any) -> None:
    """Wait until Airflow has read all DAG files.

    :raises StackError: a file cannot be read; with its error.
    """

    def parsed() -> bool:
        if errors := api.import_errors():
            raise StackError("Airflow cannot read these files:\n  " + "\n  ".join(errors))
        return bool(api.dag_ids() >= DAG_IDS)

    await_that(
        parsed,
        300,
        "Airflow has not read the DAG files for 300 s. Log: make logs SERVICE=airflow-dag-processor",
    )


def load_source(stack: Stack, source: str) -> None:
    """Fill the source tables from a folder of posts, or with synthetic posts; a database's URL is used as it is.

    :raises StackError: the source cannot be used; the loader has printed why.
    """
    command = [
        sys.executable,
        "-m",
        "include.emulation.load",
        "--database",
        f"sqlite:///{stack.source_database}",
    ]
    # In the environment, not among the arguments: a URL may hold a password.
    done = subprocess.run(command, env={**os.environ, "SOURCE": source}, cwd=ROOT)
    if done.returncode:
        raise StackError("The source tables were not loaded; what was there before is unchanged.")
    if "://" in source:
        # Whole and with an absolute path: what was checked here is what the DAGs' workers read.
        write_private(stack.source_url_file, parse_url(source).render_as_string(hide_password=False))
    else:
        stack.source_url_file.unlink(missing_ok=True)
    write_connections(stack)
