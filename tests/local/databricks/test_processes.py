"""The processes of the workspace: what they listen on and show, and what is left when one is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from databricks.sdk.service import jobs

from tests.local.databricks.conftest import NEW_CLUSTER, TOKEN, WARM, Lab, Part

ROOT = Path(__file__).parents[3]


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, left = set(), [pid]
    while left:
        found.add(current := left.pop())
        left += children.get(current, [])
    return found


def listening() -> Iterator[tuple[str, int]]:
    """Addresses that are listened on, and the inode of each socket."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1].partition(":")[0], int(fields[9])


def sockets(pid: int) -> Iterator[int]:
    """The inodes of a process's sockets; one that has ended has none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if (target := str(link.readlink())).startswith("socket:["):
                    yield int(target[8:-1])


def told(pid: int, fact: str) -> str:
    """A file of /proc on a process; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/{fact}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_everything_listens_on_loopback_only_and_shows_no_secret(lab: Lab, key: Credentials) -> None:
    # a UDF and a foreachBatch function make Spark open the ports it opens only then
    ended = lab.run(
        lab.notebook(
            "ports",
            """
            from pyspark.sql.functions import udf
            spark.range(2).select(udf(lambda n: n + 1, "long")("id")).collect()
            spark.readStream.format("rate").load().writeStream.foreachBatch(lambda f, n: f.count()).trigger(
                availableNow=True
            ).start().awaitTermination()
            """,
        )
    )
    assert ended.error == ""
    pids = family(lab.server.process.pid)
    inodes = {inode for pid in pids for inode in sockets(pid)}
    addresses = [address for address, inode in listening() if inode in inodes]
    assert len(addresses) >= 4  # the API, Spark's own two and py4j's
    assert set(addresses) <= LOOPBACK
    for pid in pids:
        arguments = told(pid, "cmdline")
        assert TOKEN not in arguments
        assert str(key.secret_key) not in arguments
    assert {"java", "python"} <= {told(pid, "comm").strip()[:6] for pid in pids}


def test_what_others_must_not_read_they_cannot(lab: Lab) -> None:
    lab.run(lab.notebook("writes", "print('private')", "dbutils.fs.put('/private', 'x', True)"))
    assert lab.home.stat().st_mode & 0o077 == 0
    for file in [lab.home / "secrets.db", lab.home / "state.db", *(lab.home / "runs").iterdir()]:
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Lab]:
    """A workspace of its own, to be killed."""
    lab = Lab(tmp_path, "", {})
    yield lab
    if lab.server.process.poll() is None:
        lab.server.stop()


def test_a_killed_server_leaves_nothing_running_and_forgets_nothing(second: Lab) -> None:
    path = second.notebook("sleeping", "import time", "print('busy')", "time.sleep(3600)")
    second.client.secrets.create_scope("kept")
    job = second.client.jobs.create(
        name="kept",
        tasks=[jobs.Task(task_key="main", existing_cluster_id=WARM, notebook_task=jobs.NotebookTask(path))],
    )
    run_id = second.start(path)
    second.wait(lambda: "busy" in second.printed_by(run_id), "the notebook to be busy")
    pids = family(second.server.process.pid)
    assert len(pids) >= 3

    second.server.stop(signal.SIGKILL)
    second.wait(lambda: not any(alive(pid) for pid in pids), "the drivers to notice")

    second.start_server()
    ended = second.ended(run_id)
    assert ended.run.state.life_cycle_state == jobs.RunLifeCycleState.INTERNAL_ERROR
    assert ended.run.state.state_message == "The workspace was stopped while this run was active."
    assert ended.error == "The workspace was stopped while this run was active."
    assert [scope.name for scope in second.client.secrets.list_scopes()] == ["kept"]
    assert second.client.jobs.get(job.job_id).settings.name == "kept"
    assert second.client.workspace.get_status(path).path == path

    pids = family(second.server.process.pid)
    assert second.server.stop() == 0
    assert not any(alive(pid) for pid in pids)


