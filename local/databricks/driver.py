"""A Spark driver: one process that runs notebooks for the server, ``python -m local.databricks.driver FD NAME``.

It talks to the server over the socket it has inherited as file descriptor FD, one JSON object a line. When the
server is gone, however it went, the socket ends and so does the driver, and the JVM with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pyspark import cloudpickle
from pyspark.sql import SparkSession

from local.databricks import execution, kinesis_source, session
from local.databricks.execution import NotebookRun, Outcome, Request, Shared
from local.databricks.kinesis_source import KinesisDataSource
from local.databricks.modules import Modules
from local.databricks.mounts import MountTable
from local.databricks.output import Redactor, Router
from local.databricks.secret_scopes import SecretScopes
from local.databricks.session import Settings
from local.databricks.utilities import apply_mounts
from local.databricks.workspace import Workspace


class Channel:
    """The socket to the server: messages in, events out, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._lock:
            self._connection.sendall(line)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says, until it is gone."""
        with self._connection.makefile("r", encoding="utf-8") as lines:
            try:
                for line in lines:
                    yield json.loads(line)
            except OSError:
                return


class Driver:
    """The session and the runs that are going."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._runs: dict[int, NotebookRun] = {}
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._modules = Modules(settings.workspace)
        redact = Redactor()
        stdout = Router(sys.stdout, redact)
        home = Path(settings.home)
        mounts = MountTable(home / "mounts.json")
        spark = session.start(settings, mounts.read())
        sys.stdout, sys.stderr = stdout, Router(sys.stderr, redact)
        self._shared = Shared(
            spark=spark,
            workspace=Workspace(settings.workspace),
            secrets=SecretScopes(home / "secrets.db"),
            mounts=mounts,
            redact=redact,
            stdout=stdout,
            prepare_session=partial(_prepare, settings.catalogs),
        )

    def run(self, request: Request) -> None:
        """Starts a run in threads of its own."""
        threading.Thread(
            target=self._carry, args=(request,), name=f"carry-{request.run_id}", daemon=True
        ).start()

    def watch(self) -> None:
        """Ends this process when the JVM has ended: it is of no use without, and a new one is."""
        status = self._shared.spark.sparkContext._gateway.proc.wait()
        self._give_up(
            f"Spark's JVM ended (status {status}) while this run was on it. See the workspace's log."
        )

    def _give_up(self, message: str) -> None:
        self._channel.send("broken", message=message)
        os._exit(1)

    def warm_up(self) -> None:
        """Makes the first notebooks quick; one that comes meanwhile runs beside it."""
        with contextlib.suppress(Exception):  # it is only for speed
            session.warm_up(self._shared.spark.newSession(), Path(self._settings.scratch))

    def cancel(self, run_id: int) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            self._cancelled.add(run_id)
        if run:
            threading.Thread(target=run.cancel, name=f"cancel-{run_id}", daemon=True).start()

    def _carry(self, request: Request) -> None:
        folder = self._settings.workspace / str(PurePosixPath(request.path).parent).lstrip("/")
        self._modules.enter(folder)
        try:
            with self._lock:
                apply_mounts(self._shared.spark, self._shared.mounts.read())
                session.attach_tables(self._shared.spark, Path(self._settings.warehouse))
                run = NotebookRun(self._shared, request)
                self._runs[request.run_id] = run
                cancelled = request.run_id in self._cancelled
            self._channel.send("started", run_id=request.run_id)
            outcome = Outcome("canceled") if cancelled else run.execute()
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome("failed", error=f"The driver could not run the notebook: {error}")
        finally:
            self._modules.leave(folder)
        with self._lock:
            self._runs.pop(request.run_id, None)
            if not self._runs:
                with contextlib.suppress(Exception):  # nothing to clear once Spark is gone
                    self._shared.spark.catalog.clearCache()
        self._channel.send("finished", run_id=request.run_id, outcome=execution.as_json(outcome))
        if self._shared.spark.sparkContext._jsc is None:
            self._give_up(f"The notebook {request.path} stopped Spark; the driver is started anew.")


def _prepare(catalogs: Sequence[str], spark: SparkSession) -> None:
    """What every session has besides Spark's own."""
    spark.dataSource.register(KinesisDataSource)
    session.attach_catalogs(spark, catalogs)


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    messages = channel.messages()
    settings = Settings(**next(messages)["settings"])
    Path(settings.scratch).mkdir(parents=True, exist_ok=True)
    # A notebook sees the folder it lies in and the installed packages, as on a cluster: not this program's.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(Path.cwd()))]
    os.chdir(settings.scratch)
    sys.dont_write_bytecode = (
        True  # byte code beside the sources would be told from newer ones by the second only
    )
    execution.sleep_in_slices()
    cloudpickle.register_pickle_by_value(kinesis_source)  # Spark's Python workers cannot import it
    try:
        driver = Driver(channel, settings)
    except Exception as error:
        traceback.print_exc()
        channel.send("broken", message=f"Spark did not start: {error}")
        sys.exit(1)
    channel.send("ready")
    threading.Thread(target=driver.watch, name="watch", daemon=True).start()
    if settings.warm:
        threading.Thread(target=driver.warm_up, name="warm-up", daemon=True).start()
    for message in messages:
        if message["do"] == "run":
            driver.run(Request(**message["request"]))
        elif message["do"] == "cancel":
            driver.cancel(message["run_id"])
    os._exit(0)  # the server is gone: nothing here is worth waiting for, and the JVM ends with its parent


if __name__ == "__main__":
    main()
