"""The tags a DAG of this project may carry. Every DAG has exactly one tier."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """What a DAG is about, and how much its failure matters."""

    PINTEREST = "pinterest"
    INGESTION = "ingestion"
    BATCH = "batch"
    STREAMING = "streaming"
    TIER_1 = "tier-1"  # the published answers are late or wrong while this is down: act today
    TIER_2 = "tier-2"  # data waits, but none is lost: act this week


TIERS = frozenset({Tag.TIER_1, Tag.TIER_2})
