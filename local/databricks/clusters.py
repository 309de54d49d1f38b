"""Driver processes as the server sees them: the warm one of the existing cluster, and one a run for the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

from local.databricks.compute import has_unity_catalog
from local.databricks.config import Config

log = logging.getLogger(__name__)

_REPOSITORY = Path(__file__).parents[2]
_LINE_LIMIT = 64 * 1024 * 1024
_CANCEL_SECONDS = 20
_TERMINATE_SECONDS = 5


class DriverError(Exception):
    """The driver did not start or died; the text is fit for a run's state message."""


@dataclass(frozen=True)
class Request:
    """One notebook to run, as the driver reads it."""

    run_id: int
    path: str
    parameters: dict[str, str]
    log: str
    task_values: dict[str, dict[str, Any]]
    context: dict[str, str]


class Driver:
    """One driver process and the runs it carries."""

    def __init__(self, name: str, config: Config, *, unity_catalog: bool = True) -> None:
        self._name = name
        self._config = config
        self._unity_catalog = unity_catalog
        self._scratch = config.home_folder / "scratch" / name
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finished: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._started: dict[int, Callable[[], None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._given_up: set[int] = set()

    @property
    def alive(self) -> bool:
        return self._reading is not None and not self._reading.done()

    @property
    def stuck(self) -> bool:
        """A run was given up that would not end: the process is to be replaced once it carries no other."""
        return bool(self._given_up) and not self._finished

    async def start(self) -> None:
        """Starts the process and waits for its session. Raises DriverError."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "local.databricks.driver", str(theirs.fileno()), self._name),
                cwd=_REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))
        settings = {
            "home": str(self._config.home_folder),
            "warehouse": str(self._config.warehouse_folder),
            "jars": self._config.jar_files(),
            "s3_endpoint_url": self._config.s3_endpoint_url,
            "region": self._config.region,
            "driver_memory": self._config.driver_memory,
            "scratch": str(self._scratch),
            "warm": self._name.startswith("warm"),
            "legacy_features": self._config.legacy_features,
            "catalogs": sorted(self._config.access.catalogs) if self._unity_catalog else [],
        }
        self._send({"settings": settings})
        await asyncio.shield(self._ready)

    async def run(self, request: Request, on_start: Callable[[], None]) -> dict[str, Any]:
        """Runs a notebook and returns its outcome. Cancelling this call cancels the notebook. Raises DriverError."""
        finished: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._finished[request.run_id] = finished
        self._started[request.run_id] = on_start
        try:
            self._send({"do": "run", "request": asdict(request)})
            return await asyncio.shield(finished)
        except asyncio.CancelledError:
            self._send({"do": "cancel", "run_id": request.run_id})
            done, _ = await asyncio.wait([finished], timeout=_CANCEL_SECONDS)
            if not done:
                log.warning("run %s did not end within %s s of its cancel", request.run_id, _CANCEL_SECONDS)
                self._given_up.add(request.run_id)
            raise
        finally:
            self._finished.pop(request.run_id, None)
            self._started.pop(request.run_id, None)

    async def wait(self) -> None:
        """Returns when the process has ended."""
        if self._reading:
            await asyncio.wait([self._reading])

    async def stop(self) -> None:
        """Ends the process: asks, waits 5 seconds, then does not ask."""
        if self._process is None:
            return
        for signal_ in (signal.SIGTERM, signal.SIGKILL):
            self._signal(signal_)
            try:
                await asyncio.wait_for(self._process.wait(), _TERMINATE_SECONDS)
                break
            except TimeoutError:
                continue
        await self.wait()

    def _signal(self, signal_: signal.Signals) -> None:
        """Sends the process a signal, if it has not ended."""
        assert self._process is not None
        if self._process.returncode is None:
            # Process.send_signal polls first: that takes the status of a process which has just ended away from
            # the event loop, which then makes one up (255). https://github.com/python/cpython/issues/127049
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal_)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is None or not self.alive:
            raise DriverError(f"The Spark driver {self._name} is not running.")
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        broken = ""
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                event = json.loads(line)
                match event["event"]:
                    case "ready":
                        self._ready.set_result(None)
                    case "broken":
                        broken = event["message"]
                    case "started":
                        self._started.get(event["run_id"], lambda: None)()
                    case "finished":
                        future = self._finished.get(event["run_id"])
                        if future and not future.done():
                            future.set_result(event["outcome"])
        await self._ended(broken)

    async def _ended(self, broken: str) -> None:
        """The socket is closed: the process is dead or dying, and so is whatever it carried."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        status = await self._process.wait()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        error = DriverError(
            broken or f"The Spark driver died ({how}) while this run was on it. See the workspace's log."
        )
        futures: list[asyncio.Future[Any]] = [self._ready, *self._finished.values()]
        for future in futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # taken note of, in case nobody waits
        if self._writer:
            self._writer.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


class ClusterState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"


class Clusters:
    """All compute: ``driver_for`` gives a run the driver its task asks for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._numbers = count(1)
        self._drivers: set[Driver] = set()
        self._warm: asyncio.Future[Driver] = asyncio.get_running_loop().create_future()
        self._error = ""
        self._keeper: asyncio.Task[None] | None = None
        shutil.rmtree(config.home_folder / "scratch", ignore_errors=True)

    def begin(self) -> None:
        """Starts the warm driver, and keeps one from now on."""
        self._keeper = asyncio.create_task(self._keep_warm())

    async def end(self) -> None:
        """Ends every driver."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await asyncio.gather(*(driver.stop() for driver in self._drivers))

    @contextlib.asynccontextmanager
    async def driver_for(
        self, cluster_id: str | None, new_cluster: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Driver]:
        """The warm driver for its cluster's id, else a new one that ends afterwards. Raises DriverError.

        ``new_cluster`` describes the job cluster that it is; None is serverless compute.
        """
        if cluster_id is not None:
            warm = await asyncio.shield(self._warm)
            try:
                yield warm
            finally:
                if warm.stuck:
                    await warm.stop()
            return
        name = f"own-{os.getpid()}-{next(self._numbers)}"
        driver = Driver(name, self._config, unity_catalog=has_unity_catalog(new_cluster))
        self._drivers.add(driver)
        try:
            await driver.start()
            yield driver
        finally:
            self._drivers.discard(driver)
            await driver.stop()

    def describe(self) -> dict[str, Any]:
        """The warm cluster as the Clusters API describes it."""
        ready = self._warm.done() and not self._warm.exception() and self._warm.result().alive
        state = ClusterState.RUNNING if ready else ClusterState.ERROR if self._error else ClusterState.PENDING
        return {
            "cluster_id": self._config.cluster_id,
            "cluster_name": "Warm Spark driver of this machine",
            "spark_version": "18.x-scala2.13",
            "data_security_mode": "SINGLE_USER",
            "node_type_id": "local",
            "num_workers": 0,
            "cluster_source": "API",
            "creator_user_name": "local",
            "state": state.value,
            "state_message": self._error,
        }

    async def _keep_warm(self) -> None:
        """Starts a new driver when the warm one has died, less eagerly while it cannot start."""
        pause = 1.0
        while True:
            driver = Driver(f"warm-{os.getpid()}-{next(self._numbers)}", self._config)
            self._drivers.add(driver)
            try:
                await driver.start()
            except DriverError as error:
                log.error("the warm driver does not start: %s", error)
                self._error = str(error)
                self._warm.set_exception(error)
                self._warm.exception()  # taken note of, in case no run waits
                await asyncio.sleep(pause)
                pause = min(60.0, pause * 2)
            else:
                log.info("the warm driver is ready")
                self._error, pause = "", 1.0
                self._warm.set_result(driver)
                await driver.wait()
                log.warning("the warm driver has ended; starting a new one")
            finally:
                self._warm = asyncio.get_running_loop().create_future()
                self._drivers.discard(driver)
                await driver.stop()
