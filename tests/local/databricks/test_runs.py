"""Notebooks run through the Jobs API, on real drivers."""

import base64
import json
import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, PermissionDenied, ResourceDoesNotExist
from databricks.sdk.service import jobs

from tests.local.databricks.conftest import NEW_CLUSTER, TOKEN, WARM, Lab


def test_a_notebook_takes_parameters_prints_and_gives_back_a_value(lab: Lab) -> None:
    path = lab.notebook(
        "greeting",
        """
        dbutils.widgets.text("name", "nobody")
        dbutils.widgets.text("greeting", "hello")
        print(dbutils.widgets.get("greeting"), dbutils.widgets.get("name"))
        """,
        "display(spark.range(3).selectExpr('id * 2 AS twice'))",
        "dbutils.notebook.exit(spark.range(10).count())",
        "print('never')",
    )
    ended = lab.run(path, {"name": "world"})
    assert (ended.state, ended.result) == ("SUCCESS", "10")
    assert ended.run.status.termination_details.code == jobs.TerminationCodeCode.SUCCESS
    assert ended.printed.splitlines() == [
        "hello world",
        "+-----+",
        "|twice|",
        "+-----+",
        "|    0|",
        "|    2|",
        "|    4|",
        "+-----+",
    ]


def test_a_failure_is_told_with_the_notebooks_own_lines(lab: Lab) -> None:
    lab.upload("/Shared/test/helper_lib/arithmetic.py", "def divide(a, b):\n    return a / b\n")
    path = lab.notebook(
        "failing",
        "from helper_lib.arithmetic import divide",
        """
        def ratio(n):
            return divide(n, 0)

        ratio(7)
        """,
    )
    ended = lab.run(path)
    assert ended.state == "FAILED"
    assert ended.run.tasks[0].state.state_message == "Workload failed, see run output for details"
    assert ended.error == "ZeroDivisionError: division by zero"
    frames = [line.strip() for line in ended.trace.splitlines() if line.strip().startswith("File")]
    assert frames == [
        'File "/Shared/test/failing, cell 2", line 4, in <module>',
        'File "/Shared/test/failing, cell 2", line 2, in ratio',
        'File "/Workspace/Shared/test/helper_lib/arithmetic.py", line 2, in divide',
    ]
    assert "    return divide(n, 0)" in ended.trace


def test_a_failing_query_is_told_without_the_stack_of_the_jvm(lab: Lab) -> None:
    ended = lab.run(lab.notebook("bad_sql", "spark.sql('SELECT nothing FROM range(1)').show()"))
    assert ended.state == "FAILED"
    assert ended.error.startswith("pyspark.errors.exceptions.captured.AnalysisException: [UNRESOLVED_COLUMN")
    assert "\tat org.apache" not in ended.error


def test_ansi_is_on_and_time_is_utc_as_on_the_runtime(lab: Lab) -> None:
    overflow = lab.run(lab.notebook("ansi", "spark.sql(\"SELECT CAST('x' AS INT)\").collect()"))
    assert "CAST_INVALID_INPUT" in overflow.error
    zone = lab.run(
        lab.notebook("zone", "dbutils.notebook.exit(spark.conf.get('spark.sql.session.timeZone'))")
    )
    assert zone.result == "UTC"


def test_a_notebook_that_is_not_there(lab: Lab) -> None:
    ended = lab.run("/Shared/test/nothing")
    assert ended.run.state.life_cycle_state == jobs.RunLifeCycleState.INTERNAL_ERROR
    assert "Unable to access the notebook '/Shared/test/nothing'" in ended.error