def test_two_drivers_that_commit_to_one_table_never_overwrite_each_other(lab: Lab, tmp_path: Path) -> None:
    # the store of Delta's log alone: a whole commit takes so long that two would hardly ever meet
    racing = lab.notebook(
        "racing",
        """
        import os, time
        who, folder = dbutils.widgets.get("who"), dbutils.widgets.get("folder")
        jvm = spark._jvm
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, f"file:{folder}")
        conf = log.newDeltaHadoopConf()
        open(f"{folder}/{who}", "w").close()
        while len(set(os.listdir(folder)) & {"one", "other"}) < 2:
            time.sleep(0.01)
        won = []
        for version in range(1000):
            path = f"{folder}/_delta_log/{version:020}.json"
            if os.path.exists(path):
                continue
            lines = jvm.scala.jdk.javaapi.CollectionConverters.asScala(jvm.java.util.List.of(who).iterator())
            try:
                log.store().write(jvm.org.apache.hadoop.fs.Path(f"file:{path}"), lines, False, conf)
                won.append(version)
            except Exception as error:
                if "FileAlreadyExistsException" not in str(error):
                    raise
        """,
        "import json; dbutils.notebook.exit(json.dumps(won))",
    )
    log = tmp_path / "table" / "_delta_log"
    log.mkdir(parents=True)
    parameters = {"folder": str(log.parent)}
    one = lab.start(racing, {**parameters, "who": "one"})
    other = lab.start(racing, {**parameters, "who": "other"}, new_cluster=NEW_CLUSTER)
    ended = {who: lab.ended(run) for who, run in (("one", one), ("other", other))}
    assert not any(run.error for run in ended.values()), ended
    won = {who: json.loads(run.result) for who, run in ended.items()}
    told = {version: who for who, versions in won.items() for version in versions}
    assert sum(len(versions) for versions in won.values()) == 1000
    assert {int(file.stem): file.read_text().strip() for file in log.iterdir()} == told


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "0.0.0.0"}, "is not a loopback address; use 127.0.0.1"),
        ({"token": ""}, "token: must not be empty"),
        ({"jars": ["/nowhere"]}, "no delta-spark jar in ['/nowhere']"),
        ({"cluster": "x"}, "unknown key cluster"),
    ],
)
def test_a_config_that_cannot_be_is_told_in_one_line(
    lab: Lab, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    ended = start(lab, tmp_path, change)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_busy_port_is_told_in_one_line(lab: Lab, tmp_path: Path) -> None:
    port = int(lab.server.url.rpartition(":")[2])
    ended = start(lab, tmp_path, {"port": port})
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def start(lab: Lab, folder: Path, change: dict[str, object]) -> subprocess.CompletedProcess[str]:
    config = folder / "config.json"
    config.touch(mode=0o600)
    settings = json.loads((lab.home.parent / "databricks.json").read_text())
    config.write_text(json.dumps({**settings, "home": str(folder / "home"), **change}))
    command = [sys.executable, "-m", "local.databricks", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_unmodified_airflow_provider_drives_it(lab: Lab, tmp_path: Path) -> None:
    """In the other environment, and with the operators as a DAG uses them."""
    works = lab.notebook("provider_works", "dbutils.notebook.exit(dbutils.widgets.get('day'))")
    fails = lab.notebook("provider_fails", "raise LookupError('no such day')")
    endless = lab.notebook("provider_endless", "import time", "time.sleep(3600)")
    port = int(
        lab.server.url.rpartition(":")[2]
    )  # the provider takes https and 443 unless told apart from the host
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps({
            "conn_type": "databricks",
            "schema": "http",
            "host": "127.0.0.1",
            "port": port,
            "password": TOKEN,
        }),
    }
    python = ROOT / ".venv/airflow/bin/python"
    script = Path(__file__).with_name("provider_script.py")
    ended = subprocess.run(
        [str(python), str(script), works, fails, endless, WARM],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["notebook"] == "done"
    assert "LookupError: no such day" in said["notebook_failure"]
    assert said["run_now_output"] == "2026-01-01"
    assert said["deferred"]["result_state"] == "FAILED"
    assert "LookupError: no such day" in said["deferred_error"]
    assert said["killed"] == "CANCELED"
    assert "Invalid access token" in said["wrong_token"]


def test_the_stream_jobs_operators_start_and_stop_it(
    lab: Lab, aws_part: Part, key: Credentials, s3: Any, tmp_path: Path
) -> None:
    """In Airflow's environment, with the operators as the DAG has them."""
    exists = """
        def exists(path):
            try:
                return bool(dbutils.fs.ls(path))
            except Exception:
                return False
        """
    poll = "import time\nwhile not exists(dbutils.widgets.get('stop_path')):\n    time.sleep(0.05)"
    stops = lab.notebook("stream_stops", exists, poll)
    stubborn = lab.notebook("stream_stubborn", "import time", "time.sleep(3600)")
    undying = lab.notebook(
        "stream_undying",
        exists,
        """
        import time

        done = False
        while not done:
            try:
                dbutils.fs.put("s3://stop-bucket/lingers", "", True)
                while not (done := exists("s3://stop-bucket/release")):
                    time.sleep(0.05)
            except BaseException:
                pass
        """,
    )
    s3.create_bucket(Bucket="stop-bucket")
    port = int(lab.server.url.rpartition(":")[2])
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps({
            "conn_type": "databricks",
            "schema": "http",
            "host": "127.0.0.1",
            "port": port,
            "password": TOKEN,
        }),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({
            "conn_type": "aws",
            "login": key.access_key,
            "password": key.secret_key,
            "extra": {"endpoint_url": aws_part.url, "region_name": "us-east-1"},
        }),
    }
    ended = subprocess.run(
        [
            str(ROOT / ".venv/airflow/bin/python"),
            str(Path(__file__).with_name("stop_script.py")),
            *(stops, stubborn, undying, WARM, "stop-bucket"),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["asked"] is True
    assert (said["stopped"]["life_cycle_state"], said["stopped"]["result_state"]) == ("TERMINATED", "SUCCESS")
    assert (said["cancelled"]["life_cycle_state"], said["cancelled"]["result_state"]) == (
        "TERMINATED",
        "CANCELED",
    )
    assert (said["over"], said["next"]) == ("TERMINATED", [True, True])
    assert said["not_asked"] == []
    assert said["cold"]["result_state"] == "CANCELED"
    assert (said["ending"], said["refused"], said["ended"]) == ("TERMINATING", [True, True], "TERMINATED")
    assert (said["started"], said["left"]) == ([True, True], [])
    assert (said["adopted"], said["kept"], said["timed_out"]) == ([False, True, True, False], 0, "TIMEDOUT")
    assert said["found_again"] == [True, True]
