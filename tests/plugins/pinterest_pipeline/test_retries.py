"""A verdict of a notebook is final; whatever else stops it is tried again."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction

from pinterest_pipeline.retries import NotebookRetryPolicy


@pytest.mark.parametrize(
    ("error", "action"),
    [
        ("QualityError: 1 of 12 expectations are not met", RetryAction.FAIL),
        ("SettingsError: widget 'prefix' is ''", RetryAction.FAIL),
        ("StorageError: s3://b cannot be listed", RetryAction.DEFAULT),
        ("the driver stopped", RetryAction.DEFAULT),
    ],
)
def test_only_a_verdict_is_final(error: str, action: RetryAction) -> None:
    raised = RuntimeError(
        f"Task failed. Final state FAILED. Errors: [{{'task_key': 'k', 'error': {error!r}}}]"
    )
    assert NotebookRetryPolicy().evaluate(raised, 1, 3).action is action
