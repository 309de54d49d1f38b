"""Why a task failed, read off logs that Airflow's own task runner and supervisor have written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.stack.airflow_api import AirflowApi
from local.stack.settings import DEFAULT_PORTS, Stack
from local.stack.task_log import why_it_failed

RUN = Path(__file__).with_name("failing") / "run.py"
KILLED = "Process terminated by signal. Likely out of memory error (OOM)."


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Any]]:
    """The log of each task of the DAG that fails, as Airflow's API gives it."""
    folder = tmp_path_factory.mktemp("logs")
    done = subprocess.run(
        [sys.executable, str(RUN), str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def log(task_id: str) -> list[Any]:
        lines = (folder / f"{task_id}.log").read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    return log


@pytest.mark.parametrize(
    ("task_id", "reasons"),
    [
        (
            "source",
            [
                "ValueError: the source mysql://reader:***@db/posts cannot be read",
                "because ConnectionRefusedError: [Errno 1045] Access denied for user 'reader'",
            ],
        ),
        ("repeated", ["ValueError: the source cannot be read: no such table: pin"]),
        ("cleaning_up", ["OSError: cannot clean up", "while handling ValueError: the first error"]),
        (
            "group",
            [
                "ExceptionGroup: two of three (2 sub-exceptions)",
                "because ValueError: a; ExceptionGroup: inner (1 sub-exception)",
            ],
        ),
        ("handled", ["AirflowFailException: this one did"]),
        ("timeout", ["AirflowSensorTimeout: Gave up after 60 s: 2 records have not landed."]),
        ("leaves", ["Task exited (exit_code 3)"]),
        ("breaks_off", ["Process exited abnormally (exit_code 4)"]),
        (
            "deferred",
            ["TaskDeferralError: Trigger failure", "because RuntimeError: the run 42 cannot be asked"],
        ),
    ],
)
def test_the_error_of_the_task_comes_first_and_what_caused_it_second(
    logs: Callable[[str], list[Any]], task_id: str, reasons: list[str]
) -> None:
    assert why_it_failed(logs(task_id)) == reasons


def test_a_task_that_was_killed_is_told_by_its_signal(logs: Callable[[str], list[Any]]) -> None:
    [reason] = why_it_failed(logs("killed"))
    assert reason.startswith(KILLED)
    assert reason.endswith("(signal_name SIGKILL)")


def test_an_error_commands_no_terminal_and_fits_on_a_screen(logs: Callable[[str], list[Any]]) -> None:
    [reason] = why_it_failed(logs("spoken"))
    assert reason.startswith(r"ValueError: red \x1b[31m, turned \u202e, two\nlines [/b]xxx")
    assert len(reason) == 1000
    assert reason.isprintable()


@pytest.mark.parametrize(
    "content", [[], ["a line"], [{"event": "x", "level": "info"}], [{"event": None, "error_detail": None}]]
)
def test_a_log_without_an_error_is_told(content: list[Any]) -> None:
    assert why_it_failed(content) == ["its log names no error"]


@pytest.fixture
def airflow(stub: Any, logs: Callable[[str], list[Any]]) -> AirflowApi:
    """The client of an API that has one failed run, of 130 mapped tasks and two others."""
    port = urlsplit(stub.url).port
    assert port
    tasks = [{"task_id": "mapped", "map_index": n, "state": "success", "try_number": 1} for n in range(130)]
    tasks[120] |= {"state": "failed", "try_number": 3, "rendered_map_index": "pin\x1b[2J"}
    tasks += [
        {"task_id": "source", "map_index": -1, "state": "failed", "try_number": 2},
        {"task_id": "after", "map_index": -1, "state": "upstream_failed", "try_number": 0},
    ]

    def answer(seen: Any) -> tuple[int, dict[str, str], bytes]:
        path, _, query = seen.path.partition("?")
        body: Any = {"access_token": "t"}
        if path.endswith("/taskInstances"):
            offset = int(query.rpartition("offset=")[2])
            body = {"task_instances": tasks[offset : offset + 100]}
        elif "/logs/" in path:
            known = {
                ("mapped/logs/3", "map_index=120"): "timeout",
                ("source/logs/2", "map_index=-1"): "source",
            }
            body = {"content": logs(known[path.rpartition("/taskInstances/")[2], query])}
        return 200, {}, json.dumps(body).encode()

    stub.answer = answer
    return AirflowApi(
        Stack(Path("/nowhere"), DEFAULT_PORTS | {"airflow": port}, {"airflow_password": ""}, "x")
    )


def test_every_failed_task_of_a_run_is_told_with_its_last_try(airflow: AirflowApi, stub: Any) -> None:
    assert airflow.failure("a_dag", "manual__2026-01-01T00:00:00+00:00").splitlines() == [
        r"  mapped[pin\x1b[2J]: AirflowSensorTimeout: Gave up after 60 s: 2 records have not landed.",
        "  source: ValueError: the source mysql://reader:***@db/posts cannot be read",
        "      because ConnectionRefusedError: [Errno 1045] Access denied for user 'reader'",
    ]
    assert {seen.path.partition("/taskInstances")[0] for seen in stub.seen[1:]} == {
        "/api/v2/dags/a_dag/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    }
