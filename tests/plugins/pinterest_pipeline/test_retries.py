"""What another try cannot help is final; whatever else stops a task is tried again."""

from __future__ import annotations

from json import JSONDecodeError

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowTaskTimeout

from pinterest_pipeline.exceptions import LedgerImbalance, RecordsFailed, SettingError
from pinterest_pipeline.retries import FinalErrorRetryPolicy, NotebookRetryPolicy


@pytest.mark.parametrize(
    ("error", "action"),
    [
        ("QualityError: 1 of 12 expectations are not met", RetryAction.FAIL),
        ("SettingsError: widget 'prefix' is ''", RetryAction.FAIL),
        ("PositionError: p.geo is not the topic whose records were taken in", RetryAction.FAIL),
        ("BalanceError: pin_table has 10 rows of 9 posts", RetryAction.FAIL),
        ("StorageError: s3://b cannot be listed", RetryAction.DEFAULT),
        ("the driver stopped", RetryAction.DEFAULT),
        ("Final state TIMEDOUT. Reason: Run timed out", RetryAction.FAIL),
    ],
)
def test_only_a_verdict_is_final(error: str, action: RetryAction) -> None:
    raised = RuntimeError(
        f"Task failed. Final state FAILED. Errors: [{{'task_key': 'k', 'error': {error!r}}}]"
    )
    assert NotebookRetryPolicy().evaluate(raised, 1, 3).action is action


class SourceError(Exception):
    """As the emulator's."""

    retriable = False


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (SourceError("pinterest_data.title is LONGBLOB"), RetryAction.FAIL),
        (SettingError("Connection pinterest_source: host is empty"), RetryAction.FAIL),
        (ValueError("The sequential order has 3 posts to walk"), RetryAction.FAIL),
        (RecordsFailed(3, [], retriable=False), RetryAction.FAIL),
        (RecordsFailed(3, [], retriable=True), RetryAction.DEFAULT),
        (RecordsFailed(3, []), RetryAction.DEFAULT),
        (LedgerImbalance("3 of 4"), RetryAction.DEFAULT),
        (AirflowTaskTimeout("Timeout"), RetryAction.DEFAULT),
        (OSError("no network"), RetryAction.DEFAULT),
        (JSONDecodeError("an error page", "<html>", 0), RetryAction.DEFAULT),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "an answer cut off"), RetryAction.DEFAULT),
    ],
)
def test_only_what_cannot_help_is_final(error: BaseException, action: RetryAction) -> None:
    assert FinalErrorRetryPolicy().evaluate(error, 1, 3).action is action
