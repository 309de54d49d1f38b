"""Airflow's REST API as the commands of the stack use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import requests

from include.emulation.terminal import printable
from local.stack import task_log
from local.stack.errors import StackError
from local.stack.settings import Stack

FINISHED = {"success", "failed"}
TOLD = FINISHED | {"running", "deferred", "up_for_retry", "upstream_failed"}
LONGEST_WAIT_FOR_A_RUN = 120
PAGE = 100
"""Airflow gives no more at once."""


class AirflowApi:
    """A logged-in session of one stack's Airflow."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.session = requests.Session()
        self.session.trust_env = False

    def healthy(self) -> bool:
        """Whether the API server answers and has heard of scheduler, triggerer and DAG processor lately."""
        try:
            reply = self.session.get(f"{self.stack.url('airflow')}/api/v2/monitor/health", timeout=5)
            health = reply.json()
        except (requests.RequestException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return reply.ok and all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def serving(self) -> bool:
        try:
            return self.session.get(f"{self.stack.url('airflow')}/api/v2/version", timeout=5).ok
        except requests.RequestException:
            return False

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One API call; logs in at the first and when the token has run out.

        :raises StackError: Airflow does not answer, or refuses; with its own words.
        """
        try:
            if "Authorization" not in self.session.headers:
                self._log_in()
            reply = self.session.request(
                method, f"{self.stack.url('airflow')}/api/v2{path}", timeout=60, **arguments
            )
            if reply.status_code == requests.codes.unauthorized:
                self._log_in()
                reply = self.session.request(
                    method, f"{self.stack.url('airflow')}/api/v2{path}", timeout=60, **arguments
                )
        except requests.RequestException:
            raise StackError(
                f"Airflow does not answer at {self.stack.url('airflow')}. Is the stack up? make status"
            ) from None
        if not reply.ok:
            raise StackError(f"Airflow refused ({reply.status_code}): {_reason(reply)}")
        return reply.json() if reply.content else None

    def _log_in(self) -> None:
        user = {"username": "admin", "password": self.stack.credentials["airflow_password"]}
        reply = self.session.post(f"{self.stack.url('airflow')}/auth/token", json=user, timeout=60)
        if not reply.ok:
            raise StackError(f"Airflow refused the stack's own login ({reply.status_code}): {_reason(reply)}")
        self.session.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"

    def import_errors(self) -> list[str]:
        errors = self.call("GET", "/importErrors")["import_errors"]
        return [
            f"{error['filename']}: {error['stack_trace'].strip().rpartition('\n')[2]}" for error in errors
        ]

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self._all("/dags", "dags")}

    def _all(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page."""
        offset = 0
        while page := self.call("GET", path, params={"limit": PAGE, "offset": offset})[name]:
            yield from page
            offset += len(page)
            if len(page) < PAGE:
                return

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run; returns its id. Wrong parameters are refused before anything runs, misspelt ones too.

        :raises StackError: there is no such DAG, or Airflow refuses the parameters.
        """
        if dag_id not in (dag_ids := self.dag_ids()):
            there = ", ".join(sorted(dag_ids)) or "none"
            raise StackError(f"There is no DAG {printable(dag_id, 80)}. These are there: {there}")
        known = set(self.call("GET", f"{_dag(dag_id)}/details")["params"] or {})
        if unknown := sorted(set(conf) - known):
            raise StackError(
                f"{dag_id} has no parameter {', '.join(printable(name, 80) for name in unknown[:10])}; "
                f"it has {', '.join(sorted(known)) or 'none'}."
            )
        self.call("PATCH", _dag(dag_id), json={"is_paused": False})
        run = self.call("POST", f"{_dag(dag_id)}/dagRuns", json={"conf": conf, "logical_date": None})
        return str(run["dag_run_id"])

    def run_of_new_data(self, dag_id: str, since: str) -> str:
        """Wait for the run that new data start; return its id.

        :param since: moment (ISO 8601) from which on it may have begun.
        :raises StackError: there is none.
        """
        query = {"run_type": "asset_triggered", "run_after_gte": since, "order_by": "run_after", "limit": 1}
        end = time.monotonic() + LONGEST_WAIT_FOR_A_RUN
        while time.monotonic() < end:
            if runs := self.call("GET", f"{_dag(dag_id)}/dagRuns", params=query)["dag_runs"]:
                return str(runs[0]["dag_run_id"])
            time.sleep(0.5)
        raise StackError(
            f"New data have started no run of {dag_id}. Is it paused? {self.stack.url('airflow')}"
        )

    def wait(self, dag_id: str, run_id: str, say: Callable[[str], None]) -> str:
        """Wait for the run's end, telling every task's state as it changes. Returns ``success`` or ``failed``."""
        told: dict[str, str] = {}
        while True:
            state = str(self.call("GET", _run(dag_id, run_id))["state"])
            for task in self.tasks(dag_id, run_id):
                name = _name(task)
                if task["state"] and told.get(name) != task["state"]:
                    told[name] = task["state"]
                    ended = task["state"] in FINISHED and task["duration"]
                    if task["state"] in TOLD:
                        say(f"    {name:<24} {task['state']}{f' in {ended:.1f} s' if ended else ''}")
            if state in FINISHED:
                return state
            time.sleep(0.5)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return list(self._all(f"{_run(dag_id, run_id)}/taskInstances", "task_instances"))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]

    def failure(self, dag_id: str, run_id: str) -> str:
        """Why a run failed: each failed task with the error that ended its last try."""
        reasons = []
        for task in self.tasks(dag_id, run_id):
            if task["state"] == "failed":
                first, *more = self._why(dag_id, run_id, task)
                reasons += [f"  {_name(task)}: {first}", *(f"      {line}" for line in more)]
        return "\n".join(reasons) or "  no task failed by itself: look at the run in Airflow's UI"

    def _why(self, dag_id: str, run_id: str, task: dict[str, Any]) -> list[str]:
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task['task_id'], safe='')}/logs/{task['try_number']}"
        try:
            # Of a task that has ended, Airflow gives the whole log at once.
            log = self.call(
                "GET", path, params={"map_index": task["map_index"]}, headers={"Accept": "application/json"}
            )
            return task_log.why_it_failed(log["content"])
        except (StackError, KeyError, TypeError):
            return ["its log cannot be read"]


def _dag(dag_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}"


def _run(dag_id: str, run_id: str) -> str:
    return f"{_dag(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _name(task: dict[str, Any]) -> str:
    """The task's id, and of a mapped one what tells it from its siblings."""
    if task["map_index"] < 0:
        return printable(task["task_id"])
    return printable(f"{task['task_id']}[{task.get('rendered_map_index') or task['map_index']}]", 80)


def _reason(reply: requests.Response) -> str:
    """Return what an answer says is wrong, in one line."""
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = reply.text
    if isinstance(detail, list):
        detail = "; ".join(
            f"{'.'.join(map(str, item.get('loc', [])))}: {item.get('msg')}"
            if isinstance(item, dict)
            else str(item)
            for item in detail
        )
    # Airflow appends the whole JSON schema to what is wrong with a parameter.
    return printable(str(detail).split("\n\nFailed validating")[0].strip(), 500)
