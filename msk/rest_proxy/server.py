"""The HTTP server under the proxy: uvicorn, with bounds on what a client holds before it has sent a request.

Not here: what a request may be (`app`), and how much a body may hold.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# uvicorn counts idle connections among the running requests, and ends none that has not been answered once.
MAX_CONNECTIONS = 512
HEAD_SECONDS = 10
BODY_SECONDS = 30


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose clients must send: a head within HEAD_SECONDS, then its body within BODY_SECONDS.

    Of more than MAX_CONNECTIONS, the one that has kept the server waiting longest is closed. So connections that
    send nothing, or send slowly, never keep out one that sends a request. h11 itself bounds a head to 16 KiB.
    """

    _timer: asyncio.TimerHandle | None = None
    _awaited: type[Any] | None = h11.DONE
    _waiting_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection, and wait for its first head."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()
        self._wait_for(h11.IDLE)

    def data_received(self, data: bytes) -> None:
        """Read on; what is still incomplete after it has its time limit."""
        super().data_received(data)
        self._wait_for(self.conn.their_state)

    def on_response_complete(self) -> None:
        """Wait for the next head: until more of it comes, uvicorn's own keep-alive timeout counts."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._wait_for(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._wait_for(h11.DONE)
        super().connection_lost(exc)

    def _wait_for(self, awaited: type[Any] | None) -> None:
        """Start the clock of what is awaited, unless it runs already.

        IDLE stands for a head, SEND_BODY for a body, None for the next request, and all else for nothing.
        """
        if awaited is self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
        limits: dict[Any, float] = {h11.IDLE: HEAD_SECONDS, h11.SEND_BODY: BODY_SECONDS}
        seconds = limits.get(awaited)
        self._awaited = awaited
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_late)
        self._waiting_since = self.loop.time() if seconds is not None or awaited is None else None

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [("connection", "close"), ("content-length", "0")]
            answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
            self.transport.write(
                (self.conn.send(answer) or b"") + (self.conn.send(h11.EndOfMessage()) or b"")
            )
        self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has kept the server waiting longest; this one, when all others are at work."""
        waiting = [
            each for each in self.connections if isinstance(each, BoundedProtocol) and each._waiting_since
        ]
        longest = min(waiting, key=lambda each: each._waiting_since or 0.0, default=self)
        longest._wait_for(h11.DONE)
        longest.transport.abort()

    def _should_upgrade(self) -> bool:
        """Answer a request to upgrade, to WebSocket or anything else, as if it had not asked."""
        return False


BOUNDS: dict[str, Any] = {"http": BoundedProtocol, "ws": "none"}
"""Options of `uvicorn.Config`: every server of this project on uvicorn takes them."""
