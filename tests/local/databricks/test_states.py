"""How the states of tasks make the state of a run, and which task may start."""

import pytest
from databricks.sdk.service import jobs

from local.databricks.states import blocked_by, is_over, of_run, state, status


@pytest.mark.parametrize(
    ("results", "life_cycle", "result"),
    [
        (["SUCCESS", "SUCCESS"], "TERMINATED", "SUCCESS"),
        (["SUCCESS", "FAILED", "UPSTREAM_FAILED"], "INTERNAL_ERROR", "FAILED"),
        (["FAILED", "CANCELED"], "TERMINATED", "CANCELED"),
        (["TIMEDOUT", "UPSTREAM_FAILED"], "TERMINATED", "TIMEDOUT"),
        (["SUCCESS", "EXCLUDED"], "TERMINATED", "SUCCESS"),
    ],
)
def test_a_run_ends_as_its_tasks_do(results: list[str], life_cycle: str, result: str) -> None:
    ended = of_run((f"task {n}", state("TERMINATED", result, "why")) for n, result in enumerate(results))
    assert (ended["life_cycle_state"], ended["result_state"]) == (life_cycle, result)
    assert is_over(ended)


def test_the_message_of_a_run_names_the_task() -> None:
    ended = of_run([
        ("clean_pin", state("TERMINATED", "FAILED", "Workload failed, see run output for details"))
    ])
    assert ended["state_message"] == (
        "Task clean_pin failed with message: Workload failed, see run output for details"
    )


@pytest.mark.parametrize("result", [None, *(set(jobs.RunResultState) - {jobs.RunResultState.DISABLED})])
def test_a_status_is_one_the_sdk_knows(result: jobs.RunResultState | None) -> None:
    made = status(state("TERMINATED", result.value, "why") if result else state("RUNNING"))
    parsed = jobs.RunStatus.from_dict(made)
    assert parsed.as_dict() == made
    assert parsed.state == (
        jobs.RunLifecycleStateV2State.TERMINATED if result else jobs.RunLifecycleStateV2State.RUNNING
    )


@pytest.mark.parametrize(
    ("run_if", "upstream", "blocked"),
    [
        ("ALL_SUCCESS", [], None),
        ("ALL_SUCCESS", ["SUCCESS"], None),
        ("ALL_SUCCESS", ["SUCCESS", "FAILED"], "UPSTREAM_FAILED"),
        ("ALL_SUCCESS", ["SUCCESS", "CANCELED"], "UPSTREAM_CANCELED"),
        ("ALL_DONE", ["FAILED"], None),
        ("NONE_FAILED", ["SUCCESS", "EXCLUDED"], None),
        ("NONE_FAILED", ["TIMEDOUT"], "UPSTREAM_FAILED"),
        ("AT_LEAST_ONE_SUCCESS", ["FAILED", "SUCCESS"], None),
        ("AT_LEAST_ONE_SUCCESS", ["FAILED"], "UPSTREAM_FAILED"),
        ("ALL_FAILED", ["FAILED", "SUCCESS"], "EXCLUDED"),
        ("AT_LEAST_ONE_FAILED", ["FAILED", "SUCCESS"], None),
    ],
)
def test_a_task_starts_by_what_it_depends_on(run_if: str, upstream: list[str], blocked: str | None) -> None:
    assert blocked_by(run_if, upstream) == blocked
