"""Who is told when a DAG run fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier

    from pinterest_pipeline.config import Settings

SUBJECT = "Airflow: {{ dag.dag_id }} failed"
MESSAGE = """\
The run {{ dag_run.run_id }} of {{ dag.dag_id }} has failed ({{ reason | default("no reason given", true) }}).
The DAG's page in Airflow says what to do about each task.
"""


def failed_run(settings: Settings) -> list[BaseNotifier]:
    """
    Return what a DAG's ``on_failure_callback`` calls: the alarm topic, or nobody where none is set.

    :param settings: ``alarm_topic_arn`` counts; empty, and nothing is imported for it.
    """
    if not settings.alarm_topic_arn:
        return []
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    return [
        SnsNotifier(
            target_arn=settings.alarm_topic_arn,
            subject=SUBJECT,
            message=MESSAGE,
            region_name=settings.alarm_topic_arn.split(":")[3],
        )
    ]
