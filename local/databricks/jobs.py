"""Jobs and runs: what the Jobs API promises, whatever drivers do.

A run is one document with its tasks inside. While it is active, one coroutine leads it and one leads each task;
every change is written to the store at once, so that a reader and the next server see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local.databricks import fields, states
from local.databricks.clusters import Clusters, DriverError, Request
from local.databricks.compute import check_cluster
from local.databricks.errors import ApiError
from local.databricks.states import State, state
from local.databricks.store import Document, Store
from local.databricks.workspace import Workspace, normalise

log = logging.getLogger(__name__)

USER = "local"
_FAILED = "Workload failed, see run output for details"
_AUTOMATIC_RETRIES = 1
"""Databricks tells nobody how often serverless compute tries a failed task again."""
_STOPPED = "The workspace was stopped while this run was active."


class Jobs:
    """Job definitions."""

    def __init__(self, store: Store, cluster_id: str) -> None:
        self._store = store
        self._cluster_id = cluster_id

    def create(self, settings: Mapping[str, Any]) -> int:
        checked = self._checked(settings)
        job_id = self._store.next_number()
        self._store.save_job({
            "job_id": job_id,
            "creator_user_name": USER,
            "created_time": now(),
            "settings": checked,
        })
        return job_id

    def get(self, job_id: int) -> Document:
        job = self._store.job(job_id)
        if job is None:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Job {job_id} does not exist.")
        return job

    def reset(self, job_id: int, settings: Mapping[str, Any]) -> None:
        self._store.save_job(self.get(job_id) | {"settings": self._checked(settings)})

    def update(self, job_id: int, changed: Mapping[str, Any], removed: list[str]) -> None:
        job = self.get(job_id)
        kept = {key: value for key, value in job["settings"].items() if key not in removed}
        self._store.save_job(job | {"settings": self._checked({**kept, **changed})})

    def delete(self, job_id: int) -> None:
        self.get(job_id)
        self._store.delete_job(job_id)

    def list(self, name: str | None) -> list[Document]:
        """Jobs newest first; ``name`` is compared whole and without regard to case."""
        jobs = self._store.jobs()
        return [job for job in jobs if not name or job["settings"]["name"].lower() == name.lower()]

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        _check_settings(settings, "")
        settings = _given(settings)
        checked = {"name": "Untitled", "max_concurrent_runs": 1, "format": "MULTI_TASK", **settings}
        checked["tasks"] = checked_tasks(settings, "main", self._cluster_id)
        for legacy in ("notebook_task", "existing_cluster_id", "new_cluster"):
            checked.pop(legacy, None)
        return checked


class Runs:
    """Runs, from the request to the last state. All methods are for the server's event loop."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        clusters: Clusters,
        workspace: Workspace,
        *,
        home: Path,
        url: str,
        cluster_id: str,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._clusters = clusters
        self._workspace = workspace
        self._logs = home / "runs"
        self._logs.mkdir(exist_ok=True)
        self._url = url
        self._cluster_id = cluster_id
        self._active: dict[int, Document] = {}
        self._leading: dict[int, asyncio.Task[None]] = {}
        self._working: dict[int, asyncio.Task[State]] = {}
        self._limits: dict[int, asyncio.Timeout] = {}
        self._closing = False
        for run in store.runs(active=True):
            self._end_interrupted(run)

    async def close(self) -> None:
        """Ends all active runs as interrupted."""
        self._closing = True
        for leader in self._leading.values():
            leader.cancel()
        if self._leading:
            await asyncio.wait(self._leading.values())

    # -- starting

    def submit(self, body: Mapping[str, Any]) -> int:
        """``runs/submit``: a run without a job."""
        _check_settings(body, "")
        body = _given(body)
        name = str(body.get("run_name") or "Untitled")
        return self._start(
            body,
            run_type="SUBMIT_RUN",
            name=name,
            settings=body,
            tasks=checked_tasks(body, name, self._cluster_id),
        )

    def run_now(self, job_id: int, body: Mapping[str, Any]) -> int:
        """``run-now``: a run of a job; SKIPPED when the job runs as often as it may."""
        _check_start(body, "")
        settings = self._jobs.get(job_id)["settings"]
        running = sum(1 for run in self._active.values() if run["job_id"] == job_id)
        full = running >= int(settings.get("max_concurrent_runs", 1))
        return self._start(
            body,
            run_type="JOB_RUN",
            name=settings["name"],
            settings=settings,
            tasks=settings["tasks"],
            job_id=job_id,
            skipped=full,
        )

    def _start(
        self,
        body: Mapping[str, Any],
        *,
        run_type: str,
        name: str,
        settings: Mapping[str, Any],
        tasks: list[dict[str, Any]],
        job_id: int | None = None,
        skipped: bool = False,
    ) -> int:
        token = body.get("idempotency_token")
        if token and (known := self._store.run_of_token(token)) is not None:
            return known
        run_id = self._store.next_number()
        earlier = len(self._store.runs(job_id=job_id)) if job_id else 0
        run: Document = {
            "run_id": run_id,
            "job_id": job_id or self._store.next_number(),
            "run_name": name,
            "run_type": run_type,
            "format": "MULTI_TASK",
            "number_in_job": earlier + 1,
            "original_attempt_run_id": run_id,
            "creator_user_name": USER,
            "trigger": "ONE_TIME",
            "start_time": now(),
            "job_parameters": _job_parameters(settings, body),
            "overriding_parameters": {"notebook_params": body["notebook_params"]}
            if body.get("notebook_params")
            else {},
            "timeout_seconds": int(settings.get("timeout_seconds") or 0),
            "job_clusters": settings.get("job_clusters") or [],
            "idempotency_token": token,
            "repair_history": [],
            "tasks": [self._new_task(task) for task in tasks],
        }
        if skipped:
            message = (
                f"The job runs {settings.get('max_concurrent_runs', 1)} time(s) already, as often as it may."
            )
            _enter(run, state("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED", message))
            for task in run["tasks"]:
                _enter(task, run["state"])
            self._store.save_run(run, active=False)
            return run_id
        self._lead(run)
        return run_id

    def _new_task(self, task: Mapping[str, Any]) -> Document:
        made = {**task, "run_id": self._store.next_number(), "attempt_number": 0, "start_time": now()}
        _enter(made, state("BLOCKED" if task.get("depends_on") else "PENDING"))
        return made

    def repair(self, run_id: int, body: Mapping[str, Any]) -> int:
        """``runs/repair``: runs failed or named tasks of a finished run again, in the same run."""
        _check_start(body, "")
        run = self._find(run_id)
        if run_id in self._active:
            raise ApiError(
                "INVALID_PARAMETER_VALUE", f"Run {run_id} is active; only a finished run can be repaired."
            )
        named = set(body.get("rerun_tasks") or [])
        again = {
            task["task_key"]
            for task in run["tasks"]
            if task["task_key"] in named or (not named and task["state"].get("result_state") != "SUCCESS")
        }
        if not again:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Run {run_id} has no task to run again.")
        run["tasks"] = [
            self._new_task(_bare(task)) if task["task_key"] in again else task for task in run["tasks"]
        ]
        run["job_parameters"] = {**run["job_parameters"], **(body.get("job_parameters") or {})}
        run.pop("end_time", None)
        repair_id = self._store.next_number()
        run["repair_history"].append({"type": "REPAIR", "id": repair_id, "start_time": now()})
        self._lead(run)
        return repair_id

    # -- reading

    def get(self, run_id: int) -> Document:
        """A run, or one task run in the same form."""
        run = self._active.get(run_id) or self._store.run(run_id)
        if run is not None:
            return self._shown(run)
        return self._shown_task(*self._task(run_id))

    def output(self, run_id: int) -> Document:
        """``runs/get-output`` of a task run, or of a run with one task."""
        run = self._active.get(run_id) or self._store.run(run_id)
        if run is not None:
            if len(run["tasks"]) > 1:
                message = "Retrieving the output of runs with multiple tasks is not supported. Ask for each task's run."
                raise ApiError("INVALID_PARAMETER_VALUE", message)
            run_id = run["tasks"][0]["run_id"]
        run, task = self._task(run_id)
        return {"metadata": self._shown_task(run, task), **self._store.output(run_id)}

    def printed(self, task_run_id: int) -> str:
        """What a task has printed so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self._logs / f"{task_run_id}.log").read_text(encoding="utf-8", errors="replace")
        return ""

    def list(self, *, job_id: int | None, active: bool | None) -> list[Document]:
        """Runs, newest first."""
        found = self._store.runs(job_id=job_id, active=active)
        return [self._shown(run) for run in found]

    def _find(self, run_id: int) -> Document:
        run = self._active.get(run_id) or self._store.run(run_id)
        if run is None:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")
        return run

    def _task(self, task_run_id: int) -> tuple[Document, Document]:
        run = self._store.run_of_task(task_run_id)
        if run is None:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Run {task_run_id} does not exist.")
        run = self._active.get(run["run_id"], run)
        tasks = [*run["tasks"], *run.get("earlier_attempts", [])]
        return run, next(task for task in tasks if task["run_id"] == task_run_id)

    def _shown(self, run: Document) -> Document:
        page = f"{self._url}/jobs/{run['job_id']}/runs/{run['run_id']}"
        original = {
            "type": "ORIGINAL",
            "id": run["run_id"],
            "start_time": run["start_time"],
            "state": run["state"],
        }
        return {
            **{
                key: value
                for key, value in run.items()
                if key not in ("idempotency_token", "timeout_seconds", "earlier_attempts")
            },
            "job_parameters": [
                {"name": name, "value": value} for name, value in run["job_parameters"].items()
            ],
            "status": states.status(run["state"]),
            "run_page_url": page,
            "tasks": [
                {**task, "status": states.status(task["state"]), "run_page_url": page}
                for task in run["tasks"]
            ],
            "repair_history": [original, *run["repair_history"]],
        }

    def _shown_task(self, run: Document, task: Document) -> Document:
        shown = self._shown(run)
        own = {**task, "status": states.status(task["state"]), "run_page_url": shown["run_page_url"]}
        compute = {key: own[key] for key in ("existing_cluster_id", "new_cluster") if key in own}
        return {
            **shown,
            **own,
            "job_run_id": run["run_id"],
            "run_name": task["task_key"],
            "task": {"notebook_task": task["notebook_task"]},
            "cluster_spec": compute,
            "tasks": [own],
        }

    # -- ending

    def apply_time_limit(self, job_id: int) -> None:
        """Gives the active runs of a job its ``timeout_seconds``, which count from a run's start."""
        seconds = int(self._jobs.get(job_id)["settings"].get("timeout_seconds") or 0)
        clock = asyncio.get_running_loop().time()
        for run_id, limit in self._limits.items():
            run = self._active[run_id]
            if run["job_id"] == job_id and not limit.expired():
                run["timeout_seconds"] = seconds
                limit.reschedule(clock + seconds - (now() - run["start_time"]) / 1000 if seconds else None)

    def cancel(self, run_id: int) -> None:
        """Cancels a run or one task run; one that is over is left as it is. Returns at once."""
        run = self._active.get(run_id)
        if run is not None:
            tasks = run["tasks"]
        elif self._store.run(run_id):
            return
        else:
            run, task = self._task(run_id)
            tasks = [task]
        for task in tasks:
            if not states.is_over(task["state"]) and task["state"]["life_cycle_state"] != "TERMINATING":
                self._set(run, task, state("TERMINATING", None, "Run cancelled."))
                self._working[task["run_id"]].cancel()

    def cancel_all(self, job_id: int | None) -> None:
        """Cancels the active runs of a job, or all of them for None."""
        for run_id in [run_id for run_id, run in self._active.items() if job_id in (None, run["job_id"])]:
            self.cancel(run_id)

    def delete(self, run_id: int) -> None:
        run = self._find(run_id)
        if run_id in self._active:
            raise ApiError("INVALID_STATE", f"Run {run_id} is active: cancel it first.")
        for task in [*run["tasks"], *run.get("earlier_attempts", [])]:
            (self._logs / f"{task['run_id']}.log").unlink(missing_ok=True)
        self._store.delete_run(run)

    # -- leading a run

    def _lead(self, run: Document) -> None:
        _enter(run, state("PENDING"))
        self._active[run["run_id"]] = run
        self._store.save_run(run, active=True)
        results: dict[str, asyncio.Future[str]] = {}
        loop = asyncio.get_running_loop()
        for task in run["tasks"]:
            results[task["task_key"]] = loop.create_future()
        for task in run["tasks"]:
            result = task["state"].get("result_state")
            if result:  # kept from before a repair
                results[task["task_key"]].set_result(result)
            else:
                self._working[task["run_id"]] = asyncio.create_task(self._work(run, task, results))
        self._leading[run["run_id"]] = asyncio.create_task(self._follow(run))

    async def _follow(self, run: Document) -> None:
        """Waits for all tasks, and gives the run its state."""
        mine = [self._working[task["run_id"]] for task in run["tasks"] if task["run_id"] in self._working]
        try:
            async with asyncio.timeout(run["timeout_seconds"] or None) as limit:
                self._limits[run["run_id"]] = limit
                await asyncio.wait(mine)
        except TimeoutError:
            for task in mine:
                task.cancel("timeout")
        except asyncio.CancelledError:
            for task in mine:
                task.cancel("stopped")
        self._limits.pop(run["run_id"], None)
        if any(not task.done() for task in mine):
            await asyncio.wait(mine)
        for task in run["tasks"]:
            self._working.pop(task["run_id"], None)
        ended = states.of_run([(task["task_key"], task["state"]) for task in run["tasks"]])
        if self._closing:
            ended = state("INTERNAL_ERROR", "FAILED", _STOPPED)
        self._end(run, ended)
        del self._active[run["run_id"]], self._leading[run["run_id"]]
        self._store.save_run(run, active=False)

    async def _work(self, run: Document, task: Document, results: Mapping[str, asyncio.Future[str]]) -> State:
        """Leads one task from its first state to its last, which it returns; it never raises."""
        try:
            upstream = [
                await asyncio.shield(results[needed["task_key"]]) for needed in task.get("depends_on", [])
            ]
            blocked = states.blocked_by(task.get("run_if", "ALL_SUCCESS"), upstream)
            if blocked:
                ended = state(
                    "SKIPPED" if blocked == "EXCLUDED" else "TERMINATED",
                    blocked,
                    "Upstream tasks did not succeed.",
                )
            else:
                ended = await self._attempts(run, task)
        except asyncio.CancelledError as cancelled:
            ended = self._interrupted(cancelled, run["timeout_seconds"])
        self._end(task, ended)
        self._store.save_run(run, active=True)
        results[task["task_key"]].set_result(ended["result_state"])
        return ended

    async def _attempts(self, run: Document, task: Document) -> State:
        """Runs a task until it succeeds, or as often as ``max_retries`` allows: -1 sets no limit."""
        while True:
            ended = await self._attempt(run, task)
            if not _is_retried(run, task, ended):
                return ended
            self._end(task, ended)
            run.setdefault("earlier_attempts", []).append(dict(task))
            self._set(run, task, state("WAITING_FOR_RETRY", None, ended["state_message"]), anew=True)
            # from the start of the attempt that has failed to the start of the next
            again_at = task["start_time"] + int(task.get("min_retry_interval_millis") or 0)
            await asyncio.sleep(max(0, again_at - now()) / 1000)
            self._renew(run, task)

    async def _attempt(self, run: Document, task: Document) -> State:
        try:
            return await self._execute(run, task)
        except (DriverError, ApiError) as error:
            self._store.save_output(task["run_id"], {"error": str(error)})
            return state("INTERNAL_ERROR", "FAILED", str(error))
        except Exception:
            log.exception("task run %s", task["run_id"])
            return state("INTERNAL_ERROR", "FAILED", "The workspace failed; its log has the reason.")

    def _renew(self, run: Document, task: Document) -> None:
        """Makes a task that has failed a new attempt, with a run id and an output of its own."""
        made = self._new_task(_bare(task)) | {"attempt_number": task["attempt_number"] + 1}
        self._working[made["run_id"]] = self._working.pop(task["run_id"])
        task.clear()
        task.update(made)
        self._set(run, task, state("PENDING"))

    def _interrupted(self, cancelled: asyncio.CancelledError, seconds: int) -> State:
        if self._closing:
            return state("INTERNAL_ERROR", "FAILED", _STOPPED)
        if cancelled.args == ("timeout",):
            return _timed_out(seconds)
        return state("TERMINATED", "CANCELED", "Run cancelled.")

    async def _execute(self, run: Document, task: Document) -> State:
        """Runs the notebook of a task on the driver its compute asks for."""
        path = task["notebook_task"]["notebook_path"]
        entry = self._workspace.find(path)
        if entry is None or entry.language is None:
            message = f"Unable to access the notebook {path!r}: it does not exist in this workspace."
            self._store.save_output(task["run_id"], {"error": message})
            return state("INTERNAL_ERROR", "FAILED", message)
        seconds = int(task.get("timeout_seconds") or 0)
        try:
            async with (
                asyncio.timeout(seconds or None),
                self._clusters.driver_for(task.get("existing_cluster_id"), _new_cluster(run, task)) as driver,
            ):
                outcome = await driver.run(self._request(run, task, entry.path), self._on_start(run, task))
        except TimeoutError:
            return _timed_out(seconds)
        task["values"] = outcome["task_values"]
        if outcome["state"] == "success":
            shown = {"truncated": outcome["truncated"]}
            result = {} if outcome["result"] is None else {"result": outcome["result"]}
            self._store.save_output(task["run_id"], {"notebook_output": {**result, **shown}})
            return state("TERMINATED", "SUCCESS")
        self._store.save_output(
            task["run_id"], {"error": outcome["error"] or "", "error_trace": outcome["error_trace"] or ""}
        )
        return state("TERMINATED", "FAILED", _FAILED)

    def _on_start(self, run: Document, task: Document) -> Callable[[], None]:
        def started() -> None:
            if task["state"]["life_cycle_state"] == "PENDING":
                task["setup_duration"] = now() - task["start_time"]
                self._set(run, task, state("RUNNING", None, "In run"))

        return started

    def _request(self, run: Document, task: Document, path: str) -> Request:
        notebook_task = task["notebook_task"]
        parameters = {
            **(notebook_task.get("base_parameters") or {}),
            **run["job_parameters"],
            **run["overriding_parameters"].get("notebook_params", {}),
        }
        return Request(
            run_id=task["run_id"],
            path=path,
            parameters={name: _referred(str(value), run, task) for name, value in parameters.items()},
            log=str(self._logs / f"{task['run_id']}.log"),
            task_values={other["task_key"]: other.get("values", {}) for other in run["tasks"]},
            context={"jobId": str(run["job_id"]), "currentRunId": str(task["run_id"])},
        )

    def _set(self, run: Document, task: Document, entered: State, *, anew: bool = False) -> None:
        """A task enters a state, and the run with it when that is the first to be running or the last to end.

        A task that is over stays so, unless it begins ``anew``.
        """
        if states.is_over(task["state"]) and not anew:
            return
        _enter(task, entered)
        if entered["life_cycle_state"] == "RUNNING" and run["state"]["life_cycle_state"] == "PENDING":
            run["setup_duration"] = now() - run["start_time"]
            _enter(run, entered)
        elif all(
            other["state"]["life_cycle_state"] in ("TERMINATING", *states.ENDED) for other in run["tasks"]
        ):
            _enter(run, entered)
        self._store.save_run(run, active=True)

    @staticmethod
    def _end(document: Document, ended: State) -> None:
        _enter(document, ended)
        document["end_time"] = now()
        document["run_duration"] = document["end_time"] - document["start_time"]
        document["execution_duration"] = document["run_duration"] - document.get("setup_duration", 0)

    def _end_interrupted(self, run: Document) -> None:
        """A run that was active when an earlier server died."""
        for document in [*run["tasks"], run]:
            if not states.is_over(document["state"]):
                self._end(document, state("INTERNAL_ERROR", "FAILED", _STOPPED))
        for task in run["tasks"]:
            if task["state"]["state_message"] == _STOPPED:
                self._store.save_output(task["run_id"], {"error": _STOPPED})
        self._store.save_run(run, active=False)


