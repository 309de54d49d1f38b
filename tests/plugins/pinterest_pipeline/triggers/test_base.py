from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest

from pinterest_pipeline.triggers import base
from pinterest_pipeline.triggers.base import Look, PollingTrigger


class Script(PollingTrigger):
    """Sees one thing after the other, or raises it."""

    def __init__(self, *, looks: list[Look | Exception], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.looks = looks
        self.rest = iter(looks)
        self.opened = self.closed = 0

    def arguments(self) -> dict[str, Any]:
        return {"looks": self.looks}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        self.opened += 1

        async def look() -> Look:
            seen = next(self.rest)
            if isinstance(seen, Exception):
                raise seen
            return seen

        try:
            yield look
        finally:
            self.closed += 1


async def events(trigger: PollingTrigger) -> list[dict[str, Any]]:
    return [event.payload async for event in trigger.run()]


def script(*looks: Look | Exception, seconds: float = 60, poll_interval: float = 0) -> Script:
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


async def test_looks_that_fail_do_not_end_the_wait() -> None:
    gone = ConnectionResetError("gone")
    trigger = script(gone, Look("not yet"), gone, gone, Look("there", done=True, value=1))
    assert await events(trigger) == [{"status": "success", "message": "there", "value": 1}]
    assert (trigger.opened, trigger.closed) == (4, 4), "each on a new connection, the old one closed"


async def test_a_service_that_cannot_be_connected_to_is_looked_at_again() -> None:
    trigger = script(Look("there", done=True))
    connect, refusals = trigger.connect, [ConnectionRefusedError("refused")]

    @asynccontextmanager
    async def refused_once() -> AsyncIterator[Any]:
        if refusals:
            raise refusals.pop()
        async with connect() as look:
            yield look

    with mock.patch.object(trigger, "connect", refused_once):
        assert [event["status"] for event in await events(trigger)] == ["success"]


@pytest.mark.parametrize(("seconds", "given_up"), [(599, False), (601, True)])
async def test_ten_minutes_of_failed_looks_end_the_wait_with_the_last_error(
    seconds: int, given_up: bool
) -> None:
    trigger = script(Look("not yet"), OSError("first"), OSError("last"), Look("there", done=True))
    # begun, a good look, two failed ones, a good one, the end
    clock = iter([0, 1000, 1001, 1000 + seconds, 2000, 2000])
    with mock.patch("pinterest_pipeline.triggers.base.time", autospec=True) as faked:
        faked.monotonic.side_effect = clock
        faked.time.return_value = 0
        if given_up:
            with pytest.raises(OSError, match="last"):
                await events(trigger)
        else:
            assert [event["status"] for event in await events(trigger)] == ["success"]


async def test_time_is_up_by_a_look_that_succeeds() -> None:
    trigger = script(OSError("gone"), Look("two missing"), seconds=-1)
    assert await events(trigger) == [{"status": "timeout", "message": "two missing", "value": None}]


def test_serialize() -> None:
    trigger = Script(looks=[], poll_interval=2, end_time=7.5)
    path, arguments = trigger.serialize()
    assert path.endswith(".Script")
    assert arguments == {"looks": [], "poll_interval": 2, "end_time": 7.5}


async def test_a_task_stays_deferred_until_its_first_process_is_known_to_be_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "SHORTEST_SECONDS", 6.0)
    trigger = script(Look("there", done=True))
    with (
        mock.patch("pinterest_pipeline.triggers.base.time", autospec=True) as faked,
        mock.patch("pinterest_pipeline.triggers.base.asyncio", autospec=True) as loop,
    ):
        faked.monotonic.side_effect = [100.0, 101.5, 101.5]
        loop.sleep.side_effect = lambda seconds: slept.append((seconds, trigger.closed)) or anything()
        slept: list[tuple[float, int]] = []
        assert (await anext(trigger.run())).payload["status"] == "success"
    assert slept == [(4.5, 1)], "with nothing kept open"


async def anything() -> None:
    """Await nothing."""