def test_runs_share_the_warm_driver_side_by_side(lab: Lab) -> None:
    """Each waits for a file that the other writes: in turn they would never end."""
    path = lab.notebook(
        "meeting",
        """
        import os, time
        mine, other = dbutils.widgets.get("mine"), dbutils.widgets.get("other")
        spark.sql(f"CREATE TEMPORARY VIEW here AS SELECT '{mine}' AS me")
        dbutils.fs.put(f"/tmp/meeting/{mine}", "here", True)
        while True:
            if other in [file.name for file in dbutils.fs.ls("/tmp/meeting")]:
                break
            time.sleep(0.05)
        print(f"I am {mine}")
        dbutils.notebook.exit(f"{os.getpid()} {spark.table('here').first().me}")
        """,
    )
    names = {"a": "b", "b": "a"}
    runs = {
        mine: lab.start(path, {"mine": mine, "other": other}, timeout_seconds=300)
        for mine, other in names.items()
    }
    ended = {mine: lab.ended(run_id) for mine, run_id in runs.items()}
    pids = {run.result.split()[0] for run in ended.values()}
    assert {mine: run.result.split()[1] for mine, run in ended.items()} == {"a": "a", "b": "b"}
    assert len(pids) == 1
    assert all(f"I am {mine}\n" in run.printed for mine, run in ended.items())
    assert "I am b" not in ended["a"].printed


def test_run_includes_a_notebook_and_sql_cells_see_widgets(lab: Lab) -> None:
    lab.notebook(
        "shared/settings",
        "factor = int(dbutils.widgets.get('factor'))",
        "def scaled(n):\n    return n * factor",
    )
    path = lab.notebook(
        "including",
        "# MAGIC %md\n# MAGIC # A title",
        '# MAGIC %run ./shared/settings $factor="4"',
        "# MAGIC %sql\n# MAGIC CREATE OR REPLACE TEMPORARY VIEW numbers AS SELECT 5 AS n; -- a view; with a comment\n"
        "# MAGIC SELECT n, ';' AS mark FROM numbers WHERE n > :factor",
        "# MAGIC %pip install something",
        "dbutils.notebook.exit(scaled(_sqldf.first().n))",
    )
    ended = lab.run(path)
    assert (ended.error, ended.result) == ("", "20")
    assert "|  5|   ;|" in ended.printed
    assert "%pip install something: left out" in ended.printed


def test_a_notebook_runs_another_and_its_failure_is_its_own(lab: Lab) -> None:
    lab.notebook("child", "value = int(dbutils.widgets.get('n'))", "dbutils.notebook.exit(10 // value)")
    path = lab.notebook(
        "parent",
        "n = dbutils.widgets.get('n')",
        "dbutils.notebook.exit('child said ' + dbutils.notebook.run('./child', 60, {'n': n}))",
    )
    assert lab.run(path, {"n": "3"}).result == "child said 3"
    failed = lab.run(path, {"n": "0"})
    assert failed.error == "ZeroDivisionError: integer division or modulo by zero"


def test_secrets_are_read_and_never_shown(lab: Lab) -> None:
    lab.client.secrets.create_scope("aws")
    lab.client.secrets.put_secret("aws", "password", string_value="correct-horse-battery")
    path = lab.notebook(
        "secret",
        """
        password = dbutils.secrets.get("aws", "password")
        print("it is", password, len(password))
        print(dbutils.secrets.list("aws"))
        assert dbutils.widgets.get("how") == "well", f"wrong with {password}"
        dbutils.notebook.exit(f"{password}!")
        """,
    )
    ended = lab.run(path, {"how": "well"})
    assert ended.result == "[REDACTED]!"
    assert ended.printed.startswith("it is [REDACTED] 21\n[SecretMetadata(key='password')]")
    failed = lab.run(path, {"how": "badly"})
    assert failed.error == "AssertionError: wrong with [REDACTED]"
    assert "correct-horse-battery" not in failed.trace + failed.printed + "".join(lab.server.log)
    missing = lab.run(lab.notebook("no_secret", "dbutils.secrets.get('aws', 'nothing')"))
    assert "Secret does not exist with scope: aws and key: nothing" in missing.error


