from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pinterest_pipeline.triggers.base import Look, PollingTrigger


class Script(PollingTrigger):
    """Sees one thing after the other."""

    def __init__(self, *, looks: list[Look], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.looks = looks
        self.opened = self.closed = 0

    def arguments(self) -> dict[str, Any]:
        return {"looks": self.looks}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        self.opened += 1
        looks = iter(self.looks)

        async def look() -> Look:
            return next(looks)

        yield look
        self.closed += 1


async def events(trigger: PollingTrigger) -> list[dict[str, Any]]:
    return [event.payload async for event in trigger.run()]


def script(*looks: Look, seconds: float = 60, poll_interval: float = 0) -> Script:
    return Script(looks=list(looks), poll_interval=poll_interval, end_time=time.time() + seconds)


@pytest.mark.parametrize(
    ("last", "status"),
    [(Look("there", done=True, value=1), "success"), (Look("dead", hopeless=True, value=1), "error")],
)
async def test_it_looks_until_there_is_something_to_tell(last: Look, status: str) -> None:
    trigger = script(Look("not yet"), Look("not yet"), last)
    assert await events(trigger) == [{"status": status, "message": last.message, "value": 1}]
    assert trigger.opened == 1


async def test_connections_are_closed_before_the_event_is_told() -> None:
    trigger = script(Look("there", done=True))
    await anext(trigger.run())  # as Airflow does, which never comes back for more
    assert (trigger.opened, trigger.closed) == (1, 1)


async def test_in_time_it_gives_up_and_says_what_is_missing() -> None:
    trigger = script(Look("two missing", value={"missing": 2}), seconds=5, poll_interval=10)
    assert await events(trigger) == [{"status": "timeout", "message": "two missing", "value": {"missing": 2}}]


async def test_what_happened_at_the_last_moment_counts() -> None:
    assert (await events(script(Look("there", done=True), seconds=-1)))[0]["status"] == "success"


def test_serialize() -> None:
    trigger = Script(looks=[], poll_interval=2, end_time=7.5)
    path, arguments = trigger.serialize()
    assert path.endswith(".Script")
    assert arguments == {"looks": [], "poll_interval": 2, "end_time": 7.5}
