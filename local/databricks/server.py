"""The workspace as one process: its parts put together, served by uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn

from local.databricks.app import application
from local.databricks.clusters import Clusters
from local.databricks.config import Config, load
from local.databricks.jobs import Jobs, Runs
from local.databricks.secret_scopes import SecretScopes
from local.databricks.store import Store
from local.databricks.workspace import Workspace
from local.part import listen
from msk.rest_proxy.server import BOUNDS

log = logging.getLogger("local.databricks")


def run(config_path: str) -> None:
    """Serves until SIGTERM or SIGINT. Raises StartError when it cannot start."""
    config = load(config_path)
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    asyncio.run(_serve(config, listen(config.host, config.port)))


async def _serve(config: Config, listener: socket.socket) -> None:
    home = config.home_folder
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = f"http://{config.host}:{listener.getsockname()[1]}"
    store = Store(home / "state.db")
    workspace = Workspace(home / "workspace")
    clusters = Clusters(config)
    jobs = Jobs(store, config.cluster_id)
    runs = Runs(store, jobs, clusters, workspace, home=home, url=url, cluster_id=config.cluster_id)
    secrets = SecretScopes(home / "secrets.db")
    app = application(
        token=config.token,
        jobs=jobs,
        runs=runs,
        workspace=workspace,
        secrets=secrets,
        clusters=clusters,
        access=config.access,
    )
    server = _Server(
        uvicorn.Config(
            app, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=2, **BOUNDS
        )
    )
    clusters.begin()
    log.info("serving the workspace on %s", url)
    try:
        await server.serve(sockets=[listener])
    finally:
        await runs.close()
        await clusters.end()
        store.close()


class _Server(uvicorn.Server):
    """Leaves a signal at that once it has served: the drivers are to be ended yet, and the exit status is 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()