_NOTEBOOK = fields.record(
    notebook_path=fields.text, base_parameters=fields.map_of(fields.scalar), source=fields.text
)
_SECONDS = fields.whole(0, fields.LONGEST_SECONDS)
_TASK = {
    "notebook_task": _NOTEBOOK,
    "existing_cluster_id": fields.text,
    "new_cluster": check_cluster,
    "timeout_seconds": _SECONDS,
}
_check_settings = fields.record(
    **_TASK,
    name=fields.text,
    run_name=fields.text,
    idempotency_token=fields.text,
    max_concurrent_runs=fields.whole(0, 1000),
    job_clusters=fields.list_of(
        fields.record("job_cluster_key", job_cluster_key=fields.text, new_cluster=check_cluster)
    ),
    parameters=fields.list_of(fields.record("name", name=fields.text, default=fields.scalar)),
    tasks=fields.list_of(
        fields.record(
            **_TASK,
            task_key=fields.text,
            job_cluster_key=fields.text,
            depends_on=fields.list_of(fields.record("task_key", task_key=fields.text)),
            run_if=fields.one_of(*states.RUN_IF),
            max_retries=fields.whole(-1, fields.LONGEST_SECONDS),
            min_retry_interval_millis=_SECONDS,
            retry_on_timeout=fields.boolean,
            disable_auto_optimization=fields.boolean,
        )
    ),
)
_check_start = fields.record(
    idempotency_token=fields.text,
    notebook_params=fields.map_of(fields.scalar),
    job_parameters=fields.map_of(fields.scalar),
    rerun_tasks=fields.list_of(fields.text),
)