def test_a_changed_module_is_loaded_by_the_next_run(lab: Lab) -> None:
    lab.upload("/Shared/test/changing/__init__.py", "")
    lab.upload("/Shared/test/changing/value.py", "VALUE = 'old'")
    path = lab.notebook("imports", "from changing.value import VALUE", "dbutils.notebook.exit(VALUE)")
    assert lab.run(path).result == "old"
    lab.upload("/Shared/test/changing/value.py", "VALUE = 'new'")
    assert lab.run(path).result == "new"


def test_a_changed_module_is_loaded_while_another_run_keeps_the_old_one(lab: Lab) -> None:
    lab.upload("/Shared/test/versions.py", "VERSION = 1")
    waiting = lab.notebook(
        "waiting",
        """
        import time
        import versions
        dbutils.fs.put("/tmp/waiting", "imported", True)
        while not [file for file in dbutils.fs.ls("/tmp") if file.name == "go-on"]:
            time.sleep(0.05)
        dbutils.notebook.exit(versions.VERSION)
        """,
    )
    first = lab.start(waiting, timeout_seconds=300)
    lab.wait((lab.home / "dbfs/tmp/waiting").exists, "the first run to import")
    lab.upload("/Shared/test/versions.py", "VERSION = 2")
    path = lab.notebook("version", "import versions", "dbutils.notebook.exit(versions.VERSION)")
    assert lab.run(path).result == "2"
    lab.run(lab.notebook("go_on", "dbutils.fs.put('/tmp/go-on', '')"))
    assert lab.ended(first).result == "1"


def test_a_new_cluster_is_a_process_of_its_own_that_sees_the_same_tables(lab: Lab) -> None:
    lab.run(
        lab.notebook(
            "create",
            "spark.sql('CREATE SCHEMA IF NOT EXISTS shared')",
            "spark.range(4).write.saveAsTable('shared.four')",
        )
    )
    path = lab.notebook(
        "own",
        "import os",
        "spark.sql('CREATE TABLE shared.five AS SELECT * FROM range(5)')",
        "dbutils.notebook.exit(f\"{os.getpid()} {spark.table('shared.four').count()}\")",
    )
    own = lab.run(path, new_cluster=NEW_CLUSTER)
    assert own.error == ""
    pid, count = own.result.split()
    warm = lab.run(
        lab.notebook(
            "who",
            "import os",
            "dbutils.notebook.exit(f\"{os.getpid()} {spark.table('shared.five').count()}\")",
        )
    )
    assert count == "4"
    assert warm.result.split()[1] == "5"
    assert warm.result.split()[0] != pid
    assert not Path(f"/proc/{pid}").exists()
    dropped = lab.run(lab.notebook("drop", "spark.sql('DROP TABLE shared.five')"))
    assert dropped.state == "SUCCESS"
    assert not (lab.warehouse / "shared.db" / "five").exists()


def test_a_timeout_ends_a_run(lab: Lab) -> None:
    ended = lab.run(lab.notebook("slow", "import time", "time.sleep(3600)"), timeout_seconds=1)
    assert ended.state == "TIMEDOUT"


BUSY = "n = 0\nprint('busy', flush=True)\nwhile True:\n    n += 1"
SLEEPING = "import time\nprint('busy', flush=True)\ntime.sleep(3600)"
STUBBORN = "print('busy')\nwhile True:\n    try:\n        n = sum(range(100000))\n    except Exception:\n        pass"
QUERY = "print('busy')\nspark.range(10**12).selectExpr('sum(sqrt(id))').collect()"
STREAM = """
def seen(frame, batch):
    frame.count()
    print('busy', batch)
query = spark.readStream.format("rate").load().writeStream.foreachBatch(seen).start()
query.awaitTermination()
"""


