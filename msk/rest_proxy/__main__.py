"""Start the proxy: python -m msk.rest_proxy CONFIG.json."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from pathlib import Path

import uvicorn

from msk.rest_proxy import config
from msk.rest_proxy.app import RestProxy
from msk.rest_proxy.server import BOUNDS
from msk.rest_proxy.topics import KafkaTopics

log = logging.getLogger("msk.rest_proxy")

# Longer than API Gateway keeps an idle connection: it must be the one to close, or a request meets a closing one.
_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 10


class SaidAlready(logging.Filter):
    """Drops what aiokafka has said in the last ten seconds: without Kafka it repeats itself ten times a second."""

    _SECONDS = 10

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is to be logged."""
        if not record.name.startswith("aiokafka"):
            return True
        now, pattern = time.monotonic(), str(record.msg)
        if now - self._last.get(pattern, -self._SECONDS) < self._SECONDS:
            return False
        self._last[pattern] = now
        return True


def main() -> None:
    """Serve until told to stop; say in one line why that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m msk.rest_proxy", description="Confluent REST v2 produce for Kafka."
    )
    parser.add_argument(
        "config", type=Path, metavar="CONFIG.json", help="settings (mode 600): see msk/README.md"
    )
    path = parser.parse_args().config
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(SaidAlready())
    try:
        settings = config.load(path)
        listener = listen(settings.host, settings.port)
    except config.ConfigError as error:
        sys.exit(f"msk.rest_proxy: {error}")
    asyncio.run(_serve(settings, listener))


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 takes any free one. Raises ConfigError when the port is taken."""
    try:
        listener = socket.create_server((host, port), backlog=512)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise config.ConfigError(f"cannot listen on {host}:{port}: {reason}") from error
    # Connections inherit this. Without it each answer's body waits 40 ms for the client to acknowledge its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _serve(settings: config.Config, listener: socket.socket) -> None:
    topics = KafkaTopics(
        settings.kafka_client_settings(),
        timeout_seconds=settings.request_timeout_seconds,
        max_record_bytes=settings.max_record_bytes,
    )
    login = None
    if settings.basic_auth_username and settings.basic_auth_password:
        login = (settings.basic_auth_username, settings.basic_auth_password)
    app = RestProxy(
        topics,
        served=settings.topics,
        max_body_bytes=settings.max_body_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        login=login,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            **BOUNDS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d for %s", host, port, settings.bootstrap_servers)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    main()