def now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def checked_tasks(settings: Mapping[str, Any], key: str, cluster_id: str) -> list[dict[str, Any]]:
    """The tasks of a job or a submit, with the older form of one task without a key made the same.

    Raises INVALID_PARAMETER_VALUE for what this workspace could not run.
    """
    tasks = settings.get("tasks")
    if tasks is None:
        legacy = (
            "notebook_task",
            "existing_cluster_id",
            "new_cluster",
            "timeout_seconds",
            "libraries",
            "environment_key",
        )
        kept = {field: settings[field] for field in (*legacy, *_OTHER_TASKS) if field in settings}
        tasks = [{"task_key": key, **kept}]
    if not tasks:
        raise ApiError("INVALID_PARAMETER_VALUE", "At least one task must be specified.")
    keys = [task.get("task_key") for task in tasks]
    if None in keys or len(set(keys)) != len(keys):
        raise ApiError("INVALID_PARAMETER_VALUE", "Every task needs a task_key of its own.")
    for task in tasks:
        _check_task(
            task,
            set(keys),
            cluster_id,
            {cluster["job_cluster_key"] for cluster in settings.get("job_clusters") or []},
        )
    _check_order({task["task_key"]: [n["task_key"] for n in task.get("depends_on") or []] for task in tasks})
    return [_given(task) for task in tasks]


