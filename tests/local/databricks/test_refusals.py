"""What Databricks refuses is refused here: names it does not know, and what a workspace of today no longer has."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.errors import BadRequest, DatabricksError, InvalidParameterValue
from databricks.sdk.service import compute, jobs

from local.databricks.kinesis_source import Options
from tests.local.databricks.conftest import Lab, Part

DEDICATED = compute.DataSecurityMode.SINGLE_USER


@pytest.fixture(scope="module")
def still_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A workspace whose drivers have no heap to start with: these tests run no notebook."""
    lab = Lab(tmp_path_factory.mktemp("quiet"), "", dict(os.environ), driver_memory="1k")
    yield lab
    lab.server.stop()


@pytest.fixture(scope="module")
def quiet(still_lab: Lab) -> Any:
    """A client of it."""
    return still_lab.client


def task(**fields: Any) -> dict[str, Any]:
    return {"task_key": "main", "notebook_task": {"notebook_path": "/Shared/n"}, **fields}


def refused(call: Callable[[], Any], kind: type[DatabricksError] = InvalidParameterValue) -> str:
    with pytest.raises(kind) as refusal:
        call()
    return str(refusal.value)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"spark_version": "18.0.x-scala2.13"}, "Invalid spark version 18.0.x-scala2.13."),
        ({"spark_version": "18.3.x-scala2.13"}, "Invalid spark version 18.3.x-scala2.13."),
        ({"spark_version": "18.x-scala2.12"}, "Invalid spark version 18.x-scala2.12."),
        ({"spark_version": "auto:latest-lts"}, "Invalid spark version auto:latest-lts."),
        ({"num_workers": 1}, "new_cluster.spark_version"),
        ({"node_type_id": "m5d.huge"}, "Node type m5d.huge is not supported."),
        ({"driver_node_type_id": "local"}, "Node type local is not supported."),
        ({"data_security_mode": "DEDICATED"}, "new_cluster.data_security_mode must be one of SINGLE_USER, "),
        ({"data_security_mod": "NONE"}, "new_cluster: a cluster has no field 'data_security_mod'."),
    ],
)
@pytest.mark.parametrize("where", ["create", "submit", "job_clusters"])
def test_what_is_no_cluster_is_refused(quiet: Any, where: str, cluster: dict[str, Any], message: str) -> None:
    good = (
        {"spark_version": "18.x-scala2.13", "node_type_id": "m5d.large"}
        if "num_workers" not in cluster
        else {}
    )
    new_cluster = {**good, **cluster}
    if where == "job_clusters":
        tasks = {"tasks": [task(job_cluster_key="shared")]}
        body = {**tasks, "job_clusters": [{"job_cluster_key": "shared", "new_cluster": new_cluster}]}
    else:
        body = {"tasks": [task(new_cluster=new_cluster)]}
    path = "/api/2.2/jobs/runs/submit" if where == "submit" else "/api/2.2/jobs/create"
    assert message in refused(lambda: quiet.api_client.do("POST", path, body=body))


def test_the_runtimes_and_machines_that_can_be_had_are_told(quiet: Any) -> None:
    keys = {version.key for version in quiet.clusters.spark_versions().versions}
    assert "18.x-scala2.13" in keys
    assert not {key for key in keys if key.startswith("18.") and key != "18.x-scala2.13"}
    assert "m5d.large" in {kind.node_type_id for kind in quiet.clusters.list_node_types().node_types}
    made = quiet.jobs.create(
        name="good",
        tasks=[
            jobs.Task(
                task_key="main",
                notebook_task=jobs.NotebookTask(notebook_path="/Shared/n"),
                new_cluster=compute.ClusterSpec(
                    spark_version="18.x-scala2.13",
                    node_type_id="m5d.large",
                    num_workers=1,
                    data_security_mode=DEDICATED,
                    spark_conf={"spark.sql.codegen.cache.maxEntries": "2000"},
                    aws_attributes=compute.AwsAttributes(instance_profile_arn="arn:aws:iam::1:x/y"),
                ),
            )
        ],
    )
    assert quiet.jobs.get(made.job_id).settings.tasks[0].new_cluster.data_security_mode is DEDICATED


def test_a_secret_is_not_read_outside_a_notebook(quiet: Any) -> None:
    quiet.secrets.create_scope("aws")
    quiet.secrets.put_secret("aws", "key", string_value="value")
    message = refused(lambda: quiet.secrets.get_secret("aws", "key"), BadRequest)
    assert message == "Secrets are read with DBUtils, in a notebook."
    assert [each.key for each in quiet.secrets.list_secrets("aws")] == ["key"]


@pytest.mark.parametrize(
    "name", ["endpointUrl", "kinesisEndpoint", "startingPosition", "maxPartitions", "streamNames"]
)
def test_an_option_of_kinesis_that_databricks_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"kinesis: there is no option {name.lower()}; there are streamName, "
    ):
        Options.of({"streamname": "s", "region": "r", name.lower(): "x"})


