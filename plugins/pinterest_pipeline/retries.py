"""Errors that must not be retried."""

from __future__ import annotations

from airflow.sdk import Context, RetryDecision, RetryPolicy

VERDICTS = ("QualityError", "SettingsError", "LedgerError", "PositionError")
"""Errors of notebooks that the same data, or the same widgets, give again."""


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
    makes no sense is a ValueError and final, too.
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
        if getattr(exception, "retriable", not isinstance(exception, ValueError)):
            return RetryDecision.default()
        return RetryDecision.fail(reason=f"{type(exception).__name__}: trying again would end the same")
