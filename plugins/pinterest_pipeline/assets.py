"""The assets that the DAGs of this project produce and wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from airflow.sdk import Asset

from pinterest_pipeline.config import Settings


@dataclass(frozen=True)
class Assets:
    """
    The assets of one pipeline.

    :param topics_landed: everything acknowledged by the topics lies in the bucket.
    :param answers: the published answers, ``answers/latest.json``.
    :param stream_tables: everything acknowledged by the streams is in the stream tables.
    """

    topics_landed: Asset
    answers: Asset
    stream_tables: Asset

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the assets of the pipeline with these settings."""
        bucket, prefix = settings.bucket, settings.prefix
        return cls(
            topics_landed=Asset(name=f"{prefix}_topics_landed", uri=f"s3://{bucket}/topics"),
            answers=Asset(name=f"{prefix}_answers", uri=f"s3://{bucket}/answers/latest.json"),
            stream_tables=Asset(name=f"{prefix}_stream_tables", uri=f"s3://{bucket}/{settings.progress_key}"),
        )