def test_the_options_that_databricks_knows_are_taken() -> None:
    known = {"maxFetchDuration": "2s", "fetchBufferSize": "200mb", "serviceCredential": "kinesis"}
    lowered = {name.lower(): value for name, value in known.items()}
    options = Options.of({"streamname": "s", "region": "r", "endpoint": "http://x", **lowered})
    assert options.endpoint_url == "http://x"


def test_a_failed_task_of_serverless_compute_is_tried_again_unless_that_is_switched_off(
    still_lab: Lab, quiet: Any
) -> None:
    """The workspace's drivers do not start, which fails a run as well as a notebook that raises does."""
    quiet.workspace.mkdirs("/Shared/serverless")
    quiet.api_client.do(
        "POST",
        "/api/2.0/workspace/import",
        body={
            "path": "/Shared/serverless/fails",
            "language": "PYTHON",
            "format": "SOURCE",
            "content": "MQ==",
        },
    )
    notebook = {"notebook_task": {"notebook_path": "/Shared/serverless/fails"}}
    cluster = {"new_cluster": {"spark_version": "18.x-scala2.13", "num_workers": 1}}
    attempts = {}
    for name, fields in {
        "as it is": {},
        "switched off": {"disable_auto_optimization": True, "max_retries": 0},
        "asked to": {"disable_auto_optimization": True, "max_retries": 2},
        "a cluster": cluster,
    }.items():
        run = {"tasks": [{"task_key": "main", **notebook, **fields}]}
        run_id = quiet.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=run)["run_id"]
        ended = still_lab.ended(run_id)
        assert ended.state == "FAILED"
        attempts[name] = ended.run.tasks[0].attempt_number + 1
    assert attempts == {"as it is": 2, "switched off": 1, "asked to": 3, "a cluster": 1}


# -- what only a driver can tell


@pytest.fixture(scope="module")
def new_lab(aws_part: Part, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A workspace as they are made today."""
    access = {"catalogs": {"main": ["ALL_PRIVILEGES"]}}
    lab = Lab(tmp_path_factory.mktemp("new-lab"), aws_part.url, {}, access=access)
    yield lab
    lab.server.stop()


CATALOG = """
spark.sql("CREATE SCHEMA IF NOT EXISTS `main`.`lake`")
spark.sql("CREATE TABLE IF NOT EXISTS `main`.`lake`.`t` (n INT) USING DELTA")
spark.sql("INSERT INTO `main`.`lake`.`t` VALUES (1)")
dbutils.notebook.exit(spark.table("`main`.`lake`.`t`").count())
"""


def test_a_catalog_needs_a_cluster_with_an_access_mode(new_lab: Lab) -> None:
    path = new_lab.notebook("catalog", CATALOG)
    assert new_lab.run(path).result == "1"
    bare = compute.ClusterSpec(spark_version="18.x-scala2.13", num_workers=0)
    ended = new_lab.run(path, new_cluster=bare)
    assert (
        "[REQUIRES_SINGLE_PART_NAMESPACE] spark_catalog requires a single-part namespace, but got"
        in ended.error
    )
    unknown = new_lab.run(new_lab.notebook("unknown_catalog", "spark.sql('CREATE SCHEMA other.lake')"))
    assert "but got `other`.`lake`" in unknown.error


DBFS = """
import json
def refusal(call):
    try:
        call()
    except Exception as error:
        return str(error).splitlines()[0]
def stream(folder):
    frame = spark.readStream.format("rate").load()
    query = frame.writeStream.format("noop").option("checkpointLocation", folder).trigger(availableNow=True).start()
    query.awaitTermination()
dbutils.notebook.exit(json.dumps({
    "checkpoint": refusal(lambda: stream("dbfs:/pinterest/checkpoints/q")),
    "bare": refusal(lambda: stream("/pinterest/checkpoints/q")),
    "write": refusal(lambda: spark.range(1).write.parquet("dbfs:/tmp/x")),
    "put": refusal(lambda: dbutils.fs.put("dbfs:/tmp/x", "text")),
    "ls": refusal(lambda: dbutils.fs.ls("/mnt/pinterest")),
    "mount": refusal(lambda: dbutils.fs.mount("s3a://lab-bucket", "/mnt/pinterest")),
}))
"""


def test_a_new_workspace_has_no_dbfs_root(new_lab: Lab, s3: Any) -> None:

    told = json.loads(new_lab.run(new_lab.notebook("dbfs", DBFS)).result)
    refusal = "Public DBFS root is disabled. Access is denied on path: "
    denied = {name: text.partition(refusal)[2] for name, text in told.items()}
    assert denied == {
        "checkpoint": "/pinterest/checkpoints/q",
        "bare": "/pinterest/checkpoints/q",
        "write": "/tmp/x",
        "put": "/tmp/x",
        "ls": "/mnt/pinterest",
        "mount": "/",
    }
    assert not Path(new_lab.home / "mounts.json").exists()
