"""When it is no use to try again."""

from __future__ import annotations

from airflow.sdk import Context, RetryDecision, RetryPolicy

VERDICTS = ("QualityError", "SettingsError", "LedgerError")
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
