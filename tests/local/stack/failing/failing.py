"""A DAG whose tasks fail in as many ways as a task can."""

from __future__ import annotations

import logging
import os
import signal
import sys

from airflow.sdk import BaseOperator, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

log = logging.getLogger(__name__)


class Resumed(BaseOperator):
    """What a deferred task is when its trigger has ended: it has no `execute` of its own to come back to."""


def fails_too(_: object) -> None:
    raise RuntimeError("the callback failed too")


@task
def source() -> None:
    try:
        try:
            raise ConnectionRefusedError(1045, "Access denied for user 'reader'")
        except OSError as error:
            raise LookupError("driver") from error
    except LookupError as error:
        raise ValueError("the source mysql://reader:***@db/posts cannot be read") from error


@task
def repeated() -> None:
    try:
        raise OSError("no such table: pin")
    except OSError as error:
        raise ValueError(f"the source cannot be read: {error}") from error


@task
def cleaning_up() -> None:
    try:
        raise ValueError("the first error")
    finally:
        raise OSError("cannot clean up")


@task
def group() -> None:
    raise ExceptionGroup("two of three", [ValueError("a"), ExceptionGroup("inner", [TypeError("b")])])


@task(on_failure_callback=fails_too)
def handled() -> None:
    try:
        raise KeyError("handled")
    except KeyError:
        log.exception("this one did not matter")
    for number in range(12_000):
        log.info("line %d of a long log", number)
    raise AirflowFailException("this one did")


@task
def spoken() -> None:
    raise ValueError("red \x1b[31m, turned \u202e, two\nlines [/b]" + "x" * 1_000_000)


@task
def timeout() -> None:
    raise AirflowSensorTimeout("Gave up after 60 s: 2 records have not landed.")


@task
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def leaves() -> None:
    sys.exit(3)


@task
def breaks_off() -> None:
    os._exit(4)


@dag(dag_id="failing", schedule=None)
def failing() -> None:
    for each in (source, repeated, cleaning_up, group, handled, spoken, timeout, killed, leaves, breaks_off):
        each()
    Resumed(task_id="deferred")


failing()
