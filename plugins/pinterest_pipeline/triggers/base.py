"""What all triggers of this package share: look, log, sleep, until it is done, hopeless or too late."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

PATIENCE_SECONDS = 600
"""How long looks may fail, one after the other, before the wait does: services are away for minutes at times."""

SHORTEST_SECONDS = 6.0
"""How long a task stays deferred at least. Airflow tells its scheduler up to five seconds later that the process which
has deferred the task is over; a task that is at work again by then counts as failed."""


@dataclass(frozen=True)
class Look:
    """
    What one look at a remote system has shown.

    :param message: the state of things, for the log and for the person who reads a failure.
    :param done: what was waited for has happened.
    :param hopeless: it can no longer happen.
    :param value: what the event carries along; JSON.
    """

    message: str
    done: bool = False
    hopeless: bool = False
    value: Any = field(default=None)


class PollingTrigger(BaseTrigger):
    """
    Looks at a remote system every few seconds.

    A look that raises is logged and followed by another one, on a new connection; ten minutes without a look that
    succeeds end the wait with the last error, which Airflow tries again. Time is up only by a look that succeeds.

    The event is ``{"status": "success" | "error" | "timeout", "message": …, "value": …}``.

    :param poll_interval: seconds between two looks.
    :param end_time: moment (seconds since the epoch) to give up at. It is part of the trigger, and not the
        timeout of the deferral, because Airflow's timeout would end the wait without a word on what is missing.
    """

    def __init__(self, *, poll_interval: float, end_time: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poll_interval = poll_interval
        self.end_time = end_time
        self._succeeded = 0.0

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the subclass' own constructor arguments."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[Look]]]:
        """Open what a look needs, and return the function that looks once."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and constructor arguments."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {
            **self.arguments(),
            "poll_interval": self.poll_interval,
            "end_time": self.end_time,
        }

    async def look(self) -> Look:
        """Look once."""
        async with self.connect() as look:
            return await look()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to tell, then yield the one event."""
        # The event is yielded when all connections are closed: nobody promises to come back after it.
        began = self._succeeded = time.monotonic()
        while True:
            event = await self._connected()
            if event:
                break
            await asyncio.sleep(self.poll_interval)
        await asyncio.sleep(SHORTEST_SECONDS - (time.monotonic() - began))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _connected(self) -> dict[str, Any] | None:
        """Return the event, or None when a look has failed."""
        try:
            async with self.connect() as look:
                return await self._wait(look)
        except Exception as error:
            failing = time.monotonic() - self._succeeded
            if failing > PATIENCE_SECONDS:
                raise
            self.log.warning("The look failed, as for %d s now; looking again: %s", failing, error)
            return None

    async def _wait(self, look: Callable[[], Awaitable[Look]]) -> dict[str, Any]:
        while True:
            seen = await look()
            self._succeeded = time.monotonic()
            status = self._status(seen)
            if status:
                return {"status": status, "message": seen.message, "value": seen.value}
            self.log.info("%s", seen.message)
            await asyncio.sleep(self.poll_interval)

    def _status(self, seen: Look) -> str | None:
        if seen.done:
            return "success"
        if seen.hopeless:
            return "error"
        return "timeout" if self.time_is_up() else None

    def time_is_up(self) -> bool:
        """Return whether there is no time for another look."""
        return time.time() + self.poll_interval > self.end_time
