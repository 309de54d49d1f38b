"""How often, and after how long, a task is tried again, and errors that must not be."""

from __future__ import annotations

from datetime import timedelta
from json import JSONDecodeError
from typing import Any

from airflow.sdk import Context, RetryDecision, RetryPolicy

VERDICTS = (
    "QualityError",
    "SettingsError",
    "LedgerError",
    "PositionError",
    "BalanceError",
    "Final state TIMEDOUT",
)
"""Ends of notebooks that the same data, the same widgets or the same time limit give again."""

UNDECODABLE = (JSONDecodeError, UnicodeError)


class NotebookRetryPolicy(RetryPolicy):
    """
    Try a notebook again, unless it has come to a verdict.

    What a notebook raises reaches Airflow as text, within the exception of the provider's operator.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by the name of the notebook's error."""
        del try_number, max_tries, context
        found = next((name for name in VERDICTS if name in str(exception)), None)
        if found is None:
            return RetryDecision.default()
        return RetryDecision.fail(reason=f"{found}: trying again would end the same")


class FinalErrorRetryPolicy(RetryPolicy):
    """
    Try again, unless the exception says that this cannot help: its ``retriable`` is False.

    That is a value or a column of the source, records that were refused for good, or a setting. An argument that
    makes no sense is a ValueError and final, too; an answer that cannot be decoded is one as well, and is not.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by what the exception says of itself."""
        del try_number, max_tries, context
        bad_argument = isinstance(exception, ValueError) and not isinstance(exception, UNDECODABLE)
        if getattr(exception, "retriable", not bad_argument):
            return RetryDecision.default()
        return RetryDecision.fail(reason=f"{type(exception).__name__}: trying again would end the same")


RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(minutes=2),
    "retry_exponential_backoff": 4,
    "max_retry_delay": timedelta(minutes=30),
    "retry_policy": FinalErrorRetryPolicy(),
}
"""Default arguments of tasks: Airflow waits for 2 to 4 minutes, then 8 to 16, then 30."""
