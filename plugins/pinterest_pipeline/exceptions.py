"""
What can go wrong in the pipeline, by name.

PipelineError
├── SettingError (also a ValueError)   a setting or connection is missing or makes no sense
├── ParametersRefused                  a run's parameters make no sense together; not tried again
├── RecordsFailed                      records that the gateway refused for good
├── ReportMissing                      emulate has left no report; not tried again
├── LedgerImbalance                    a leg of the pipeline lost or invented records
├── WaitFailed                         what was waited for can no longer happen; not tried again
├── RunEnding                          a Databricks run was cancelled and is not over yet; tried again
├── AnswersOlder                       newer answers are published; not tried again
├── TopicsRefused                      the topics are not those that the bucket holds records of; not tried again
└── ConnectorNotFound                  no MSK Connect connector of that name

A wait that takes too long ends in Airflow's own ``AirflowSensorTimeout``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from airflow.sdk.exceptions import AirflowFailException

NAMED_NUMBERS = 3


class PipelineError(Exception):
    """Anything the pipeline itself reports."""

    retriable = True
    """Whether another try may help, for :class:`~pinterest_pipeline.retries.FinalErrorRetryPolicy`."""


class SettingError(PipelineError, ValueError):
    """A setting or a connection is missing or makes no sense; the message names it."""

    retriable = False


class ParametersRefused(PipelineError, AirflowFailException):
    """A run's parameters make no sense together; the message says which, and that nothing was done."""


class RecordsFailed(PipelineError):
    """
    Records that were refused for good; failures of one table, code and reason are one line of the message.

    :param failed: how many records failed.
    :param failures: the first of them, each with ``table``, ``number``, ``code`` and ``reason``.
    :param retriable: whether another try may help at least one of them.
    """

    def __init__(self, failed: int, failures: Sequence[dict[str, object]], *, retriable: bool = True) -> None:
        self.failed = failed
        self.retriable = retriable
        self.failures = list(failures)
        numbers: dict[tuple[object, object, object], list[object]] = {}
        for failure in self.failures:
            kind = (failure["table"], failure["code"], failure["reason"])
            numbers.setdefault(kind, []).append(failure["number"])
        lines = [f"{kind[0]} {_some(found)}: {kind[1]} {kind[2]}" for kind, found in numbers.items()]
        if failed > len(self.failures):
            lines.append(f"… and {failed - len(self.failures)} more")
        super().__init__(f"{failed} record(s) were not accepted:\n" + "\n".join(lines))


def _some(numbers: Sequence[object]) -> str:
    """Name the first numbers and count the rest, so that one cause of many failures is one line."""
    named = ", ".join(str(number) for number in numbers[:NAMED_NUMBERS])
    rest = len(numbers) - NAMED_NUMBERS
    return f"{named} and {rest} more" if rest > 0 else named


class ReportMissing(PipelineError, AirflowFailException):
    """The emulator's report is not there."""

    def __init__(self) -> None:
        super().__init__(
            "emulate has left no report to reconcile: it was marked as successful, or its XComs were deleted. "
            "Clear it to send the posts, and to have them counted."
        )


class LedgerImbalance(PipelineError):
    """A leg of the pipeline lost or invented records; the message names leg, table and numbers."""


class WaitFailed(PipelineError, AirflowFailException):
    """What was waited for can no longer happen, so Airflow need not try again."""


class RunEnding(PipelineError):
    """
    A Databricks run was cancelled and is not over yet.

    :param run_id: the run.
    :param seconds: how long it was waited for.
    :param page: URL of the run's page.
    """

    def __init__(self, run_id: int, seconds: float, page: str) -> None:
        super().__init__(
            f"Run {run_id} is still ending after {seconds:g} s; only one run may go on, so this task is tried "
            f"again. If it never ends, delete the run in Databricks: {page}"
        )


class AnswersOlder(PipelineError, AirflowFailException):
    """
    A run's answers are older than those that are published.

    :param source: the run's answers.
    :param generated_at: when they were generated.
    :param target: the published ones.
    :param published_at: when these were generated.
    """

    def __init__(self, source: str, generated_at: datetime, target: str, published_at: datetime) -> None:
        super().__init__(
            f"{source} is of {generated_at.isoformat()}, and {target} of {published_at.isoformat()}: newer answers "
            f"stay published. To put the older ones back all the same: aws s3 cp {source} {target}"
        )


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
