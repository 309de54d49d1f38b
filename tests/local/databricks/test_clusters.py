"""Driver processes as the server sees them, with programs that need no Spark in the drivers' place."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.databricks import clusters
from local.databricks.clusters import Driver, DriverError, Request
from local.databricks.config import Config

READY = """
import os, signal, socket, sys
connection = socket.socket(fileno=int(sys.argv[3]))
lines = connection.makefile()
lines.readline()
connection.sendall(b'{"event": "ready"}\\n')
lines.readline()
"""
"""It gets its settings, says that it is ready, and gets a run."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        host="127.0.0.1",
        port=0,
        token="token",
        home=str(tmp_path / "home"),
        warehouse=str(tmp_path / "warehouse"),
        jars=[],
        s3_endpoint_url="",
        region="us-east-1",
        cluster_id="warm",
        driver_memory="1g",
    )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a program stand for the drivers that are started."""

    def replace(source: str) -> None:
        file = tmp_path / "driver"
        file.write_text(f"#!{sys.executable}\n{source}")
        file.chmod(0o700)
        monkeypatch.setattr(clusters.sys, "executable", str(file))

    return replace


async def running(config: Config) -> tuple[Driver, asyncio.Task[object]]:
    """A started driver, and a run that it was sent."""
    driver = Driver("d", config)
    await driver.start()
    run = asyncio.create_task(driver.run(Request(1, "/x", {}, "", {}, {}), lambda: None))
    await asyncio.sleep(0)  # the run is sent
    return driver, run


def die(pid: int, signal_: signal.Signals) -> None:
    """End a process and wait until it is dead, without taking its status: that is for its parent's loop to take."""
    os.kill(pid, signal_)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
async def test_a_driver_that_ends_while_its_end_is_noticed_is_told_by_its_own_status(
    program: Callable[[str], None],
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    signal_: signal.Signals,
) -> None:
    """The socket closes a moment before the process is dead: it may die between the two looks at it."""
    program(READY + "lines.close(); connection.close()\nwhile True: signal.pause()")
    ended = Driver._ended

    async def dies_now(driver: Driver, broken: str) -> None:
        assert driver._process is not None
        die(driver._process.pid, signal_)
        await ended(driver, broken)

    monkeypatch.setattr(Driver, "_ended", dies_now)
    driver, run = await running(config)
    message = f"The Spark driver died (killed by {signal_.name}) while this run was on it."
    with pytest.raises(DriverError) as error:
        await run
    assert str(error.value) == f"{message} See the workspace's log."
    await driver.stop()


async def test_a_driver_that_has_died_when_it_is_stopped_is_told_by_its_own_status(
    program: Callable[[str], None], config: Config
) -> None:
    program(READY + "while True: signal.pause()")
    driver, run = await running(config)
    assert driver._process is not None
    die(driver._process.pid, signal.SIGSEGV)
    await driver.stop()
    with pytest.raises(DriverError, match=r"^The Spark driver died \(killed by SIGSEGV\) while this run"):
        await run


async def test_a_driver_that_ignores_being_asked_is_killed(
    program: Callable[[str], None], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_TERMINATE_SECONDS", 0.1)
    program(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + READY
        + "while True: signal.pause()"
    )
    driver, run = await running(config)
    await driver.stop()
    with pytest.raises(DriverError, match=r"^The Spark driver died \(killed by SIGKILL\)"):
        await run


async def test_a_driver_that_exits_is_told_with_its_exit_status(
    program: Callable[[str], None], config: Config
) -> None:
    program(READY + "os._exit(3)")
    driver, run = await running(config)
    with pytest.raises(DriverError, match=r"^The Spark driver died \(exit status 3\) while this run"):
        await run
    await driver.stop()
