"""One whole stack for all tests in this folder: own folder, own ports, made anew, ended afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Error as PlaywrightError

from local.stack import settings
from local.stack.airflow_api import AirflowApi
from local.stack.supervisor import Supervisor
from tests.stack.forms import browser_page, log_in

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "test-stack"
LOGS = ROOT / "build" / "test-logs"


@dataclass(frozen=True)
class Commands:
    """The Makefile as a user calls it, on one PIPELINE_HOME."""

    home: Path
    port_offset: str = "auto"

    def make(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PIPELINE_HOME": str(self.home), "PORT_OFFSET": self.port_offset}
        done = subprocess.run(
            ["make", "-s", *arguments],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(
                f"make {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr}"
            )
        return done

    def environment(self) -> dict[str, str]:
        lines = self.make("env").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="session")
def stack():
    """The commands of a stack on which `make demo` has run once."""
    commands = Commands(HOME)
    commands.make("reset")
    shutil.rmtree(HOME, ignore_errors=True)
    yield commands
    commands.make("down")


@pytest.fixture(scope="session")
def demo(stack):
    """What `make demo POSTS=300` printed."""
    return stack.make("demo", "POSTS=300", "SEED=100").stdout


@pytest.fixture(scope="session")
def airflow(demo):
    """The stack's Airflow by its API."""
    return AirflowApi(settings.load(HOME))


@pytest.fixture(scope="session")
def page(airflow):
    """A browser's page on which a person has logged in to the stack's Airflow."""
    with browser_page() as page:
        log_in(page, airflow.stack.url("airflow"), "admin", airflow.stack.credentials["airflow_password"])
        yield page


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep a picture of the page on which a test failed."""
    report = yield
    if report.failed and "page" in item.funcargs:
        # The failure is what is told, also without a picture of it.
        with contextlib.suppress(PlaywrightError):
            item.funcargs["page"].screenshot(path=LOGS / f"{item.name}.png", full_page=True)
    return report


@pytest.fixture
def env(stack, demo):
    return stack.environment()


@pytest.fixture
def processes(env):
    """Returns a fact of every process of the stack that runs now; one that ends meanwhile is left out."""
    supervisor = Supervisor(settings.load(Path(env["PIPELINE_HOME"])))

    def facts_now[Fact](fact: Callable[[psutil.Process], Fact]) -> list[Fact]:
        found = []
        for process in supervisor.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(fact(process))
        return found

    return facts_now