@pytest.mark.parametrize(
    "source", [BUSY, SLEEPING, STUBBORN, QUERY, STREAM], ids=["busy", "sleep", "stubborn", "query", "stream"]
)
def test_a_run_can_be_cancelled(lab: Lab, source: str) -> None:
    run_id = lab.start(lab.notebook("endless", source))
    lab.wait(lambda: "busy" in lab.printed_by(run_id), "the notebook to be busy")
    assert lab.life_cycle(run_id) == "RUNNING"
    lab.client.jobs.cancel_run(run_id)
    ended = lab.ended(run_id)
    assert (ended.state, ended.run.tasks[0].state.result_state) == ("CANCELED", jobs.RunResultState.CANCELED)
    assert ended.run.state.user_cancelled_or_timedout
    # Spark tells its listeners, the status tracker among them, a moment after a job has ended
    waits = "import time\nwhile sc.statusTracker().getActiveJobsIds():\n    time.sleep(0.05)"
    assert lab.run(lab.notebook("idle", waits), timeout_seconds=300).state == "SUCCESS"


def test_a_run_is_not_over_while_its_stream_is(lab: Lab) -> None:
    """And a stream that fails, fails the run."""
    path = lab.notebook(
        "background",
        """
        def seen(frame, batch):
            if batch == 2:
                raise RuntimeError("the third batch")
        stream = spark.readStream.format("rate").load().writeStream.foreachBatch(seen).start()
        dbutils.notebook.exit("started")
        """,
    )
    ended = lab.run(path)
    assert ended.state == "FAILED"
    assert "RuntimeError: the third batch" in ended.trace


def test_cancel_of_a_driver_of_its_own_that_only_just_starts(lab: Lab) -> None:
    run_id = lab.start(lab.notebook("early", "pass"), new_cluster=NEW_CLUSTER)
    lab.client.jobs.cancel_run(run_id)
    assert lab.ended(run_id).state == "CANCELED"


def test_tasks_depend_on_each_other_and_hand_values_on(lab: Lab) -> None:
    give = lab.notebook("give", "dbutils.jobs.taskValues.set('rows', 7)")
    take = lab.notebook("take", "dbutils.notebook.exit(dbutils.jobs.taskValues.get('first', 'rows'))")
    fail = lab.notebook("fail", "raise KeyError('no')")
    job = lab.client.jobs.create(
        name="A job",
        tasks=[
            _task("first", give),
            _task("second", take, "first"),
            _task("broken", fail, "first"),
            _task("after", take, "broken"),
        ],
    )
    run = lab.client.jobs.run_now(job.job_id)
    lab.wait(lambda: lab.life_cycle(run.run_id) in ("TERMINATED", "INTERNAL_ERROR"), "the job's run to end")
    tasks = {task.task_key: task for task in lab.client.jobs.get_run(run.run_id).tasks}
    results = {key: task.state.result_state.value for key, task in tasks.items()}
    assert results == {
        "first": "SUCCESS",
        "second": "SUCCESS",
        "broken": "FAILED",
        "after": "UPSTREAM_FAILED",
    }
    assert lab.client.jobs.get_run_output(tasks["second"].run_id).notebook_output.result == "7"

    lab.notebook("fail", "print('mended')")
    lab.client.jobs.repair_run(run.run_id, rerun_all_failed_tasks=True)
    lab.wait(lambda: lab.life_cycle(run.run_id) in ("TERMINATED", "INTERNAL_ERROR"), "the repair to end")
    repaired = lab.client.jobs.get_run(run.run_id, include_history=True)
    assert repaired.state.result_state == jobs.RunResultState.SUCCESS
    assert [item.type.value for item in repaired.repair_history] == ["ORIGINAL", "REPAIR"]


def _task(key: str, path: str, *after: str) -> jobs.Task:
    return jobs.Task(
        task_key=key,
        existing_cluster_id=WARM,
        notebook_task=jobs.NotebookTask(notebook_path=path),
        depends_on=[jobs.TaskDependency(task_key=other) for other in after],
    )


