"""
What can go wrong in the pipeline, by name.

PipelineError
├── SettingError (also a ValueError)   a setting or connection is missing or makes no sense
├── RecordsFailed                      records that the gateway refused for good
├── LedgerImbalance                    a leg of the pipeline lost or invented records
├── WaitFailed                         what was waited for can no longer happen; not tried again
├── TopicsRefused                      the topics are not those that the bucket holds records of; not tried again
└── ConnectorNotFound                  no MSK Connect connector of that name

A wait that takes too long ends in Airflow's own ``AirflowSensorTimeout``.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk.exceptions import AirflowFailException


class PipelineError(Exception):
    """Anything the pipeline itself reports."""


class SettingError(PipelineError, ValueError):
    """A setting or a connection is missing or makes no sense; the message names it."""


class RecordsFailed(PipelineError):
    """
    Records that were refused for good.

    :param failed: how many records failed.
    :param failures: the first of them, each with ``table``, ``number``, ``code`` and ``reason``.
    """

    def __init__(self, failed: int, failures: Sequence[dict[str, object]]) -> None:
        self.failed = failed
        self.failures = list(failures)
        lines = [f"{f['table']} {f['number']}: {f['code']} {f['reason']}" for f in self.failures]
        if failed > len(lines):
            lines.append(f"… and {failed - len(lines)} more")
        super().__init__(f"{failed} record(s) were not accepted:\n" + "\n".join(lines))


class LedgerImbalance(PipelineError):
    """A leg of the pipeline lost or invented records; the message names leg, table and numbers."""


class WaitFailed(PipelineError, AirflowFailException):
    """What was waited for can no longer happen, so Airflow need not try again."""


class TopicsRefused(PipelineError, AirflowFailException):
    """The topics are not those that the bucket holds records of; the message names each, and says what to do."""


class ConnectorNotFound(PipelineError):
    """
    There is no MSK Connect connector of that name.

    :param name: the name that was looked for.
    :param known: the names that exist.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(f"No connector is named {name!r}; there is {', '.join(known) or 'none at all'}.")
