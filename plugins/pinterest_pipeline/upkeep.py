"""When the tables are maintained."""

from __future__ import annotations

from typing import Any

SUNDAY = 6


def is_due(dag_run: Any, *, asked: bool) -> bool:
    """
    Return whether a run is to maintain the tables: the scheduled one of a Sunday, or any that is asked to.

    :param dag_run: the run.
    :param asked: the run's parameter.
    """
    return asked or (dag_run.run_type == "scheduled" and dag_run.run_after.weekday() == SUNDAY)
