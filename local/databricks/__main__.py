"""``python -m local.databricks CONFIG``: the workspace, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from local.databricks.app import application
from local.databricks.clusters import Clusters
from local.databricks.config import Config, ConfigError
from local.databricks.jobs import Jobs, Runs
from local.databricks.secret_scopes import SecretScopes
from local.databricks.store import Store
from local.databricks.workspace import Workspace


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m local.databricks CONFIG", file=sys.stderr)
        return 2
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = Config.load(Path(sys.argv[1]))
        listener = _listen(config)
    except ConfigError as error:
        print(f"databricks: {error}", file=sys.stderr)
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, listener))
    return 0


def _listen(config: Config) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from None
    return listener


async def _serve(config: Config, listener: socket.socket) -> None:
    config.home.mkdir(parents=True, exist_ok=True)
    config.home.chmod(0o700)
    url = f"http://{config.host}:{listener.getsockname()[1]}"
    store = Store(config.home / "state.db")
    workspace = Workspace(config.home / "workspace")
    clusters = Clusters(config)
    jobs = Jobs(store, config.cluster_id)
    runs = Runs(store, jobs, clusters, workspace, home=config.home, url=url, cluster_id=config.cluster_id)
    secrets = SecretScopes(config.home / "secrets.db")
    app = application(
        token=config.token, jobs=jobs, runs=runs, workspace=workspace, secrets=secrets, clusters=clusters
    )
    server = _Server(
        uvicorn.Config(app, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
    )
    clusters.begin()
    print(f"databricks: listening on {url}", flush=True)
    try:
        await server.serve(sockets=[listener])
    finally:
        await runs.close()
        await clusters.end()
        store.close()


class _Server(uvicorn.Server):
    """Does not raise the signal anew once it has served: we stop our drivers, and exit with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


if __name__ == "__main__":
    sys.exit(main())