def _given(sent: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its nulls: the API takes a null for a field that is not there."""
    return {name: value for name, value in sent.items() if value is not None}


_OTHER_TASKS = (
    "spark_python_task",
    "spark_jar_task",
    "spark_submit_task",
    "python_wheel_task",
    "sql_task",
    "dbt_task",
)


def _check_task(task: Mapping[str, Any], keys: set[str], cluster_id: str, job_clusters: set[str]) -> None:
    key = task["task_key"]
    notebook_task = task.get("notebook_task")
    if not isinstance(notebook_task, dict) or not notebook_task.get("notebook_path"):
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Task {key}: only notebook_task with a notebook_path can be run here."
        )
    if not notebook_task["notebook_path"].startswith("/"):
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Task {key}: notebook_path must be an absolute workspace path."
        )
    normalise(notebook_task["notebook_path"])
    if notebook_task.get("source") == "GIT":
        raise ApiError("INVALID_PARAMETER_VALUE", f"Task {key}: notebooks from Git cannot be run here.")
    asked = task.get("existing_cluster_id")
    if asked and asked != cluster_id:
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Cluster {asked} does not exist; the one here is {cluster_id}."
        )
    if asked and task.get("new_cluster"):
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Task {key}: existing_cluster_id and new_cluster exclude each other."
        )
    shared = task.get("job_cluster_key")
    if shared and shared not in job_clusters:
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Task {key}: job_cluster_key {shared} is not defined in job_clusters."
        )
    unknown = {needed["task_key"] for needed in task.get("depends_on") or []} - keys
    if unknown:
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Task {key} depends on unknown tasks: {', '.join(sorted(unknown))}."
        )


def _check_order(needs: Mapping[str, list[str]]) -> None:
    left = dict(needs)
    while left:
        free = [key for key, needed in left.items() if not any(other in left for other in needed)]
        if not free:
            raise ApiError(
                "INVALID_PARAMETER_VALUE", f"Tasks wait for each other: {', '.join(sorted(left))}."
            )
        for key in free:
            del left[key]


def _is_retried(run: Document, task: Document, ended: State) -> bool:
    """Whether a task is tried again: as often as it says, and on serverless compute unasked."""
    allowed = int(task.get("max_retries") or 0)
    if _is_auto_optimized(run, task) and allowed >= 0:
        allowed = max(allowed, _AUTOMATIC_RETRIES)
    if ended["result_state"] == "TIMEDOUT" and not task.get("retry_on_timeout"):
        return False
    return ended["result_state"] != "SUCCESS" and (allowed < 0 or task["attempt_number"] < allowed)


def _is_auto_optimized(run: Document, task: Document) -> bool:
    serverless = not task.get("existing_cluster_id") and _new_cluster(run, task) is None
    return serverless and str(task.get("disable_auto_optimization")).lower() != "true"


def _new_cluster(run: Document, task: Document) -> dict[str, Any] | None:
    """The cluster that a task starts, its own or one that tasks share; None if it starts none."""
    shared = {each["job_cluster_key"]: each.get("new_cluster") for each in run.get("job_clusters", [])}
    found: dict[str, Any] | None = task.get("new_cluster") or shared.get(task.get("job_cluster_key", ""))
    return found


def _job_parameters(settings: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, str]:
    defaults = {item["name"]: str(item.get("default", "")) for item in settings.get("parameters") or []}
    return {**defaults, **(body.get("job_parameters") or {})}


def _referred(value: str, run: Document, task: Document) -> str:
    """Dynamic values: ``{{job.run_id}}`` and the like."""
    known = {
        "job.id": run["job_id"],
        "job.name": run["run_name"],
        "job.run_id": run["run_id"],
        "task.name": task["task_key"],
        "task.run_id": task["run_id"],
        **{f"job.parameters.{name}": given for name, given in run["job_parameters"].items()},
    }
    return re.sub(r"\{\{\s*([\w.]+)\s*\}\}", lambda match: str(known.get(match[1], match[0])), value)


def _bare(task: Document) -> dict[str, Any]:
    left_out = ("run_id", "state", "start_time", "end_time", "values", "attempt_number")
    return {
        key: value for key, value in task.items() if key not in left_out and not key.endswith("_duration")
    }


def _enter(document: Document, entered: State) -> None:
    document["state"] = entered


def _timed_out(seconds: int) -> State:
    return state("TERMINATED", "TIMEDOUT", f"Run timed out after {seconds} s.")