def test_a_job_runs_no_more_often_than_it_may(lab: Lab) -> None:
    path = lab.notebook("long", SLEEPING)
    job = lab.client.jobs.create(name="One at a time", tasks=[_task("main", path)])
    first = lab.client.jobs.run_now(job.job_id).run_id
    second = lab.client.jobs.run_now(job.job_id).run_id
    skipped = lab.client.jobs.get_run(second).state
    assert skipped.life_cycle_state == jobs.RunLifeCycleState.SKIPPED
    assert [run.run_id for run in lab.client.jobs.list_runs(job_id=job.job_id, active_only=True)] == [first]
    lab.client.jobs.cancel_all_runs(job_id=job.job_id)
    assert lab.ended(first).state == "CANCELED"
    lab.client.jobs.delete_run(first)
    with pytest.raises(ResourceDoesNotExist, match=f"Run {first} does not exist"):
        lab.client.jobs.get_run(first)


def test_a_task_of_a_job_that_fails_is_tried_again(lab: Lab) -> None:
    path = lab.notebook(
        "third_time",
        """
        attempts = spark.catalog.tableExists("attempts") and spark.table("attempts").count() or 0
        spark.range(1).write.mode("append").saveAsTable("attempts")
        if attempts < 2:
            raise ValueError(f"attempt {attempts} fails")
        dbutils.notebook.exit(f"attempt {attempts}")
        """,
    )
    task = jobs.Task.from_dict({
        **_task("main", path).as_dict(),
        "max_retries": 2,
        "min_retry_interval_millis": 1,
    })
    job = lab.client.jobs.create(name="Three times", tasks=[task])
    run_id = lab.client.jobs.run_now(job.job_id).run_id
    ended = lab.ended(run_id)
    assert (ended.state, ended.result) == ("SUCCESS", "attempt 2")
    [last] = ended.run.tasks
    assert last.attempt_number == 2
    attempts = [last.run_id - 2, last.run_id - 1]  # each has a run id, and an output, of its own
    errors = [lab.client.jobs.get_run_output(attempt).error for attempt in attempts]
    assert errors == ["ValueError: attempt 0 fails", "ValueError: attempt 1 fails"]
    submitted = lab.run(lab.notebook("fails", "raise ValueError('once')"))
    assert submitted.state == "FAILED", "a task of runs/submit is not tried again"


def test_a_task_without_an_end_of_retries_is_cancelled(lab: Lab) -> None:
    path = lab.notebook("fails", "raise ValueError('again')")
    task = jobs.Task.from_dict({
        **_task("main", path).as_dict(),
        "max_retries": -1,
        "min_retry_interval_millis": 60_000,
    })
    job = lab.client.jobs.create(name="Without end", tasks=[task])
    run_id = lab.client.jobs.run_now(job.job_id).run_id

    def waits() -> bool:
        state = lab.client.jobs.get_run(run_id).tasks[0].state
        return bool(state.life_cycle_state == jobs.RunLifeCycleState.WAITING_FOR_RETRY)

    lab.wait(waits, "the next attempt")
    assert lab.life_cycle(run_id) == "RUNNING"
    lab.client.jobs.cancel_run(run_id)
    assert lab.ended(run_id).state == "CANCELED"


def test_a_jobs_time_limit_is_applied_to_the_run_that_is_active(lab: Lab) -> None:
    path = lab.notebook("long", SLEEPING)
    settings = jobs.JobSettings(name="Limited", tasks=[_task("main", path)], timeout_seconds=3600)
    job = lab.client.jobs.create(name="Limited", tasks=[_task("main", path)])
    run_id = lab.client.jobs.run_now(job.job_id).run_id
    lab.wait(lambda: "busy" in lab.printed_by(run_id), "the notebook to be busy")
    lab.client.jobs.reset(job.job_id, settings)
    assert lab.client.jobs.get(job.job_id).settings.timeout_seconds == 3600
    assert lab.life_cycle(run_id) == "RUNNING"
    lab.client.jobs.update(job.job_id, new_settings=jobs.JobSettings(timeout_seconds=1))
    assert lab.ended(run_id).state == "TIMEDOUT", "it counts from the start of the run"


