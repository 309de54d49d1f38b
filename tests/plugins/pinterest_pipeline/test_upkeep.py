"""The tables are maintained once a week, or when someone asks."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pinterest_pipeline import upkeep


@pytest.mark.parametrize(
    ("run_type", "day", "asked", "due"),
    [
        ("scheduled", 4, False, True),  # a Sunday
        ("scheduled", 5, False, False),
        ("manual", 4, False, False),
        ("manual", 5, True, True),
    ],
)
def test_maintenance_is_weekly_or_asked_for(run_type: str, day: int, asked: bool, due: bool) -> None:
    run = SimpleNamespace(run_type=run_type, run_after=datetime(2026, 1, day, tzinfo=UTC))
    assert upkeep.is_due(run, asked=asked) is due
