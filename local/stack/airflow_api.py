"""Airflow's REST API as the commands of the stack use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

from local.stack.errors import StackError
from local.stack.settings import Stack

FINISHED = {"success", "failed"}


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
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.call("GET", "/dags", params={"limit": 100})["dags"]}

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run; returns its id. Wrong parameters are refused before anything runs, misspelt ones too."""
        known = set(self.call("GET", f"/dags/{dag_id}/details")["params"] or {})
        if unknown := sorted(set(conf) - known):
            raise StackError(
                f"{dag_id} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}."
            )
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"conf": conf, "logical_date": None})
        return str(run["dag_run_id"])

    def wait(self, dag_id: str, run_id: str, say: Callable[[str], None]) -> str:
        """Wait for the run's end, telling every task's state as it changes. Returns ``success`` or ``failed``."""
        told: dict[str, str] = {}
        while True:
            state = str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
            for task in self.tasks(dag_id, run_id):
                if task["state"] and told.get(task["task_id"]) != task["state"]:
                    told[task["task_id"]] = task["state"]
                    seconds = (
                        f" in {task['duration']:.1f} s"
                        if task["state"] in FINISHED and task["duration"]
                        else ""
                    )
                    if task["state"] in {
                        "running",
                        "deferred",
                        "success",
                        "failed",
                        "up_for_retry",
                        "upstream_failed",
                    }:
                        say(f"    {task['task_id']:<24} {task['state']}{seconds}")
            if state in FINISHED:
                return state
            time.sleep(0.5)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self.call("GET", path, params={"limit": 200})["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]

    def failure(self, dag_id: str, run_id: str) -> str:
        """Why a run failed: each failed task with the error of its last log."""
        reasons = []
        for task in self.tasks(dag_id, run_id):
            if task["state"] == "failed":
                reasons.append(f"  {task['task_id']}: {self._last_error(dag_id, run_id, task)}")
        return "\n".join(reasons) or "  no task failed by itself: look at the run in Airflow's UI"

    def _last_error(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        try:
            entries = self.call("GET", path, headers={"Accept": "application/json"})["content"]
        except (StackError, KeyError, TypeError):
            return "its log cannot be read"
        details = [
            detail
            for entry in entries
            if isinstance(entry, dict)
            for detail in entry.get("error_detail") or []
        ]
        if details:
            return f"{details[-1].get('exc_type')}: {details[-1].get('exc_value')}"
        errors = [
            e.get("event", "")
            for e in entries
            if isinstance(e, dict) and e.get("level") in {"error", "critical"}
        ]
        return errors[-1] if errors else "its log names no error"


def _reason(reply: requests.Response) -> str:
    try:
        detail = reply.json().get("detail", reply.text)
    except ValueError:
        detail = reply.text
    if isinstance(detail, list):
        detail = "; ".join(f"{'.'.join(map(str, item.get('loc', [])))}: {item.get('msg')}" for item in detail)
    # Airflow appends the whole JSON schema to what is wrong with a parameter.
    return str(detail).split("\n\nFailed validating")[0][:500]