def test_jobs_are_found_by_name_changed_and_paged(lab: Lab) -> None:
    path = lab.notebook("any", "pass")
    made = [lab.client.jobs.create(name=f"Paged {n}", tasks=[_task("main", path)]).job_id for n in range(3)]
    assert {job.job_id for job in lab.client.jobs.list(limit=2)} >= set(made)
    assert [job.job_id for job in lab.client.jobs.list(name="paged 1")] == [made[1]]
    settings = lab.client.jobs.get(made[1]).settings
    assert settings.tasks[0].notebook_task.notebook_path == path
    lab.client.jobs.update(made[1], new_settings=jobs.JobSettings(name="Renamed"))
    assert lab.client.jobs.get(made[1]).settings.tasks[0].task_key == "main"
    lab.client.jobs.reset(made[1], jobs.JobSettings(name="Reset", tasks=[_task("other", path)]))
    assert lab.client.jobs.get(made[1]).settings.tasks[0].task_key == "other"
    lab.client.jobs.delete(made[1])
    with pytest.raises(ResourceDoesNotExist, match=f"Job {made[1]} does not exist"):
        lab.client.jobs.get(made[1])


def test_an_idempotency_token_starts_one_run(lab: Lab) -> None:
    task = jobs.SubmitTask(
        task_key="main",
        existing_cluster_id=WARM,
        notebook_task=jobs.NotebookTask(notebook_path=lab.notebook("once", "pass")),
    )
    first, second = (
        lab.client.jobs.submit(tasks=[task], idempotency_token="the same").run_id for _ in range(2)
    )
    assert first == second
    assert lab.ended(first).state == "SUCCESS"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "At least one task|notebook_task"),
        ({"notebook_task": {"notebook_path": "relative"}}, "absolute workspace path"),
        (
            {"notebook_task": {"notebook_path": "/x"}, "existing_cluster_id": "other"},
            "Cluster other does not exist",
        ),
        ({"spark_python_task": {"python_file": "/x.py"}}, "only notebook_task"),
        ({"tasks": [{"task_key": "a"}, {"task_key": "a"}]}, "task_key of its own"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(lab: Lab, body: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterValue, match=message):
        lab.client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)


def test_every_door_is_locked(lab: Lab) -> None:
    wrong = WorkspaceClient(host=lab.server.url, token="dapi-wrong")
    with pytest.raises(PermissionDenied, match="Invalid access token"):
        list(wrong.jobs.list())
    for path in ("/api/2.2/jobs/list", "/api/2.0/secrets/list?scope=aws", "/", "/jobs/1/runs/1", "/docs"):
        assert _status(lab, path) == 401, path
    # a browser sends a password it knows to any page that asks: only pages take it, never the API
    assert _status(lab, "/api/2.2/jobs/list", f"token:{TOKEN}") == 401
    assert _status(lab, "/jobs/1/runs/1", "token:wrong") == 401


