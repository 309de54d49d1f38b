"""A Databricks notebook of the pipeline as a task of a DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pinterest_pipeline.config import Settings
from pinterest_pipeline.operators.databricks import (
    DatabricksNotebookRunOperator,
    DatabricksServerlessNotebookOperator,
)
from pinterest_pipeline.retries import NotebookRetryPolicy
from pinterest_pipeline.templates import RUN_KEY


def notebook_task(settings: Settings, name: str, **parameters: str) -> DatabricksNotebookRunOperator:
    """
    Return the task that runs a notebook on the batch's compute.

    :param settings: where the notebook and the tables are, and the compute.
    :param name: the notebook's, and the task's.
    :param parameters: values of widgets, so all are text; those that every notebook takes are filled in.
    """
    arguments: dict[str, Any] = {
        "task_id": name,
        "databricks_task_key": f"{settings.prefix}-{name}",
        "notebook_path": settings.notebook(name),
        "source": "WORKSPACE",
        "notebook_params": {
            "storage": settings.storage,
            "prefix": settings.prefix,
            "catalog": settings.catalog,
            "schema": settings.schema,
            "run_id": RUN_KEY,
            **parameters,
        },
        "polling_period_seconds": settings.poll_seconds,
        "deferrable": True,
        "execution_timeout": timedelta(hours=4),  # of the Databricks run, too
        "retry_policy": NotebookRetryPolicy(),
    }
    if settings.compute.serverless:
        return DatabricksServerlessNotebookOperator(**arguments)
    return DatabricksNotebookRunOperator(**arguments, **settings.compute.as_task())
