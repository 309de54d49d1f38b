"""The states of runs and tasks, in the two forms the Jobs API gives them: ``state`` and the newer ``status``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

State = dict[str, Any]

RUN_IF = (
    "ALL_SUCCESS",
    "ALL_DONE",
    "NONE_FAILED",
    "AT_LEAST_ONE_SUCCESS",
    "ALL_FAILED",
    "AT_LEAST_ONE_FAILED",
)
ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")

# result_state → (code, type) of the termination details
_TERMINATION = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "SUCCESS_WITH_FAILURES": ("SUCCESS_WITH_FAILURES", "SUCCESS"),
    "FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "TIMEDOUT": ("CANCELED", "CLIENT_ERROR"),
    "UPSTREAM_FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
    "UPSTREAM_CANCELED": ("CANCELED", "CLIENT_ERROR"),
    "EXCLUDED": ("SUCCESS", "SUCCESS"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
}


def state(life_cycle: str, result: str | None = None, message: str = "") -> State:
    """One ``state`` object."""
    made: State = {
        "life_cycle_state": life_cycle,
        "state_message": message,
        "user_cancelled_or_timedout": result in ("CANCELED", "TIMEDOUT"),
    }
    return made | ({"result_state": result} if result else {})


def is_over(current: State) -> bool:
    return current["life_cycle_state"] in ENDED


def status(current: State) -> dict[str, Any]:
    """The same as a ``status`` object."""
    life_cycle = current["life_cycle_state"]
    if life_cycle not in ENDED:
        return {"state": "WAITING" if life_cycle == "WAITING_FOR_RETRY" else life_cycle}
    code, kind = _TERMINATION[current["result_state"]]
    details = {"code": code, "type": kind, "message": current["state_message"]}
    return {"state": "TERMINATED", "termination_details": details}


def blocked_by(run_if: str, upstream: Iterable[str]) -> str | None:
    """The result of a task that may not run after these results of the tasks it depends on, or None if it may."""
    results = list(upstream)
    succeeded = [result == "SUCCESS" for result in results]
    failed = [result in ("FAILED", "TIMEDOUT", "UPSTREAM_FAILED") for result in results]
    may_run = {
        "ALL_SUCCESS": all(succeeded),
        "ALL_DONE": True,
        "NONE_FAILED": not any(failed),
        "AT_LEAST_ONE_SUCCESS": any(succeeded) or not results,
        "ALL_FAILED": all(failed),
        "AT_LEAST_ONE_FAILED": any(failed),
    }
    if may_run.get(run_if, False):
        return None
    if run_if in ("ALL_FAILED", "AT_LEAST_ONE_FAILED"):
        return "EXCLUDED"
    return "UPSTREAM_FAILED" if any(failed) else "UPSTREAM_CANCELED"


def of_run(tasks: Iterable[tuple[str, State]]) -> State:
    """The state of a run whose tasks (key, state) are all over."""
    ended = list(tasks)
    for result, says in (("TIMEDOUT", "timed out"), ("CANCELED", "was canceled"), ("FAILED", "failed")):
        for key, current in ended:
            if current.get("result_state") == result:
                # Databricks calls a run with a failed task an internal error too, and tells it by the result state
                life_cycle = "INTERNAL_ERROR" if result == "FAILED" else "TERMINATED"
                message = f"Task {key} {says} with message: {current['state_message']}"
                return state(life_cycle, result, message)
    return state("TERMINATED", "SUCCESS")