def _status(lab: Lab, path: str, login: str | None = None) -> int:
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(lab.server.url + path, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_of_a_run_shows_what_it_printed_as_text(lab: Lab) -> None:
    ended = lab.run(
        lab.notebook("page", "print('<script>alert(1)</script>')", "dbutils.notebook.exit('done & dusted')")
    )
    login = base64.b64encode(f"token:{TOKEN}".encode()).decode()
    request = urllib.request.Request(ended.run.run_page_url, headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(request) as answer:
        page = answer.read().decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "done &amp; dusted" in page
    assert "<script>" not in page
    with urllib.request.urlopen(
        urllib.request.Request(f"{lab.server.url}/", headers={"Authorization": f"Basic {login}"})
    ) as answer:
        path = urllib.parse.urlsplit(ended.run.run_page_url).path
        assert f"<a href='{path}'>" in answer.read().decode()


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (
            "os.getpid()",
            "The Spark driver died (killed by SIGKILL) while this run was on it. See the workspace's log.",
        ),
        (
            "sc._gateway.proc.pid",
            "Spark's JVM ended (status -9) while this run was on it. See the workspace's log.",
        ),
    ],
    ids=["python", "jvm"],
)
def test_a_driver_that_is_killed_fails_its_runs_and_the_next_run_works(
    lab: Lab, process: str, message: str
) -> None:
    lab.run(lab.notebook("keep", "spark.range(3).write.mode('overwrite').saveAsTable('kept')"))
    path = lab.notebook("victim", f"import os\nprint('pid', {process}, flush=True)", SLEEPING)
    run_id = lab.start(path)
    printed = lab.wait(lambda: "busy" in lab.printed_by(run_id) and lab.printed_by(run_id), "the pid")
    os.kill(int(printed.split()[1]), signal.SIGKILL)
    failed = lab.ended(run_id)
    assert (failed.state, failed.error) == ("FAILED", message)
    assert lab.client.clusters.get(WARM).state.value == "PENDING"
    again = lab.run(lab.notebook("again", "dbutils.notebook.exit(spark.table('kept').count())"))
    assert again.result == "3"
    assert lab.client.clusters.get(WARM).state.value == "RUNNING"


def test_a_notebook_that_stops_spark_costs_the_others_nothing_but_a_new_driver(lab: Lab) -> None:
    stopped = lab.run(lab.notebook("stops", "spark.stop()"))
    assert stopped.state == "SUCCESS"
    lab.wait(lambda: lab.client.clusters.get(WARM).state.value == "PENDING", "the driver to end")
    assert lab.run(lab.notebook("after", "dbutils.notebook.exit(spark.range(2).count())")).result == "2"


def test_the_workspace_keeps_what_it_is_given(lab: Lab) -> None:
    path = lab.notebook("kept", "print(1)")
    lab.upload("/Shared/test/kept_files/data.json", json.dumps({"a": 1}))
    listed = {
        entry.path: entry.object_type.value
        for entry in lab.client.workspace.list("/Shared/test", recursive=True)
    }
    assert listed[path] == "NOTEBOOK"
    assert listed["/Shared/test/kept_files/data.json"] == "FILE"
    assert lab.client.workspace.get_status(f"/Workspace{path}").language.value == "PYTHON"
    with lab.client.workspace.download(path) as content:
        assert content.read().decode() == "# Databricks notebook source\nprint(1)\n"
    with pytest.raises(BadRequest, match="is not empty"):
        lab.client.workspace.delete("/Shared/test/kept_files")
    lab.client.workspace.delete("/Shared/test/kept_files", recursive=True)
    with pytest.raises(ResourceDoesNotExist, match="doesn't exist"):
        lab.client.workspace.get_status("/Shared/test/kept_files")


def test_optimize_joins_small_files_and_leaves_those_of_some_megabytes(lab: Lab) -> None:
    """A MERGE rewrites the files that it finds rows in; one file for all would be the whole table."""
    path = lab.notebook(
        "optimize",
        "for rows in (200_000, 200_000, 1_000, 1_000, 1_000):\n"
        "    frame = spark.range(rows).selectExpr('id', 'uuid() AS words').coalesce(1)\n"
        "    frame.write.mode('append').saveAsTable('optimized')\n"
        "spark.sql('OPTIMIZE optimized')",
        "detail = spark.sql('DESCRIBE DETAIL optimized').collect()[0]\n"
        "dbutils.notebook.exit(f\"{detail['numFiles']} {detail['sizeInBytes'] > 4 * 2**20}\")",
    )
    ended = lab.run(path)
    assert (ended.error, ended.result) == ("", "3 True")
