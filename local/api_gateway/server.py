"""The gateway as a process."""

import asyncio
import logging

import uvicorn

from local.api_gateway.app import Settings, create_app
from local.part import listen, read_config
from msk.rest_proxy.server import BOUNDS

LOG = logging.getLogger("local.api_gateway")


def run(config_path: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError when it cannot start."""
    settings = read_config(config_path, Settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app(settings)
    sock = listen(settings.host, settings.port)
    LOG.info("serving stage %s on http://%s:%d", settings.stage, *sock.getsockname())
    config = uvicorn.Config(
        app,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        **BOUNDS,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))
